"""PatchTaskTrainer: the public face of pretraining."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list

from patchit_hf import engine
from patchit_hf.checkpoint import load_checkpoint, save_checkpoint
from patchit_hf.data.feed import (
    count_steps,
    open_held_out,
    open_training,
    share_out,
    statistics,
    steps_per_epoch,
    training_parts,
)
from patchit_hf.data.stream import StreamedCrops
from patchit_hf.environment import command, create_accelerator, hardware, use_all_cores
from patchit_hf.errors import InputError
from patchit_hf.modeling import (
    GradientShare,
    PatchTaskModel,
    build_model,
    freeze_unreached,
    has_batch_norm,
)
from patchit_hf.optim import create_optimizer, schedule
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.progress import Progress, gradient_line
from patchit_hf.publish.export import export_run
from patchit_hf.runs import (
    CHECKPOINTS,
    METRICS_FILE,
    History,
    RunFolder,
    default_output_dir,
    run_config,
)
from patchit_hf.training_args import TrainingArguments, in_steps

logger = logging.getLogger(__name__)


class PatchTaskTrainer:
    """Pretrain a timm backbone by a patch task.

    Args:
        model: a ``PatchTaskModel``, or the name of a timm model to build for the task.
        args: how to train.
        task: the patch task; see ``patchit_hf.create_task``.
        train_dataset: a ``datasets.Dataset`` or ``IterableDataset`` with an image column.
        eval_dataset: held-out crops of the same kind; None for no evaluation.
        data_info: what the records say about the data (``name``, ``split``, ``held_out_from``,
            ``license``).
        run: the run's folder if the caller has opened it already.

    Raises:
        InputError: for data, a model or a configuration that cannot work, before anything is
            written.
    """

    def __init__(
        self,
        model: PatchTaskModel | str,
        args: TrainingArguments,
        task: PatchTask,
        train_dataset: Any,
        eval_dataset: Any = None,
        *,
        data_info: dict[str, Any] | None = None,
        run: RunFolder | None = None,
    ) -> None:
        self.args, self.task = args, task
        self.data_info = {
            "name": "dataset",
            "held_out_from": "chosen by the caller",
            **(data_info or {}),
        }
        self.model = build_model(model, task, args.seed) if isinstance(model, str) else model
        self.run = run or self._open_run()
        self.accelerator = create_accelerator(args, self.run.path)
        use_all_cores(self.accelerator)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.share = share_out(args, task, self.model, self.rank, self.world)
        with self.accelerator.local_main_process_first():
            self.source = open_training(
                train_dataset, args, task, self.data_info, self.rank, self.world
            )
        self.max_steps = count_steps(args, self.source, self.share)
        self.held_out = open_held_out(eval_dataset, args, task, self.data_info)
        found = [statistics(self.source, task.covered) if self.is_main else None]
        task.transform.mean, task.transform.std = broadcast_object_list(found)[0]
        self.notes: dict[str, Any] = {"seconds": 0.0}
        self.history: History | None = None
        self.lr_at = schedule(args, self.max_steps, steps_per_epoch(self.source, self.share))
        freeze_unreached(self.model, task.input_size)
        self.model.to(memory_format=torch.channels_last)
        optimizer = create_optimizer(
            self.model, args.optim, args.learning_rate, args.weight_decay, **args.optim_args
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
        start = self._resume()
        if self.is_main:
            self.run.start()
        self.accelerator.wait_for_everyone()
        self.history = History(self.run.path / METRICS_FILE, self.is_main, start)
        self._start_tracker()
        self.watch = GradientShare(self.model.backbone) if start == 0 else None
        self.since_log, self.since_evaluation = engine.Means(), engine.Means()
        self.progress = Progress(
            self.max_steps, start, self.share.batch, self.task.chance, self.is_main
        )
        self.started = time.perf_counter()
        try:
            engine.train(
                self.accelerator,
                self.prepared,
                self.optimizer,
                self._parts(start),
                self.task.loss,
                steps=range(start, self.max_steps),
                accumulation=self.share.accumulation,
                lr=self.lr_at,
                max_grad_norm=self.args.max_grad_norm,
                seed=self.args.seed,
                before_step=self._before_step,
                after_step=self._after_step,
            )
            if self.history.last.get("step") != self.max_steps:
                self._evaluate_and_record(self.max_steps)
        finally:
            self.progress.close()
        self.notes["seconds"] = self._seconds()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.save_pretrained()
        if self.args.push_to_hub:
            self.push_to_hub()
        return self.results()

    def evaluate(self) -> dict[str, float]:
        """Return loss and metrics on the held-out crops, with ``eval_`` before each name."""
        if self.held_out is None:
            return {}
        batches = self.held_out.batches(self.task, self.accelerator.device, self.rank, self.world)
        values = engine.evaluate(self.accelerator, self.prepared, batches, self.task.loss)
        return {f"eval_{name}": value for name, value in values.items()}

    def results(self) -> dict[str, Any]:
        """Return what the run measured last."""
        last = self.history.last if self.history else {}
        keys = ("eval_accuracy", "eval_loss", "train_accuracy", "train_loss")
        measured = {key: last[key] for key in keys if key in last}
        return {**measured, "chance": self.task.chance, "steps": last.get("step", 0)}

    def save_pretrained(self, folder: str | Path | None = None) -> Path:
        """Export the backbone as a timm Hub folder.

        Args:
            folder: where to; the run's own folder by default.

        Returns:
            The folder.
        """
        target = Path(folder or self.run.path)
        if self.is_main:
            export_run(target, self.model, self.task, self.record())
        self.accelerator.wait_for_everyone()
        return target

    def push_to_hub(self, repo_id: str | None = None, **kwargs: Any) -> str | None:
        """Upload the run's export to the Hub in one commit.

        Args:
            repo_id: ``org/name``; ``args.hub_model_id`` by default.
            **kwargs: see ``patchit_hf.publish.hub.push_folder``.

        Returns:
            The commit's URL, on the main process.

        Raises:
            InputError: if there is no repository named, nothing exported, or the Hub refuses.
        """
        from patchit_hf.publish.hub import push_folder

        repo_id = repo_id or self.args.hub_model_id
        if not repo_id:
            raise InputError("push_to_hub needs a repository: --hub-model-id, such as org/name")
        if not self.is_main:
            return None
        options = {"private": self.args.hub_private_repo, "revision": self.args.hub_revision}
        return push_folder(self.run.path, repo_id, **{**options, **kwargs})

    def record(self) -> dict[str, Any]:
        """Return what ``patchit.json`` says beside the versions."""
        streaming = isinstance(self.source, StreamedCrops)
        return {
            "command": command(),
            "config": self.run.config,
            "data": {
                **self.data_info,
                "fingerprint": self.source.fingerprint,
                "train_crops": None if streaming else len(self.source),  # type: ignore[arg-type]
                "eval_crops": 0 if self.held_out is None else len(self.held_out),
                "mean": list(self.task.transform.mean),
                "std": list(self.task.transform.std),
            },
            "training": {
                "patches": self.max_steps * self.share.batch * self.task.inputs_per_sample,
                "steps": self.max_steps,
                "seconds": round(self.notes["seconds"], 1),
                "hardware": hardware(self.accelerator),
                "processes": self.world,
                "mixed_precision": self.accelerator.mixed_precision,
                "gradient": self.notes.get("gradient"),
                "batch_norm_statistics": "patches" if has_batch_norm(self.model) else None,
            },
            "results": self.results(),
        }

    def _open_run(self) -> RunFolder:
        spec, name = self.model.spec, str(self.data_info["name"])
        folder = self.args.output_dir or default_output_dir(spec.name, self.task, name)
        return RunFolder(folder, run_config(spec, self.task, self.args, self.data_info))

    def _config_with_data(self) -> dict[str, Any]:
        config = {**self.run.config, "data_fingerprint": self.source.fingerprint}
        return dict(json.loads(json.dumps(config)))

    def _resume(self) -> int:
        chosen = self.args.resume_from_checkpoint
        folder = self.run.newest_checkpoint() or (Path(chosen) if chosen else None)
        if folder is None:
            return 0
        step, self.notes = load_checkpoint(
            folder, self._config_with_data(), self.model, self.optimizer, self.accelerator.scaler
        )
        if self.is_main:
            logger.info("continuing after step %d of %d from %s", step, self.max_steps, folder)
        return step

    def _parts(self, start: int) -> Iterator[engine.Part]:
        device = self.accelerator.device
        for index, batch in training_parts(
            self.source, self.task, self.share, self.args.seed, start, device
        ):
            yield engine.Part(batch.inputs, batch.targets, index)

    def _before_step(self, step: int) -> None:
        if self.watch is None or self.watch.left == 0:
            return
        self.watch.update()
        if self.watch.left == 0 or step == self.max_steps - 1:
            self.watch.left = 0
            self.notes["gradient"] = self.watch.result()
            self.progress.say(gradient_line(self.notes["gradient"], self.task.input_size))

    def _after_step(self, step: int, means: engine.Means) -> None:
        done = step + 1
        self.since_log.merge(means)
        self.since_evaluation.merge(means)
        last = done == self.max_steps
        saves = not last and _due(done, in_steps(self.args.save_steps, self.max_steps))
        evaluates = not last and _due(done, in_steps(self.args.eval_steps, self.max_steps))
        if last or saves or evaluates or _due(done, self.args.logging_steps):
            values = self.since_log.result()
            if not math.isfinite(values["loss"]):
                raise FloatingPointError(
                    f"the loss is {values['loss']} after step {done}: try a lower --learning-rate "
                    f"than {self.args.learning_rate}; checkpoints in {self.run.path} are kept"
                )
            self.progress.update(done, values)
        if evaluates:
            self._evaluate_and_record(done)
        if saves:
            self._save(done)

    def _save(self, done: int) -> None:
        if self.is_main:
            save_checkpoint(
                self.run.path / CHECKPOINTS,
                done,
                self._config_with_data(),
                self.model,
                self.optimizer,
                self.accelerator.scaler,
                {**self.notes, "seconds": self._seconds()},
                self.args.save_total_limit,
            )
        self.accelerator.wait_for_everyone()

    def _seconds(self) -> float:
        return float(self.notes["seconds"]) + time.perf_counter() - self.started

    def _evaluate_and_record(self, done: int) -> None:
        trained = self.since_evaluation.result(self.accelerator)
        entry: dict[str, Any] = {
            "step": done,
            "samples": done * self.share.batch,
            "learning_rate": self.lr_at(done - 1),
            **{f"train_{name}": value for name, value in trained.items()},
            **self.evaluate(),
            "seconds": round(self._seconds(), 1),
        }
        if self.history is not None:
            self.history.add(entry)
        self.progress.evaluated(entry)
        numbers = {k: v for k, v in entry.items() if k not in ("step", "samples")}
        self.accelerator.log(numbers, step=done)

    def _start_tracker(self) -> None:
        if self.args.report_to != "none":
            config = self.run.config.items()
            flat = {k: v if isinstance(v, int | float | str) else str(v) for k, v in config}
            self.accelerator.init_trackers("patchit_hf", config=flat)


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0
