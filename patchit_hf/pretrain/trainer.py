"""PatchTaskTrainer: the public face of pretraining."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list

from patchit_hf.common.layout import CHECKPOINTS
from patchit_hf.data.training_set import num_crops, open_held_out, open_training, statistics
from patchit_hf.models.patch_task_model import PatchTaskModel, build_model, freeze_unreached
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.pretrain.batches import share_out, training_parts
from patchit_hf.pretrain.evaluator import Evaluator
from patchit_hf.pretrain.gradient_share import GradientShare, gradient_line
from patchit_hf.pretrain.hub import RunHub, adopt_history, named_checkpoint
from patchit_hf.pretrain.probe import open_probe
from patchit_hf.pretrain.record import default_output_dir, describe_run, run_config
from patchit_hf.pretrain.wrap_up import look_back
from patchit_hf.publish.export import export_run
from patchit_hf.training import loop as engine
from patchit_hf.training.accelerator import create_accelerator, start_tracker, use_all_cores
from patchit_hf.training.arguments import in_steps
from patchit_hf.training.checkpoint import load_checkpoint, save_checkpoint
from patchit_hf.training.monitor import Monitor
from patchit_hf.training.optim import create_optimizer, schedule
from patchit_hf.training.run_folder import RunFolder
from patchit_hf.training.share import count_steps, steps_per_epoch

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
                train_dataset,
                args,
                task.canvas,
                name=f"{self.data_info['name']} ({self.data_info.get('split') or 'train'})",
                folder=self.run.path,
                seed=args.seed,
                rank=self.rank,
                world=self.world,
            )
        size = num_crops(self.source)
        self.max_steps = count_steps(args, size, self.share)
        self.held_out = open_held_out(
            eval_dataset,
            args,
            task.canvas,
            name=f"{self.data_info['name']} (held out)",
            limit=args.max_eval_crops,
        )
        probe = open_probe(train_dataset, eval_dataset, args, task)
        found = [statistics(self.source, task.covered) if self.is_main else None]
        task = task.with_statistics(*broadcast_object_list(found)[0])
        self.task = self.model.task = task
        self.notes: dict[str, Any] = {"seconds": 0.0}
        self.lr_at = schedule(args, self.max_steps, steps_per_epoch(size, self.share))
        freeze_unreached(self.model, task.input_size)
        self.model.to(memory_format=torch.channels_last)
        optimizer = create_optimizer(
            self.model, args.optim, args.learning_rate, args.weight_decay, **args.optim_args
        )
        self.prepared, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        self.evaluator = Evaluator(
            self.accelerator, task, self.model, self.prepared, self.held_out, probe
        )
        self.monitor: Monitor | None = None
        self.hub = RunHub(args, self.run.path, self.is_main)

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
        self.monitor = monitor = self._follow(start)
        start_tracker(self.accelerator, self.args.report_to, self.run.config)
        self.hub.start()
        self.watch = GradientShare(self.model.backbone) if start == 0 else None
        steps = range(start, start if monitor.stopped else self.max_steps)
        try:
            monitor.begin_step()
            engine.train(
                self.accelerator,
                self.prepared,
                self.optimizer,
                monitor.timed(self._parts(start)),
                self.task.loss,
                steps=steps,
                accumulation=self.share.accumulation,
                lr=self.lr_at,
                max_grad_norm=self.args.max_grad_norm,
                seed=self.args.seed,
                replay=self.args.cuda_graphs,
                before_step=self._before_step,
                after_step=self._after_step,
            )
            if monitor.history.last.get("step") != monitor.done:
                self._evaluate_and_record()
        except BaseException:
            self.hub.finish(0)
            raise
        finally:
            monitor.progress.close()
        if monitor.stopped and self.is_main:
            logger.info("stopped after step %d: %s", monitor.done, monitor.stopped)
        self.notes["seconds"] = monitor.seconds
        if self.is_main:
            self.notes |= look_back(self)
        self.accelerator.wait_for_everyone()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.save_pretrained()
        self.hub.finish()
        if self.args.push_to_hub:
            self.push_to_hub()
        return self.results()

    def evaluate(self) -> dict[str, Any]:
        """Return loss, metrics and health on the held-out crops, ``eval_`` before each name."""
        return self.evaluator()

    def results(self) -> dict[str, Any]:
        """Return what the run measured last."""
        if self.monitor is None:
            return {"chance": self.task.chance, "steps": 0}
        return self.monitor.results()

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
        return self.hub.push(repo_id, **kwargs)

    def record(self) -> dict[str, Any]:
        """Return what ``patchit.json`` says beside the versions."""
        return describe_run(self)

    def _open_run(self) -> RunFolder:
        spec, name = self.model.spec, str(self.data_info["name"])
        folder = self.args.output_dir or default_output_dir(spec.name, self.task, name)
        return RunFolder(folder, run_config(spec, self.task, self.args, self.data_info))

    def _config_with_data(self) -> dict[str, Any]:
        config = {**self.run.config, "data_fingerprint": self.source.fingerprint}
        return dict(json.loads(json.dumps(config)))

    def _resume(self) -> int:
        folder = self.run.newest_checkpoint() or named_checkpoint(
            self.args.resume_from_checkpoint, self.accelerator
        )
        if folder is None:
            return 0
        step, self.notes = load_checkpoint(
            folder, self._config_with_data(), self.model, self.optimizer, self.accelerator.scaler
        )
        if self.is_main:
            adopt_history(folder, self.run.path)
            logger.info("continuing after step %d of %d from %s", step, self.max_steps, folder)
        return step

    def _follow(self, start: int) -> Monitor:
        return Monitor(
            self.accelerator,
            self.args,
            self.task,
            self.run.path,
            max_steps=self.max_steps,
            batch=self.share.batch,
            start=start,
            seconds=float(self.notes["seconds"]),
            lr_at=self.lr_at,
            held_out=0 if self.held_out is None else len(self.held_out),
        )

    def _parts(self, start: int) -> Iterator[engine.Part]:
        turns = training_parts(
            self.source,
            self.task,
            self.share,
            self.args.seed,
            start,
            self.max_steps,
            self.accelerator.device,
        )
        for index, batch in turns:
            yield engine.Part(batch.inputs, batch.targets, index)

    def _before_step(self, step: int) -> None:
        if self.watch is None or self.watch.left == 0:
            return
        self.watch.update()
        if self.watch.left == 0 or step == self.max_steps - 1:
            self.watch.left = 0
            self.notes["gradient"] = self.watch.result()
            if self.monitor is not None:
                line = gradient_line(self.notes["gradient"], self.task.input_size)
                self.monitor.progress.say(line)

    def _after_step(self, step: int, means: engine.Means) -> bool:
        if self.monitor is None:
            raise RuntimeError("a step without a run")
        done, monitor = step + 1, self.monitor
        last = done == self.max_steps
        evaluates = last or engine.due(done, in_steps(self.args.eval_steps, self.max_steps))
        saves = engine.due(done, in_steps(self.args.save_steps, self.max_steps))
        saves = saves or (last and self.args.save_steps > 0)
        looks = evaluates or saves or engine.due(done, self.args.logging_steps)
        monitor.end_step(done, means, look=looks)
        if evaluates or self._probes(done):
            self._evaluate_and_record()
        if saves or monitor.stopped:
            self._save(done)
        monitor.begin_step()
        return monitor.stopped is not None

    def _save(self, done: int) -> None:
        if self.is_main and self.monitor is not None:
            save_checkpoint(
                self.run.path / CHECKPOINTS,
                done,
                self._config_with_data(),
                self.model,
                self.optimizer,
                self.accelerator.scaler,
                {**self.notes, "seconds": self.monitor.seconds},
                self.args.save_total_limit,
            )
            self.hub.submit(done)
        self.accelerator.wait_for_everyone()

    def _probes(self, done: int) -> bool:
        every = in_steps(self.args.probe_steps, self.max_steps)
        return self.evaluator.probe is not None and (
            done == self.max_steps or engine.due(done, every)
        )

    def _evaluate_and_record(self) -> None:
        if self.monitor is None:
            raise RuntimeError("an evaluation without a run")
        values = self.evaluate()
        if self._probes(self.monitor.done):
            values |= self.evaluator.probed()
        self.monitor.record(values)
