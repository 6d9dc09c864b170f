"""PatchTaskTrainer: the public face of pretraining."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor, nn

from patchit_hf.common.errors import InputError
from patchit_hf.common.shown import shown
from patchit_hf.data.contents import Contents
from patchit_hf.data.given import Data, Given
from patchit_hf.data.given_splits import described, given_splits
from patchit_hf.data.stream import StreamedCrops
from patchit_hf.data.training_set import num_crops, open_held_out, open_training, statistics
from patchit_hf.models.build import freeze_unreached
from patchit_hf.models.features import batch_statistics
from patchit_hf.models.initial_weights import Statistics
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask, task_name
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.pretrain.batches import share_out, training_parts
from patchit_hf.pretrain.data import PretrainData
from patchit_hf.pretrain.evaluator import MOST_CROPS, Evaluator, crops_to_ask
from patchit_hf.pretrain.gradient_share import GradientShare, gradient_line
from patchit_hf.pretrain.header import Asked, header
from patchit_hf.pretrain.health import PretrainReporter
from patchit_hf.pretrain.probe import open_probe
from patchit_hf.pretrain.rates import parameter_groups
from patchit_hf.pretrain.record import describe_run
from patchit_hf.pretrain.result_weights import MixedWeights
from patchit_hf.pretrain.setup import model_for, named_task, open_run
from patchit_hf.pretrain.wrap_up import wrap_up
from patchit_hf.publish.export import export_run
from patchit_hf.publish.run import HubTrainer, adopt_history, named_checkpoint
from patchit_hf.training.checkpoint import Checkpoint
from patchit_hf.training.loop import Means, Part
from patchit_hf.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


class PatchTaskTrainer(HubTrainer):
    """Pretrain a timm backbone by a patch task.

    Args:
        model: a ``PatchTaskModel`` (see ``build_model``), the name of a timm model to build with
            random weights for the task, or a timm model whose weights are the initial ones (also
            compiled or distributed; it stays as it is).
        args: how to train.
        task: the patch task, see ``patchit_hf.create_task``, or its name.
        train_dataset: the training crops: a data set with an image column, several splits of one,
            a folder or Hub id, a list of images, or a torch data set; see ``docs/inputs.md``.
        eval_dataset: held-out crops of the same kind; None for the validation split that comes with
            the training crops, or else for no evaluation.
        data_info: what the records say about the data (``name``, ``split``, ``held_out_from``,
            ``license``).
        run: the run's folder if the caller has opened it already.
        callbacks: objects that are told of steps, evaluations, checkpoints and the end; see
            ``patchit_hf.training.callbacks``.
        files: of a stream, what its files hold (``load_crops(...).files``); a resumed run then
            notices that they changed.

    Raises:
        InputError: for data, a model or a configuration that cannot work, before anything is
            written.

    Example:
        >>> from patchit_hf import TrainingArguments, create_task, load_people
        >>> people = load_people(600)
        >>> trainer = PatchTaskTrainer(
        ...     "resnet18",
        ...     TrainingArguments(output_dir="runs/mine", num_train_epochs=5),
        ...     create_task("position"),
        ...     people.select(range(500)),
        ...     people.select(range(500, 600)),
        ... )  # doctest: +SKIP
        >>> trainer.train()["eval_accuracy"]  # doctest: +SKIP
    """

    args: TrainingArguments
    model: PatchTaskModel
    data: PretrainData

    def __init__(
        self,
        model: nn.Module | str,
        args: TrainingArguments,
        task: PatchTask | str,
        train_dataset: Given,
        eval_dataset: Given = None,
        *,
        data_info: dict[str, Any] | None = None,
        run: RunFolder | None = None,
        callbacks: Sequence[Any] | None = None,
        files: Contents | None = None,
    ) -> None:
        opened, train_dataset, eval_dataset = given_splits(
            train_dataset, eval_dataset, args.image_column, allow_urls=args.allow_urls
        )
        known = {"name": "dataset", "held_out_from": "chosen by the caller"}
        info = {**known, **described(opened, train_dataset), **(data_info or {})}
        info["name"] = shown(info["name"])
        files = opened.files if files is None and opened is not None else files
        task = named_task(task)
        self.model = model_for(model, task, args)
        args = args.settled(random=self.model.origin is None)
        self.model.freeze_stages(args.freeze_stages)
        run = run or open_run(self.model, task, args, info)
        self.model.trained_in = run.path.absolute()
        super().__init__(
            args, run, info, include_people=args.hub_include_people, callbacks=callbacks
        )
        self.share = share_out(args, task, self.model, self.rank, self.world)
        self._open_data(task, train_dataset, eval_dataset, files)
        probe = open_probe(train_dataset, eval_dataset, args, task)
        self._settle_task(task)
        self._prepare(parameter_groups(self.model, self.task, args))
        evaluated = self.prepared if self.sharded is None else self.model
        self.evaluator = Evaluator(
            self.accelerator, self.task, self.model, evaluated, self.data.held_out, probe
        )
        self.watch: GradientShare | None = None
        self._later: str | None = None  # why the next step is the last

    def _open_data(
        self, task: PatchTask, train: Data, held_out: Data | None, files: Contents | None
    ) -> None:
        """Open the training crops, plan the steps, and open as many held-out crops as these ask."""
        args, name = self.args, str(self.data_info["name"])
        with self.accelerator.local_main_process_first():
            source = open_training(
                train,
                args,
                task.canvas,
                name=f"{name} ({self.data_info.get('split') or 'train'})",
                folder=self.run.path,
                seed=args.seed,
                rank=self.rank,
                world=self.world,
            )
        size = num_crops(source)
        self._plan(size)
        inputs = self.max_steps * self.share.batch * task.inputs_per_sample
        asked = crops_to_ask(args, task, inputs)
        crops = open_held_out(held_out, args, task.canvas, name=f"{name} (held out)", limit=asked)
        self.data = PretrainData(name, source, crops, files)
        self.asked = Asked(
            name,
            size,
            len(crops or ()),
            num_crops(held_out or ()),
            bounded=args.max_eval_crops is None and asked < MOST_CROPS,
        )

    def _settle_task(self, task: PatchTask) -> None:
        """Fit task and model to the training crops, and to each other."""
        found = [self._statistics(task) if self.is_main else None]
        task = self._fitted(task.with_statistics(*broadcast_object_list(found)[0]))
        self.task = self.model.task = task
        self.reporter = PretrainReporter(task, len(self.data.held_out or ()))
        freeze_unreached(self.model, task.input_size)
        self.model.fit = self.args.fit
        self.model.to(memory_format=torch.channels_last)

    def results(self) -> dict[str, Any]:
        """Return what the run measured last, and ``chance``, the accuracy of guessing."""
        return {**super().results(), "chance": self.task.chance}

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

    def record(self) -> dict[str, Any]:
        """Return what ``patchit.json`` says beside backbone, task and versions."""
        return describe_run(self.outcome(), self.task, self.model, self.evaluator.probe)

    def _fitted(self, task: PatchTask) -> PatchTask:
        """Return the task for a training on these crops; its head may grow."""
        count = self.data.size
        needed = task.bytes_per_run(count)
        if needed and self.is_main:
            logger.info(
                "the head learns a vector for each of %s crops: %.1f MB with their optimiser",
                f"{count:,}",
                needed / 1e6,
            )
        fitted = task.for_training(self.model.head, count, self.args.seed)
        if self.sharding is not None and (needed or [*self.model.head.buffers()]):
            raise InputError(
                f"--task {task_name(task)}: its head remembers crops, which FSDP does not divide; "
                "leave FSDP out of accelerate's configuration"
            )
        return fitted

    def _header(self) -> list[str]:
        return header(self.asked, self.model, self.task)

    def _statistics(self, task: PatchTask) -> Statistics:
        """Return the mean and deviation that the initial weights expect, or those of the crops."""
        return self.model.statistics or statistics(self.data.source, task.covered)

    def _result_weights(self) -> MixedWeights:
        apart = [f"head.{name}" for name in self.task.trained_apart(self.model.head)]
        return MixedWeights(self.model, self.args, self.accelerator, apart, self._first_inputs)

    def _parts(self, start: int) -> Iterator[Part]:
        parts = training_parts(
            self.data.source,
            self.task,
            self.share,
            self.args.seed,
            start,
            self.max_steps,
            self.accelerator.device,
        )
        for index, batch in parts:
            yield Part(batch.inputs, batch.targets, index)

    def _loss(self, output: Any, targets: Tensor) -> dict[str, Tensor]:
        return self.task.loss(output, targets)

    def _evaluated(self) -> dict[str, Any]:
        return self.evaluator()

    def _also_evaluates(self, done: int) -> bool:
        probes = done == self.max_steps or self._due(done, self.args.probe_steps)
        return self.evaluator.probe is not None and probes

    def _also_evaluated(self) -> dict[str, Any]:
        return dict(self.evaluator.probed())

    def _checkpoint(self) -> Checkpoint | None:
        newest, named = super()._checkpoint(), self.args.resume_from_checkpoint
        if newest is None:
            return named_checkpoint(named, self.accelerator)
        self._refuse_newer(newest, named)
        return newest

    def _refuse_newer(self, newest: Checkpoint, named: str | None) -> None:
        """Check that a change begins where ``--resume`` says.

        Raises:
            InputError: if the run's folder has a newer checkpoint of the run before the change.
        """
        if not (self.args.change and named) or newest.config == self._config_with_data(newest):
            return
        if Path(named).resolve() != newest.folder.resolve():
            raise InputError(
                f"--resume {named!r} with --change: {str(newest.folder)!r} is newer, and of the "
                "run before the change; choose another --output-dir"
            )

    def _continue_from(self, checkpoint: str) -> None:
        self.args = dataclasses.replace(self.args, resume_from_checkpoint=checkpoint)

    def _resumed(self, checkpoint: Path) -> None:
        adopt_history(checkpoint, self.run.path)

    def _begin(self, start: int) -> None:
        super()._begin(start)
        self.watch = GradientShare(self.model.backbone, self.model.frozen) if start == 0 else None

    def _before_step(self, step: int) -> None:
        self._watch_gradient(step)
        super()._before_step(step)

    def _after_step(self, step: int, means: Means) -> bool:
        if step + 1 in self.task.sees_all_after(self.max_steps):
            self._show_all_crops()
        return super()._after_step(step, means)

    def _stop(self, reason: str | None, method: str) -> None:
        if self.args.keep_initial and method == "on_evaluate":
            self._later = self._later or reason  # weights are mixed before an evaluation
        else:
            super()._stop(reason or self._later, method)

    def _show_all_crops(self) -> None:
        """Let the head see all training crops, on the main process; the others get its weights."""
        if self.is_main and self.data.size:
            batches = self.data.every_crop(self.args.seed, self.accelerator.device)
            with torch.no_grad(), batch_statistics(self.model):
                told = self.task.see_all(self.model.head, self.model.features, batches)
            if told:
                self._running().progress.say(told)
        if self.world > 1:
            for value in (*self.model.head.parameters(), *self.model.head.buffers()):
                broadcast(value.data)

    def _first_inputs(self) -> Iterator[Tensor]:
        """Yield the inputs of the first steps, as one process alone would see them."""
        streamed = isinstance(self.data.source, StreamedCrops)
        share = self.share if streamed else dataclasses.replace(self.share, world=1)
        parts = training_parts(
            self.data.source, self.task, share, self.args.seed, 0, self.max_steps,
            self.accelerator.device,
        )  # fmt: skip
        return (batch.inputs.flatten(0, -4) for _, batch in parts)

    def _watch_gradient(self, step: int) -> None:
        if self.watch is None or self.watch.left == 0:
            return
        if self.sharded is not None:
            self.sharded.gather_gradients()
        self.watch.update()
        if self.sharded is not None:
            self.sharded.forget_gradients()
        if self.watch.left == 0 or step == self.max_steps - 1:
            self.watch.left = 0
            self.notes["gradient"] = self.watch.result()
            line = gradient_line(self.notes["gradient"], self.task.input_size)
            self._running().progress.say(line)

    def _end(self) -> None:
        self.weights.finish(last=self._is_last())
        if self.is_main:
            self.notes |= wrap_up(
                self.outcome(),
                self.args,
                self.task,
                self.model,
                self.data.source,
                self.data.held_out,
                confusion=self.evaluator.confusion,
                trackers=self.accelerator.trackers,
            )
