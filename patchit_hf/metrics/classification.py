"""One label with several classes per image, for example its action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from patchit_hf.metrics.checks import (
    check_integers,
    check_names,
    check_numbers,
    check_shape,
    known_only,
    mean,
    ratio,
)
from patchit_hf.metrics.ranking import average_precisions


class ClassCounts(NamedTuple):
    """How often each class is there, correctly predicted, and predicted: int64 ``[K]`` each."""

    there: Tensor
    hit: Tensor
    named: Tensor

    @property
    def accuracy(self) -> float | None:
        """Fraction of images with a correct prediction; None without images."""
        return ratio(self.hit.sum()[None], self.there.sum()[None])[0]

    @property
    def recalls(self) -> list[float | None]:
        """Fraction of each class that is predicted correctly; None for an absent class."""
        return ratio(self.hit, self.there)


def count_classes(probabilities: Tensor, labels: Tensor) -> ClassCounts:
    """Count the most probable classes (the first one in a tie) against the labels.

    Args:
        probabilities: ``[N, K]``.
        labels: int64 ``[N]``, from 0 to K - 1.

    Example:
        >>> probabilities = torch.tensor([[0.7, 0.3], [0.6, 0.4]])
        >>> count_classes(probabilities, torch.tensor([0, 1])).recalls
        [1.0, 0.0]
    """
    named, classes = probabilities.argmax(1), probabilities.shape[1]
    return ClassCounts(
        torch.bincount(labels, minlength=classes),
        torch.bincount(labels[named == labels], minlength=classes),
        torch.bincount(named, minlength=classes),
    )


def check_class_input(name: str, probabilities: Tensor, labels: Tensor, classes: int) -> None:
    """Check that probabilities are floating ``[N, K]`` and labels in ``[-1, K)``.

    Raises:
        InputError: otherwise; the message begins with the name.
    """
    check_shape(f"{name}: probabilities", probabilities, len(labels), classes)
    check_numbers(f"{name}: probabilities", probabilities)
    check_integers(f"{name}: labels", labels, -1, classes - 1)


def classification(
    probabilities: Tensor, labels: Tensor, classes: Sequence[str]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Compute the metrics of one question with several classes.

    - ``accuracy``: top-1; in a tie, the first class is the prediction;
    - ``balanced_accuracy``: mean recall of the classes present;
    - ``map``: mean average precision, one class against the rest, over the classes present. With a
      single class present it is 1, because there is no rest.

    Args:
        probabilities: floating ``[N, K]``; any scores with the same order will do.
        labels: integers ``[N]`` from 0 to K - 1; -1 leaves an image out.
        classes: names of the K classes.

    Returns:
        The metrics, empty without labelled images, and one row per class with ``class``, ``count``,
            ``recall``, ``precision``, ``ap``. What cannot be computed is None: recall and ap of an
                absent class, precision of a class that is never predicted.

    Raises:
        InputError: for a wrong shape or type, a label out of range, NaN, or a wrong number of
            names.

    Example:
        >>> probabilities = torch.tensor([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
        >>> metrics, rows = classification(probabilities, torch.tensor([0, 1, 1]), ["walk", "run"])
        >>> metrics["balanced_accuracy"], rows[1]["recall"]
        (0.75, 0.5)
    """
    check_shape("labels", labels, None)
    check_names("classes", classes, len(classes) or 1)
    check_class_input("classification", probabilities, labels, len(classes))
    known = labels >= 0
    probabilities, labels = probabilities[known], labels[known].long()
    counts = count_classes(probabilities, labels)
    one_against_rest = torch.nn.functional.one_hot(labels, len(classes)).T
    aps = average_precisions(probabilities.T.contiguous(), one_against_rest)
    columns = zip(
        classes, counts.there.tolist(), counts.recalls, ratio(counts.hit, counts.named), aps,
        strict=True,
    )  # fmt: skip
    rows = [
        dict(zip(("class", "count", "recall", "precision", "ap"), row, strict=True))
        for row in columns
    ]
    summary = {
        "accuracy": counts.accuracy,
        "balanced_accuracy": mean(counts.recalls),
        "map": mean(aps),
    }
    return known_only(summary), rows
