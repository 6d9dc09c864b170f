"""What pretraining and finetuning share: resume, the steps, evaluations, checkpoints, the end."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from patchit_hf.common.layout import CHECKPOINTS
from patchit_hf.common.provenance import hardware
from patchit_hf.data.bad import BadImages
from patchit_hf.training.accelerator import create_accelerator, start_tracker
from patchit_hf.training.arguments import LoopArguments, in_steps
from patchit_hf.training.checkpoint import load_checkpoint, save_checkpoint
from patchit_hf.training.loop import Means, Part, due
from patchit_hf.training.loop import train as run_steps
from patchit_hf.training.monitor import Monitor, Reporter
from patchit_hf.training.optim import create_optimizer, schedule
from patchit_hf.training.outcome import RunOutcome
from patchit_hf.training.process import process_settings
from patchit_hf.training.run_folder import RunFolder
from patchit_hf.training.share import Share, count_steps, steps_per_epoch

logger = logging.getLogger(__name__)


class Trainer(ABC):
    """A run: it starts or resumes, trains, evaluates, writes checkpoints, and exports its result.

    A subclass sets ``model``, ``share`` and ``reporter``, calls ``_plan`` and ``_prepare``, and
    says what its inputs, its loss and its evaluation are.

    While it trains, convolutions are deterministic, all cores are used on the CPU, and the global
    random states are seeded at every step; ``train`` and ``evaluate`` leave the process as they
    found it.

    Args:
        args: how to train.
        run: the run's folder.
        data_info: what the records say about the data.
    """

    args: LoopArguments
    model: nn.Module
    share: Share
    reporter: Reporter

    def __init__(self, args: LoopArguments, run: RunFolder, data_info: dict[str, Any]) -> None:
        self.args, self.run, self.data_info = args, run, data_info
        self.accelerator = create_accelerator(args, run.path)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.notes: dict[str, Any] = {"seconds": 0.0}
        self.monitor: Monitor | None = None

    def _plan(self, size: int) -> None:
        """Settle the number of steps and their learning rates.

        Args:
            size: number of training crops, 0 for a stream.

        Raises:
            InputError: for a stream without ``--max-steps``.
        """
        self.max_steps = count_steps(self.args, size, self.share)
        self.lr_at = schedule(self.args, self.max_steps, steps_per_epoch(size, self.share))

    def _prepare(self, parameters: Any) -> None:
        """Create the optimiser, and have Accelerate prepare it with the model.

        Args:
            parameters: what the optimiser trains: the model, or groups of parameters.
        """
        args = self.args
        optimizer = create_optimizer(
            parameters, args.optim, args.peak_learning_rate, args.weight_decay, **args.optim_args
        )
        self.prepared, self.optimizer = self.accelerator.prepare(self.model, optimizer)

    @property
    def is_main(self) -> bool:
        """Whether this process writes and speaks."""
        return bool(self.rank == 0)

    def train(self) -> dict[str, Any]:
        """Train to the end, from the newest checkpoint if there is one, and export.

        Returns:
            The results, as in ``patchit.json``.

        Raises:
            FloatingPointError: if the loss stops being finite; checkpoints stay.
        """
        with process_settings(self.accelerator):
            self._train()
        return self.results()

    def evaluate(self) -> dict[str, Any]:
        """Return loss and metrics on the held-out crops, empty without any.

        Returns:
            Scalars, and lists of them, with ``eval_`` before each name.
        """
        with process_settings(self.accelerator):
            return self._evaluated()

    def results(self) -> dict[str, Any]:
        """Return what was measured of the weights that are kept.

        Returns:
            ``step``, the step that these weights are of, and every scalar of its evaluation, with
            ``train_``, ``eval_`` or ``probe_`` before its name.
        """
        kept = self._kept()
        measured = {
            name: value
            for name, value in kept.items()
            if name.startswith(("train_", "eval_", "probe_")) and isinstance(value, int | float)
        }
        return {"step": kept.get("step", 0), **measured}

    @abstractmethod
    def save_pretrained(self, folder: str | Path | None = None) -> Path:
        """Export the trained model; the run's own folder by default."""

    def outcome(self) -> RunOutcome:
        """Return what the run leaves for its record, its figures and its model card."""
        monitor = self.monitor
        return RunOutcome(
            folder=self.run.path,
            config=self.run.config,
            data={**self.data_info, **self._data(), "on_bad_image": self.args.on_bad_image},
            bad=self._bad_images(),
            steps=monitor.done if monitor else 0,
            samples=self.share.batch,
            seconds=float(self.notes["seconds"]),
            stopped=monitor.stopped if monitor else None,
            hardware=hardware(self.accelerator),
            processes=self.world,
            mixed_precision=str(self.accelerator.mixed_precision),
            results=self.results(),
            history=monitor.history.entries if monitor else [],
            notes=self.notes,
        )

    # What a subclass says of itself.

    @abstractmethod
    def _data(self) -> dict[str, Any]:
        """Return what the record says about the data that was opened, its ``fingerprint`` too."""

    @abstractmethod
    def _bad_images(self) -> tuple[BadImages, ...]:
        """Return the bad images of each part of the data."""

    @abstractmethod
    def _parts(self, start: int) -> Iterator[Part]:
        """Yield this process's inputs and targets from a step on, for ever."""

    @abstractmethod
    def _loss(self, output: Any, targets: Tensor) -> dict[str, Tensor]:
        """Return ``loss`` and metrics of a batch, each a scalar."""

    @abstractmethod
    def _evaluated(self) -> dict[str, Any]:
        """Return an evaluation, with ``eval_`` before each name; empty without held-out crops."""

    def _kept(self) -> dict[str, Any]:
        """Return the evaluation of the weights that are kept."""
        return self.monitor.history.last if self.monitor else {}

    def _checkpoint(self) -> Path | None:
        """Return the checkpoint to resume from."""
        return self.run.newest_checkpoint()

    def _resumed(self, checkpoint: Path) -> None:
        """See the checkpoint that has just been read, on the main process."""

    def _begin(self, start: int) -> None:
        """Get ready before the first step; the run's folder is there."""

    def _before_step(self, step: int) -> None:
        """See a step's gradients."""

    def _also_evaluates(self, done: int) -> bool:
        """Whether another evaluation than that of ``--eval-every`` is due after a step."""
        return False

    def _also_evaluated(self) -> dict[str, Any]:
        """Return the values of such an evaluation."""
        return {}

    def _after_evaluation(self) -> None:
        """See an evaluation that has just been recorded."""

    def _after_save(self, done: int) -> None:
        """See a checkpoint that has just been written, on the main process."""

    def _end(self) -> None:
        """Finish the run before it is exported."""

    def _abort(self) -> None:
        """Tidy up after an error or an interrupt."""

    # What all runs do.

    def _train(self) -> None:
        start = self._resume()
        if self.is_main:
            self.run.start()
        self.accelerator.wait_for_everyone()
        args = self.args
        self.monitor = monitor = Monitor(
            self.accelerator,
            args,
            self.run.path,
            self.reporter,
            max_steps=self.max_steps,
            batch=self.share.batch,
            start=start,
            seconds=float(self.notes["seconds"]),
            lr_at=self.lr_at,
        )
        start_tracker(self.accelerator, args.report_to, self.run.config)
        try:
            self._begin(start)
            monitor.begin_step()
            run_steps(
                self.accelerator,
                self.prepared,
                self.optimizer,
                monitor.timed(self._parts(start)),
                self._loss,
                steps=range(start, start if monitor.stopped else self.max_steps),
                accumulation=self.share.accumulation,
                lr=self.lr_at,
                max_grad_norm=args.max_grad_norm,
                seed=args.seed,
                replay=args.cuda_graphs,
                before_step=self._before_step,
                after_step=self._after_step,
            )
            if not monitor.recorded:
                self._evaluate_and_record()
        except BaseException:
            self._abort()
            raise
        finally:
            monitor.close()
            self.notes["seconds"] = monitor.seconds
        if monitor.stopped and self.is_main:
            logger.info("stopped after step %d: %s", monitor.done, monitor.stopped)
        self._end()
        self.accelerator.wait_for_everyone()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.save_pretrained()

    def _after_step(self, step: int, means: Means) -> bool:
        """Do what is due after a step; true ends the training."""
        monitor, args, done = self._running(), self.args, step + 1
        last = done == self.max_steps
        evaluates = last or self._due(done, args.eval_steps)
        saves = args.save_steps > 0 and (last or self._due(done, args.save_steps))
        shows = evaluates or saves or due(done, args.logging_steps)
        monitor.end_step(done, means, show=shows)
        if evaluates or self._also_evaluates(done):
            self._evaluate_and_record()
        if saves or (monitor.stopped and args.save_steps > 0):
            self._save(done)
        monitor.begin_step()
        return monitor.stopped is not None

    def _due(self, done: int, every: float) -> bool:
        """Whether what is done every so many steps, or shares of the run, is due now."""
        return due(done, in_steps(every, self.max_steps))

    def _running(self) -> Monitor:
        if self.monitor is None:
            raise RuntimeError("there is no run; call train()")
        return self.monitor

    def _evaluate_and_record(self) -> None:
        monitor, values = self._running(), self._evaluated()
        if self._also_evaluates(monitor.done):
            values |= self._also_evaluated()
        monitor.record(values)
        self._after_evaluation()

    def _config_with_data(self) -> dict[str, Any]:
        config = {**self.run.config, "data_fingerprint": self._data()["fingerprint"]}
        return dict(json.loads(json.dumps(config)))

    def _save(self, done: int) -> None:
        monitor = self._running()
        monitor.flush()
        if self.is_main:
            save_checkpoint(
                self.run.path / CHECKPOINTS,
                done,
                self._config_with_data(),
                self.model,
                self.optimizer,
                self.accelerator.scaler,
                {**self.notes, "seconds": monitor.seconds},
                self.args.save_total_limit,
            )
            self._after_save(done)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> int:
        """Read the newest checkpoint and return how many steps are done."""
        folder = self._checkpoint()
        if folder is None:
            return 0
        step, self.notes = load_checkpoint(
            folder, self._config_with_data(), self.model, self.optimizer, self.accelerator.scaler
        )
        if self.is_main:
            self._resumed(folder)
            logger.info("continuing after step %d of %d from %s", step, self.max_steps, folder)
        return step
