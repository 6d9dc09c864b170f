"""The online probe: how much do frozen features say about a label during training?

It reads a label column of whole crops and does not affect the training: it works on a copy of the
backbone, without gradients, with batch statistics estimated on whole crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchit_hf.common.draws import epoch_order
from patchit_hf.common.errors import InputError
from patchit_hf.data.columns import missing
from patchit_hf.data.training_set import in_memory
from patchit_hf.metrics.probe import probe
from patchit_hf.models.features import crop_backbone, crop_features
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.pretrain.arguments import TrainingArguments

TRAIN_CROPS, TEST_CROPS = 2000, 1000
_SEED = 0


@dataclass(frozen=True)
class LabelledCrops:
    """Crops in memory, with one label each.

    Attributes:
        crops: uint8 ``[N, 3, H, W]``.
        labels: int64 ``[N]``.
    """

    crops: Tensor
    labels: NDArray[np.int64]


class OnlineProbe:
    """A probe on one label column of the training and held-out crops.

    Args:
        column: name of the column with integers, class labels, strings or booleans; -1 and None
            mean no label.
        train: labelled training crops.
        test: labelled held-out crops.
    """

    def __init__(self, column: str, train: LabelledCrops, test: LabelledCrops) -> None:
        self.column, self.train, self.test = column, train, test

    @property
    def chance(self) -> float:
        """Balanced accuracy of guessing."""
        return 1 / len(np.unique(self.train.labels))

    def __call__(
        self, model: PatchTaskModel, task: PatchTask, device: torch.device
    ) -> dict[str, float]:
        """Return ``probe_knn`` and ``probe_linear`` of the current backbone.

        Weights, batch statistics and the state of all random number generators stay unchanged.
        """
        backbone = crop_backbone(model, task, self.train.crops, device)
        train, test = (
            crop_features(model, task, part.crops, device, backbone).numpy()
            for part in (self.train, self.test)
        )
        values = probe(train, self.train.labels, test, self.test.labels)
        return {f"probe_{name}": value for name, value in values.items()}


def open_probe(
    train: Any, test: Any, args: TrainingArguments, task: PatchTask
) -> OnlineProbe | None:
    """Load a subset of the labelled crops into memory.

    Args:
        train: training crops; at most 2,000 labelled ones are used.
        test: held-out crops; at most 1,000 labelled ones are used.
        args: with the label column, ``probe_column``.
        task: with the canvas.

    Returns:
        The probe, None if no column is named.

    Raises:
        InputError: if the column is missing or has no labels, or held-out and training crops have
            fewer than two classes in common.
    """
    column = args.probe_column
    if column is None:
        return None
    if test is None or isinstance(train, datasets.IterableDataset):
        raise InputError(
            f"--probe-column {column!r}: needs held-out crops and data that is not streamed"
        )
    known: list[Any] | None = None
    names = class_names(train, column)
    parts = []
    for name, dataset, most in (("training", train, TRAIN_CROPS), ("held-out", test, TEST_CROPS)):
        rows, values = _labelled_rows(dataset, column, name, known, names)
        if known is None:
            known = sorted(set(values))
        order = epoch_order(_SEED, 0, len(rows))[:most].sort().values.tolist()
        labels = np.array([known.index(values[i]) for i in order], np.int64)
        crops, kept, _ = in_memory(
            dataset, [rows[i] for i in order], args, task.canvas, f"{column} ({name})"
        )
        parts.append(LabelledCrops(crops, labels[kept.numpy()]))
    return OnlineProbe(column, *parts)


def class_names(dataset: Any, column: str) -> list[str] | None:
    """Return the names behind the numbers of a column, or None."""
    feature = dataset.features.get(column)
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def _read(value: Any, own: list[str] | None, names: list[str] | None) -> Any:
    """Return a label as the training crops number it; None for no label, or one of another name.

    Args:
        value: of the column.
        own: the names behind the column's numbers, or None.
        names: those of the training crops.
    """
    if missing(value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a blank makes a column of floats
    if own is not None and isinstance(value, int):
        value = own[value]
    if names is None or not isinstance(value, str):
        return value
    return names.index(value) if value in names else None


def _labelled_rows(
    dataset: Any, column: str, name: str, known: list[Any] | None, names: list[str] | None
) -> tuple[list[int], list[Any]]:
    """Return the rows with a label (one of the known ones, if given), and their labels."""
    where = f"--probe-column {column!r}"
    if column not in dataset.column_names:
        raise InputError(
            f"{where}: the {name} crops have no such column "
            f"(columns: {', '.join(dataset.column_names)})"
        )
    own = class_names(dataset, column)
    stored = dataset.with_format(None).select_columns([column])[:][column]
    values = [_read(value, own, names) for value in stored]
    wrong = next((v for v in values if not isinstance(v, int | str | bool | type(None))), None)
    if wrong is not None:
        raise InputError(
            f"{where}: has values of type {type(wrong).__name__}; labels must be integers, strings "
            "or booleans"
        )
    rows = [
        i
        for i, value in enumerate(values)
        if value is not None and (known is None or value in known)
    ]
    labels = [values[i] for i in rows]
    if len(set(labels)) < 2:
        raise InputError(
            f"{where}: the {name} crops have fewer than two classes"
            + ("" if known is None else " that are also in the training crops")
            + "; choose a column with the same classes in both"
        )
    return rows, labels
