"""The online probe: how much do frozen features say about a label, while training goes on?

It reads a labelled column of whole crops and never touches the training: it works on a copy of the
backbone, without gradients, with batch statistics estimated on whole crops.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchit_hf.data.bad import BadImages
from patchit_hf.data.draws import epoch_order
from patchit_hf.data.source import find_image_column
from patchit_hf.data.store import crops_in_memory
from patchit_hf.errors import InputError
from patchit_hf.features import crop_backbone, crop_features
from patchit_hf.modeling import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.training_args import TrainingArguments

NEIGHBOURS = 20
TRAIN_CROPS, TEST_CROPS = 2000, 1000
_SEED = 0


@dataclass(frozen=True)
class LabelledCrops:
    """Crops in memory with a label each.

    Attributes:
        crops: uint8 ``[N, 3, H, W]``.
        labels: int64 ``[N]``.
    """

    crops: Tensor
    labels: NDArray[np.int64]


def probe(
    train: NDArray[Any], labels: NDArray[Any], test: NDArray[Any], truth: NDArray[Any]
) -> dict[str, float]:
    """Fit kNN and a linear classifier on frozen features.

    kNN: 20 nearest by cosine, weighted by closeness. Linear: logistic regression on standardised
    features, classes weighted alike. The figure is the balanced accuracy, the mean of the classes'
    recalls, so that a rare label is not won by never giving it; guessing has 1 / classes.

    Args:
        train: features ``[N, C]``.
        labels: their labels ``[N]``, at least two different ones.
        test: features ``[M, C]``.
        truth: their labels ``[M]``.

    Returns:
        ``knn`` and ``linear``, each in [0, 1].
    """
    # Here, because scikit-learn takes a second to import.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    knn = KNeighborsClassifier(
        min(NEIGHBOURS, len(train)), weights="distance", metric="cosine", algorithm="brute"
    )
    scaler = StandardScaler().fit(train)
    linear = LogisticRegression(C=0.1, class_weight="balanced", max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        linear.fit(scaler.transform(train), labels)
        guesses = {
            "knn": knn.fit(train, labels).predict(test),
            "linear": linear.predict(scaler.transform(test)),
        }
        warnings.simplefilter("ignore", UserWarning)  # a class guessed that the truth has not
        return {k: float(balanced_accuracy_score(truth, guess)) for k, guess in guesses.items()}


class OnlineProbe:
    """A probe on one labelled column of the training and held-out crops.

    Args:
        column: name of the column: whole numbers, class labels, words or booleans; -1 and None
            are no label.
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
        """Return ``probe_knn`` and ``probe_linear`` of the backbone as it is now.

        Dropout's and everybody else's random numbers, the weights and the batch statistics of the
        model are left as they are.
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
    """Bring a subset of the labelled crops into memory.

    Args:
        train: training crops; at most 2,000 of those with a label are used.
        test: held-out crops; at most 1,000 of those with a label are used.
        args: with the labelled column, ``probe_column``.
        task: with the canvas.

    Returns:
        The probe, None if no column is named.

    Raises:
        InputError: if the column is missing, holds no labels, or held-out and training crops have
            less than two classes in common.
    """
    column = args.probe_column
    if column is None:
        return None
    if test is None or isinstance(train, datasets.IterableDataset):
        raise InputError(
            f"--probe-column {column!r}: needs held-out crops and data that is not streamed"
        )
    known: list[Any] | None = None
    parts = []
    for name, dataset, most in (("training", train, TRAIN_CROPS), ("held-out", test, TEST_CROPS)):
        rows, values = _labelled_rows(dataset, column, name, known)
        if known is None:
            known = sorted(set(values))
        order = epoch_order(_SEED, 0, len(rows))[:most].sort().values.tolist()
        labels = np.array([known.index(values[i]) for i in order], np.int64)
        crops, index = crops_in_memory(
            dataset.select([rows[i] for i in order]),
            find_image_column(dataset, args.image_column, name),
            task.canvas,
            args.fit,
            workers=args.dataloader_num_workers,
            name=f"{column} ({name})",
            bad=BadImages("raise" if args.on_bad_image == "raise" else "skip"),
        )
        parts.append(LabelledCrops(crops, labels if index is None else labels[index]))
    return OnlineProbe(column, *parts)


def _labelled_rows(
    dataset: Any, column: str, name: str, known: list[Any] | None
) -> tuple[list[int], list[Any]]:
    """Return the rows that have a label (one of the known ones, if given) and their labels."""
    where = f"--probe-column {column!r}"
    if column not in dataset.column_names:
        raise InputError(
            f"{where}: the {name} crops have no such column "
            f"(columns: {', '.join(dataset.column_names)})"
        )
    values = dataset.select_columns([column])[:][column]
    wrong = next((v for v in values if not isinstance(v, int | str | bool | type(None))), None)
    if wrong is not None:
        raise InputError(
            f"{where}: holds {type(wrong).__name__}; labels are whole numbers, words or booleans"
        )
    rows = [
        i
        for i, value in enumerate(values)
        if value is not None and value != -1 and (known is None or value in known)
    ]
    labels = [values[i] for i in rows]
    if len(set(labels)) < 2:
        raise InputError(
            f"{where}: the {name} crops have fewer than two classes"
            + ("" if known is None else " that the training crops have")
            + "; choose a column whose classes are on both sides"
        )
    return rows, labels
