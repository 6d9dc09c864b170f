"""FinetuneTrainer: the public face of finetuning."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.common.files import save_weights
from patchit_hf.common.layout import CHECKPOINTS
from patchit_hf.common.shown import shown
from patchit_hf.data.ahead import crops_on
from patchit_hf.data.given import Given
from patchit_hf.data.given_splits import described, given_splits
from patchit_hf.data.source import Crops
from patchit_hf.downstream.augment import centre, vary
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.finetune.arguments import FinetuningArguments
from patchit_hf.finetune.labelled import Labelled, open_labelled
from patchit_hf.finetune.predict import predict
from patchit_hf.finetune.record import describe_finetuning
from patchit_hf.finetune.report import FinetuneReporter
from patchit_hf.finetune.setup import (
    STATISTICS_CROPS,
    augmentation_of,
    crop_statistics,
    freeze_unused,
    open_run,
    open_start,
    sampled,
    try_once,
)
from patchit_hf.finetune.splits import LabelledSplits
from patchit_hf.models.backbone import has_batch_norm
from patchit_hf.models.features import reestimate_batch_norm
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.models.initial_weights import Initial
from patchit_hf.models.layers import reinitialize_last_stage
from patchit_hf.publish.finetuned import export_finetuned
from patchit_hf.publish.run import HubTrainer
from patchit_hf.training.hooks import parameters_of
from patchit_hf.training.loop import Part
from patchit_hf.training.run_folder import RunFolder
from patchit_hf.training.share import Share

logger = logging.getLogger(__name__)

BEST_FILE = "best.safetensors"  # among the checkpoints: the weights that did best so far


class FinetuneTrainer(HubTrainer):
    """Finetune a backbone on labelled crops.

    Args:
        init: the initial weights, as ``--init`` names them: ``random``, ``timm[:tag]``, the folder
            of an export, ``org/name`` on the Hub, or a ``.safetensors`` file; a timm model; or
            opened already.
        args: how to train.
        task: the downstream task, or its name: ``attributes``, ``reid``, ``pose`` or ``action``.
        train_dataset: the labelled training crops: a data set with an image column, several splits
            of one, or a folder or Hub id; see ``docs/inputs.md``.
        eval_dataset: labelled crops to choose the best weights on; None for the validation split
            that comes with the training crops, or else for none.
        backbone: a timm model, where ``init`` does not bring one.
        backbone_kwargs: further arguments of the timm model.
        input_size: height and width of the inputs, in pixels; by default those that the weights
            were made for, or 192x96.
        data_info: what the records say about the data (``name``, ``split``, ``validated_on``).
        run: the run's folder if the caller has opened it already.
        callbacks: objects that are told of steps, evaluations, checkpoints and the end; see
            ``patchit_hf.training.callbacks``.

    Raises:
        InputError: for data, weights or a configuration that cannot work, before anything is
            written.

    Example:
        >>> from patchit_hf import FinetuningArguments, load_people
        >>> people = load_people(600)
        >>> trainer = FinetuneTrainer(
        ...     "runs/mine",
        ...     FinetuningArguments(output_dir="runs/attributes"),
        ...     "attributes",
        ...     people.select(range(500)),
        ...     people.select(range(500, 600)),
        ... )  # doctest: +SKIP
        >>> trainer.train()["eval_map"]  # doctest: +SKIP
    """

    args: FinetuningArguments
    model: FinetunedModel
    data: LabelledSplits

    def __init__(
        self,
        init: str | Path | nn.Module | Initial,
        args: FinetuningArguments,
        task: str | DownstreamTask,
        train_dataset: Given | Labelled,
        eval_dataset: Given | Labelled | None = None,
        *,
        backbone: str | None = None,
        backbone_kwargs: dict[str, Any] | None = None,
        input_size: tuple[int, int] | None = None,
        data_info: dict[str, Any] | None = None,
        run: RunFolder | None = None,
        callbacks: Sequence[Any] | None = None,
    ) -> None:
        known = {"name": "dataset", "split": None, "rendered": False}
        info = {**known, "validated_on": "crops of the caller's choice", **(data_info or {})}
        if not isinstance(train_dataset, Labelled):
            given = None if isinstance(eval_dataset, Labelled) else eval_dataset
            opened, train_dataset, held_out = given_splits(
                train_dataset, given, args.image_column, allow_urls=args.allow_urls
            )
            eval_dataset = eval_dataset if isinstance(eval_dataset, Labelled) else held_out
            info |= _described(opened, train_dataset) | (data_info or {})
        info["name"] = shown(info["name"])
        task, self.initial, self.geometry = open_start(
            init, task, train_dataset, backbone, backbone_kwargs, input_size, args.seed
        )
        self.initial = self.initial.settled()
        run = run or open_run(self.initial, task, args, info)
        super().__init__(args, run, info, callbacks=callbacks)
        self.augmentation = augmentation_of(task, args)
        train = self._open(train_dataset, task, "training")
        held_out = None if eval_dataset is None else self._open(eval_dataset, task, "held out")
        self.data = LabelledSplits(train, held_out)
        self.task = task.fit(train.targets).with_input_size(self.geometry.size)
        self.reporter = FinetuneReporter(self.task.primary_metric)
        self.share = Share.of(args, self.rank, self.world)
        self._plan(len(train))
        self.model = self._build()
        self._prepare(self.model.parameter_groups(args.weight_decay, args.layer_decay))

    def save_pretrained(self, folder: str | Path | None = None) -> Path:
        """Write the model, its record and its card.

        Args:
            folder: where to; the run's own folder by default.

        Returns:
            The folder.
        """
        target = Path(folder or self.run.path)
        if self.is_main:
            record = self.record()
            export_finetuned(target, self.model, self.initial, record)
            self.model.record = record
        self.accelerator.wait_for_everyone()
        return target

    def record(self) -> dict[str, Any]:
        """Return what ``patchit.json`` says."""
        return describe_finetuning(self.outcome(), self.args, self.model, self.initial)

    def _open(
        self, dataset: datasets.Dataset | Labelled, task: DownstreamTask, part: str
    ) -> Labelled:
        if isinstance(dataset, Labelled):
            return dataset
        return open_labelled(
            dataset,
            task,
            self.geometry.canvas,
            self.args,
            name=f"{self.data_info['name']} ({part})",
            main=self.is_main,
            which="usable" if part == "training" else "scored",
        )

    def _build(self) -> FinetunedModel:
        backbone: Any = self.initial.backbone
        if self.args.reinit_last_stage:
            reinitialize_last_stage(backbone, self.args.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.args.seed)
            head = self.task.head(int(backbone.num_features))
        model = FinetunedModel(backbone, head, frozen=self.args.freeze)
        model.task, model.geometry, model.fit = self.task, self.geometry, self.args.fit
        mean, std = self.initial.statistics or crop_statistics(self.data.train, self.geometry)
        model.set_statistics(mean, std)
        try_once(model, self.geometry, self.initial.name)
        freeze_unused(model, self.geometry)
        return model.to(memory_format=torch.channels_last)

    def _header(self) -> list[str]:
        initial, (height, width) = self.initial, self.geometry.size
        judged = "none for validation"
        if self.data.validation is not None:
            judged = f"{len(self.data.validation):,} for validation"
        return [
            f"data: {self.data_info['name']}, {len(self.data.train):,} labelled crops; {judged}",
            f"network: {initial.name}, {parameters_of(self.model.backbone)}, initial weights "
            f"{initial.source}, inputs of {height}x{width}",
        ]

    def _parts(self, start: int) -> Iterator[Part]:
        device, seed, data = self.accelerator.device, self.args.seed, self.data.train
        plan = (
            (index, numbers, self.task.rows(seed, numbers, data.targets))
            for index, numbers in self.share.numbers(start)
        )
        # Planned twice, because the store reads ahead: the plan is a function, not a state.
        rows = (
            data.rows[self.task.rows(seed, numbers, data.targets)]
            for _, numbers in self.share.numbers(start)
        )
        batches = crops_on(data.store, rows, device)
        for (index, numbers, chosen), crops in zip(plan, batches, strict=False):
            draws = Draws(seed, numbers, device)
            x, view = vary(crops, self.geometry, self.augmentation, draws)
            targets = self.task.moved(data.targets[chosen].to(device), view)
            yield Part(x.contiguous(memory_format=torch.channels_last), targets, index)

    def _behind_head(self) -> Iterable[nn.Parameter]:
        kept = set(self.model.classifier_names())  # timm's own head is a part of the backbone
        backbone: Any = self.trained.backbone
        return [p for name, p in backbone.named_parameters() if name not in kept]

    def _loss(self, output: Any, targets: Tensor) -> dict[str, Tensor]:
        return self.task.loss(output, targets)

    def _evaluated(self) -> dict[str, Any]:
        if self.data.validation is None:
            return {}
        predictions, targets = predict(
            self.model, self.data.validation, self.task, self.geometry, self.accelerator
        )
        summary = self.task.measure(predictions, targets).summary
        if not summary and self.is_main:
            logger.warning(
                "%s: %s; the last weights are taken",
                self.data.validation.name,
                self.task.unmeasured(targets),
            )
        return {f"eval_{name}": round(value, 6) for name, value in summary.items()}

    def _kept(self) -> dict[str, Any]:
        if self.monitor is not None and self.args.load_best_model_at_end:
            return self.monitor.best
        return super()._kept()

    def _begin(self, start: int) -> None:
        super()._begin(start)
        if start == 0 and self.args.reestimate_batch_norm:
            self._reestimate()

    def _reestimate(self) -> None:
        """Set batch statistics to those of whole crops; every process sees the same ones."""
        if not has_batch_norm(self.model.backbone):
            return
        device = self.accelerator.device

        def inputs() -> Iterator[Tensor]:
            rows = sampled(len(self.data.train), STATISTICS_CROPS)
            parts = self.data.train.select(rows)
            for crops, _ in parts.batches(max(2, -(-len(rows) // max(1, len(rows) // 64)))):
                if len(crops) > 1:
                    yield self.model.normalize(centre(crops.to(device), self.geometry)[0])

        reestimate_batch_norm(self.model.backbone, inputs())

    def _after_evaluation(self) -> None:
        if not (self.args.load_best_model_at_end and self._running().improved):
            return
        if self.is_main:
            folder = self.run.path / CHECKPOINTS
            folder.mkdir(exist_ok=True)
            save_weights(self.model, folder / BEST_FILE)
        self.accelerator.wait_for_everyone()

    def _end(self) -> None:
        file = self.run.path / CHECKPOINTS / BEST_FILE
        if self.args.load_best_model_at_end and file.exists():
            self.model.load_state_dict(load_file(file))
        else:
            self.weights.finish(last=True)


def _described(opened: Crops | None, train: Any) -> dict[str, Any]:
    """Return what the record says of the data that was given.

    Raises:
        InputError: for a stream.
    """
    if isinstance(train, datasets.IterableDataset):
        raise InputError("train_dataset: a stream; finetuning needs a data set with a length")
    info = described(opened, train)
    return {"validated_on": info.pop("held_out_from"), **info} if opened else info
