"""What pretraining and finetuning share: resume, the steps, evaluations, checkpoints, the end."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch.nn import Module, Parameter

from patchit_hf.common.interrupts import Stopped
from patchit_hf.common.provenance import hardware
from patchit_hf.common.resources import ResourceError
from patchit_hf.training.accelerator import compiled_by, create_accelerator, start_tracker
from patchit_hf.training.arguments import LoopArguments
from patchit_hf.training.callbacks import Callbacks
from patchit_hf.training.loop import Means, due
from patchit_hf.training.loop import train as run_steps
from patchit_hf.training.memory import is_out_of_memory
from patchit_hf.training.monitor import Monitor, Reporter
from patchit_hf.training.optim import create_optimizer, head_first
from patchit_hf.training.outcome import RunOutcome
from patchit_hf.training.process import process_settings
from patchit_hf.training.records import Records
from patchit_hf.training.result_weights import ResultWeights
from patchit_hf.training.run_folder import RunFolder
from patchit_hf.training.save_requests import SaveRequests
from patchit_hf.training.sharded import Sharded, sharding_of
from patchit_hf.training.share import count_steps, steps_per_epoch
from patchit_hf.training.watch import lost_process

logger = logging.getLogger(__name__)


class Trainer(Records):
    """A run: it starts or resumes, trains, evaluates, writes checkpoints, and exports its result.

    A subclass sets ``model``, ``data``, ``share`` and ``reporter``, calls ``_plan`` and
    ``_prepare``, and says what its inputs, its loss and its evaluation are.

    While it trains, convolutions are deterministic, all cores are used on the CPU, and the global
    random states are seeded at every step; ``train`` and ``evaluate`` leave the process as they
    found it.

    Args:
        args: how to train.
        run: the run's folder.
        data_info: what the records say about the data.
        callbacks: objects that are told of what happens; see ``callbacks.Callback``.
    """

    reporter: Reporter
    requests: SaveRequests

    def __init__(
        self,
        args: LoopArguments,
        run: RunFolder,
        data_info: dict[str, Any],
        callbacks: Sequence[Any] | None = None,
    ) -> None:
        self.args, self.run, self.data_info = args, run, data_info
        self.accelerator = create_accelerator(args, run.path)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.notes: dict[str, Any] = {"seconds": 0.0}
        self.monitor: Monitor | None = None
        self.callbacks = Callbacks(callbacks)
        self.sharding = sharding_of(os.environ) if self.world > 1 else None
        self.sharded: Sharded | None = None

    def _plan(self, size: int) -> None:
        """Settle the number of steps and their learning rates.

        Args:
            size: number of training crops, 0 for a stream.

        Raises:
            InputError: for a stream without ``--max-steps``, or if ``--head-first`` leaves no step
                for the backbone.
        """
        self.max_steps = count_steps(self.args, size, self.share)
        epoch = steps_per_epoch(size, self.share)
        self.head_steps, self.lr_at = head_first(self.args, self.max_steps, epoch)

    def _prepare(self, parameters: Any) -> None:
        """Create the optimiser, and have Accelerate prepare it with the model.

        Args:
            parameters: what the optimiser trains: the model, or groups of parameters.
        """
        args = self.args
        if self.sharding is not None:
            self.sharded = Sharded(self.model, self.sharding, self.accelerator)
        create = create_optimizer if self.sharded is None else self.sharded.create_optimizer
        optimizer = create(
            parameters, args.optim, args.peak_learning_rate, args.weight_decay, **args.optim_args
        )
        if self.sharded is None:
            self.prepared, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        else:
            self.prepared, self.optimizer = self.sharded.module, self.accelerator.prepare(optimizer)
            self.sharded.optimizer = self.optimizer
        self.weights = self._result_weights()

    def _result_weights(self) -> ResultWeights:
        """Return what makes the weights that are exported out of those of a step."""
        return ResultWeights(self.model, self.args.ema)

    def train(self, resume_from_checkpoint: bool | str | Path | None = None) -> dict[str, Any]:
        """Train to the end, from the newest checkpoint if there is one, and export.

        Args:
            resume_from_checkpoint: true if there has to be a checkpoint; a run in its folder goes
                on in any case. A folder or ``hub:org/name@revision`` is the argument of that name.

        Returns:
            The results, as in ``patchit.json``.

        Raises:
            FloatingPointError: if the loss stops being finite; what was saved before stays.
            ResourceError: if the machine lacks room or memory; what was saved before stays.
            Stopped: if a signal (Ctrl-C, SIGTERM, SIGHUP, SIGUSR1) asked for it, after the step
                that runs and its checkpoint. It is a ``KeyboardInterrupt``.
        """
        self._check_resume(resume_from_checkpoint)
        with process_settings(self.accelerator):
            try:
                self._train()
            except Exception as error:
                if is_out_of_memory(error):
                    raise ResourceError(self._out_of_memory(error)) from None
                lost = lost_process(error, self.args.timeout)
                if lost is None:
                    raise
                raise lost from error
        return self.results()

    def evaluate(self) -> dict[str, Any]:
        """Return loss and metrics on the held-out crops, empty without any.

        Returns:
            Scalars, and lists of them, with ``eval_`` before each name.
        """
        with process_settings(self.accelerator):
            return self._evaluated()

    @property
    def trained(self) -> Module:
        """The network whose gradients there are: ``model``, or under FSDP the one in parts."""
        return self.model if self.sharded is None else self.sharded.module

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

    def outcome(self) -> RunOutcome:
        """Return what the run leaves for its record, its figures and its model card."""
        monitor, data = self.monitor, {**self.data_info, **self.data.described()}
        return RunOutcome(
            folder=self.run.path,
            config=self.run.config,
            data={**data, "on_bad_image": self.args.on_bad_image},
            bad=self.data.bad_images(),
            steps=monitor.done if monitor else 0,
            samples=self.share.batch,
            seconds=float(self.notes["seconds"]),
            stopped=monitor.stopped if monitor else None,
            hardware=hardware(self.accelerator),
            processes=self.world,
            mixed_precision=str(self.accelerator.mixed_precision),
            compiled=compiled_by(self.accelerator),
            results=self.results(),
            history=monitor.history.entries if monitor else [],
            notes=self.notes,
        )

    def _kept(self) -> dict[str, Any]:
        """Return the evaluation of the weights that are kept."""
        return self.monitor.history.last if self.monitor else {}

    def _train(self) -> None:
        start = self._resume()
        if self.sharded is not None:
            self.sharded.scatter()
        if self.is_main:
            self.run.start()
        self.accelerator.wait_for_everyone()
        args = self.args
        if args.gradient_accumulation_steps == 0:
            self._find_parts()
        self.monitor = monitor = self._opened_monitor(start)
        self.requests = SaveRequests(self.accelerator, args.save_minutes, monitor.seconds)
        self._say_header()
        start_tracker(self.accelerator, args.report_to, self.run.config)
        try:
            self._begin(start)
            monitor.begin_step()
            with self.requests.signal:
                self._take_steps(monitor, start)
            if not monitor.recorded:
                self._see_trained()
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
        self._check_folder()
        self.save_pretrained()
        self.callbacks.tell("on_end", self, self.results())

    def _opened_monitor(self, start: int) -> Monitor:
        """Return the monitor of the steps from here on; it takes over what a checkpoint notes."""
        return Monitor(
            self.accelerator,
            self.args,
            self.run.path,
            self.reporter,
            max_steps=self.max_steps,
            batch=self.share.batch,
            start=start,
            seconds=float(self.notes["seconds"]),
            means=self.notes.pop("means", None),
            asked=self.notes.pop("asked_to_stop", None),
            lr_at=self.lr_at,
        )

    def _take_steps(self, monitor: Monitor, start: int) -> None:
        """Train to the last step, or until a step says that it was the last."""
        args = self.args
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
            replay=args.cuda_graphs and compiled_by(self.accelerator) is None,
            before_step=self._before_step,
            after_step=self._after_step,
        )

    def _say_header(self) -> None:
        """Say what this run is, before its first step."""
        if not self.is_main:
            return
        precision = {"no": "float32"}.get(self.accelerator.mixed_precision)
        each = f"{self.world} processes, each on " if self.world > 1 else ""
        steps = f"{self.max_steps:,} steps of {self.share.batch * self.reporter.inputs}"
        for line in (
            *self._header(),
            f"device: {each}{hardware(self.accelerator)}, "
            f"{precision or self.accelerator.mixed_precision}",
            f"run: {steps} {self.reporter.unit} by {self.args.optim}, in {self.run.path}",
        ):
            logger.info("%s", line)

    def _before_step(self, step: int) -> None:
        if step < self.head_steps:
            for parameter in self._behind_head():
                parameter.grad = None

    def _behind_head(self) -> Iterable[Parameter]:
        """Return what is not trained in the steps of the head alone."""
        backbone: Any = self.trained.backbone
        return list(backbone.parameters())

    def _after_step(self, step: int, means: Means) -> bool:
        """Do what is due after a step; true ends the training.

        Raises:
            Stopped: if a signal asked for it; a checkpoint has been written.
        """
        monitor, args, done = self._running(), self.args, step + 1
        if args.ema:
            self._see_trained()
        self.weights.update(step)
        last = done == self.max_steps
        stop, timed = self.requests.agreed(done, monitor.seconds)
        evaluates = last or self._due(done, args.eval_steps)
        saves = last or timed or stop is not None or self._due(done, args.save_steps)
        saves = saves and args.save_steps > 0
        shows = evaluates or saves or due(done, args.logging_steps)
        monitor.end_step(done, means, show=shows)
        self._tell("on_step", done)
        evaluates = evaluates or self._also_evaluates(done) or monitor.stopped is not None
        if evaluates or saves:
            self._see_trained()
        if evaluates:
            self._evaluate_and_record()
        if saves or (monitor.stopped and args.save_steps > 0):
            self._save(done)
        if stop is not None:
            state = f"the checkpoint after step {done} is written; the same command continues there"
            raise Stopped(stop, state if saves else "no checkpoint is written (--save-every 0)")
        monitor.begin_step()
        return monitor.stopped is not None
