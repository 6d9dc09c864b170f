"""Score a finetuned model on a split, or probe frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from torch import Tensor, nn

from patchit_hf.common.draws import epoch_order
from patchit_hf.common.errors import InputError
from patchit_hf.common.files import replacing
from patchit_hf.data.bad import BadImages
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.data.source import open_split
from patchit_hf.downstream.augment import Geometry, centre
from patchit_hf.downstream.columns import read_column
from patchit_hf.finetune.labelled import Labelled, open_crops_of, open_labelled
from patchit_hf.finetune.predict import predict
from patchit_hf.finetune.setup import STATISTICS_CROPS, sampled
from patchit_hf.metrics.bootstrap import bootstrap
from patchit_hf.metrics.probe import probe
from patchit_hf.models.backbone import has_batch_norm
from patchit_hf.models.features import pooled_features, reestimate_batch_norm
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.models.initial_weights import open_initial
from patchit_hf.training.accelerator import device


@dataclass(frozen=True)
class Scores:
    """The scores of a model on a split.

    Attributes:
        figures: metrics by name, each with ``value`` and, after a bootstrap, ``low`` and ``high``
            of its 95 % interval.
        table: one row per attribute, class, joint or the like.
        columns: predictions, one row per crop.
        crops: number of crops that counted.
        bad: the bad images that were left out, one entry per split.
    """

    figures: dict[str, dict[str, float]]
    table: list[dict[str, Any]]
    columns: dict[str, list[Any]]
    crops: int
    bad: list[BadImages]

    def as_json(self) -> dict[str, Any]:
        """Return metrics and table as JSON values."""
        return {"crops": self.crops, "figures": self.figures, "table": self.table}


def score(
    model: FinetunedModel,
    split: Any,
    args: DecodeArguments,
    *,
    name: str = "data set",
    gallery: Any = None,
    samples: int = 1000,
) -> Scores:
    """Score a finetuned model on a split.

    Args:
        model: a model from ``FinetunedModel.from_pretrained``.
        split: a ``datasets.Dataset`` with the task's columns.
        args: how crops are decoded.
        name: name of the data in error messages.
        gallery: for re-identification, the split to search in; ``split`` itself by default.
        samples: bootstrap samples, 0 for no intervals.

    Raises:
        InputError: for missing columns or labels of another kind.
    """
    task, geometry = model.task, model.geometry
    data = open_labelled(split, task, geometry.canvas, args, name=name, which="all")
    predictions, targets = predict(model, data, task, geometry)
    bad = [data.store.bad]
    rows = data.split_rows.tolist()
    judged = task.prepare(split.select(rows), geometry.canvas)
    columns = {"row": rows, **task.columns(task.in_picture(predictions, geometry, judged))}
    if gallery is not None:
        if not hasattr(task, "search"):
            raise InputError("--gallery-split: only re-identification searches a gallery")
        others = open_labelled(
            gallery,
            task,
            geometry.canvas,
            args,
            name=f"{name} (gallery)",
            which="all",
            part="gallery",
        )
        bad.append(others.store.bad)
        found, theirs = predict(model, others, task, geometry)
        targets[:, 2], theirs[:, 2] = 1, 2  # query and gallery
        predictions, targets = torch.cat([predictions, found]), torch.cat([targets, theirs])
    else:
        kept = task.scored(targets)
        predictions, targets = predictions[kept], targets[kept]
    if len(targets) == 0:
        raise InputError(f"{name}: none of its rows has a label for this task")
    report = task.measure(predictions, targets)
    figures = {key: {"value": value} for key, value in report.summary.items()}
    if samples:
        statistic, count = task.resampled(predictions, targets)
        if count:
            for key, (low, high) in bootstrap(statistic, count, samples=samples).items():
                figures.setdefault(key, {}).update(low=low, high=high)
    return Scores(figures, report.table, columns, len(targets), bad)


@dataclass(frozen=True)
class Extractor:
    """A frozen backbone and the preprocessing of its crops.

    Attributes:
        backbone: the network, without its classifier.
        geometry: maps crops to inputs.
        mean: mean per channel, of crops in [0, 1], on the backbone's device.
        std: standard deviation per channel, on the same device.
    """

    backbone: nn.Module
    geometry: Geometry
    mean: Tensor
    std: Tensor

    def inputs(self, crops: Tensor) -> Tensor:
        """Return the network's inputs for crops uint8 ``[B, 3, H, W]``, on its device."""
        x = centre(crops.to(self.mean.device), self.geometry)[0]
        return (x - self.mean[:, None, None]) / self.std[:, None, None]

    def __call__(self, data: Labelled, batch: int = 64) -> Tensor:
        """Return averaged feature maps, float32 ``[N, C]`` on the CPU."""
        batches = (self.inputs(crops) for crops, _ in data.batches(batch))
        return pooled_features(self.backbone, batches)

    def reestimate(self, data: Labelled) -> None:
        """Set the batch-norm statistics to those of whole crops.

        The crops are mixed: data sets are often sorted by camera or source, and batches of one
        source each would leave out what differs between sources.
        """
        rows = sampled(len(data), STATISTICS_CROPS)
        rows = rows[epoch_order(0, 0, len(rows))]
        parts = (c for c, _ in data.select(rows).batches(64) if len(c) > 1)
        reestimate_batch_norm(self.backbone, (self.inputs(crops) for crops in parts))


def open_extractor(
    source: str, backbone: str | None, input_size: tuple[int, int] | None
) -> Extractor:
    """Build a frozen backbone from any source that ``--init`` accepts, on Accelerate's device.

    Raises:
        InputError: if there are no such weights.
    """
    initial = open_initial(source, backbone, 0, input_size=input_size or (192, 96))
    mean, std = initial.statistics or ((0.5,) * 3, (0.25,) * 3)
    geometry = Geometry.of(input_size or initial.input_size or (192, 96))
    where = device()
    statistics = torch.tensor(mean, device=where), torch.tensor(std, device=where)
    return Extractor(initial.backbone.to(where).eval(), geometry, *statistics)


def probe_column(
    extractor: Extractor,
    train: Any,
    test: Any,
    column: str,
    kinds: tuple[str, ...],
    args: DecodeArguments,
    *,
    reestimate: bool = True,
) -> tuple[dict[str, float], list[BadImages]]:
    """Fit kNN or a linear classifier on frozen features; return the balanced test accuracy.

    Args:
        extractor: the frozen backbone; its batch-norm statistics are changed.
        train: the split to train the classifiers on.
        test: the split to test them on.
        column: the label column of both.
        kinds: ``knn``, ``linear``.
        args: how crops are decoded.
        reestimate: re-estimate batch-norm statistics on the training crops first.

    Returns:
        The balanced accuracy of each kind, and the bad images that were left out of each split.

    Raises:
        InputError: if the column is missing or holds no labels.
    """
    label = read_column(train, column)
    found, bad = [], []
    for number, (split, part) in enumerate(((train, "train"), (test, "held_out"))):
        targets = label.encode(split)
        data = open_crops_of(split, extractor.geometry.canvas, args, f"{column} ({part})", part)
        bad.append(data.store.bad)
        targets = targets[data.split_rows]
        kept = (targets >= 0).nonzero()[:, 0]
        if len(kept) == 0:
            raise InputError(f"column {column!r}: no row has a label")
        labelled = data.select(kept)
        if number == 0 and reestimate and has_batch_norm(extractor.backbone):
            extractor.reestimate(labelled)
        found.append((extractor(labelled).numpy(), targets[kept].numpy()))
    (features, labels), (others, truth) = found
    if len(np.unique(labels)) < 2:
        raise InputError(f"column {column!r}: the training crops have fewer than two classes")
    values = probe(features, labels, others, truth)
    return {kind: values[kind] for kind in kinds}, bad


def write_table(path: Path, columns: dict[str, list[Any]], split: Any, image: str) -> None:
    """Write columns together with the split's own (except its images) as parquet, atomically.

    Args:
        path: the file.
        columns: the columns to write, one list each.
        split: the data set whose rows they belong to.
        image: its image column.
    """
    kept = [name for name in split.column_names if name != image and name not in columns]
    own = split.select_columns(kept).with_format("arrow")[:] if kept else pyarrow.table({})
    table = pyarrow.table({**dict(zip(kept, own.columns, strict=True)), **columns})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        pyarrow.parquet.write_table(table, draft)


def open_judged(
    dataset: str | None, split: str | None, image_column: str | None
) -> tuple[Any, str]:
    """Open a split, and return it with its name for error messages.

    Raises:
        InputError: if no split is named and nothing is held out.
    """
    found, words = open_split(dataset, split, image_column)
    if found is None:
        raise InputError(f"{dataset or 'people'}: no crops are held out; name a --split")
    return found, f"{dataset or 'people'} ({words})"
