"""One label of several classes per picture, actions for example."""

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
    """How often each class is there, is named rightly, and is named, all int64 ``[K]``."""

    there: Tensor
    hit: Tensor
    named: Tensor

    @property
    def accuracy(self) -> float | None:
        """Share of pictures named rightly; None without any."""
        return ratio(self.hit.sum()[None], self.there.sum()[None])[0]

    @property
    def recalls(self) -> list[float | None]:
        """Share of each class named rightly; None for one that is absent."""
        return ratio(self.hit, self.there)


def count_classes(probabilities: Tensor, labels: Tensor) -> ClassCounts:
    """Count the most probable classes (the first of equals) against the labels.

    Args:
        probabilities: ``[N, K]``.
        labels: int64 ``[N]``, from 0 to K - 1.
    """
    named, classes = probabilities.argmax(1), probabilities.shape[1]
    return ClassCounts(
        torch.bincount(labels, minlength=classes),
        torch.bincount(labels[named == labels], minlength=classes),
        torch.bincount(named, minlength=classes),
    )


def check_class_input(name: str, probabilities: Tensor, labels: Tensor, classes: int) -> None:
    """Refuse probabilities that are not floating ``[N, K]``, or labels not in ``[-1, K)``.

    Raises:
        InputError: as said; the message begins with the name.
    """
    check_shape(f"{name}: probabilities", probabilities, len(labels), classes)
    check_numbers(f"{name}: probabilities", probabilities)
    check_integers(f"{name}: labels", labels, -1, classes - 1)


def classification(
    probabilities: Tensor, labels: Tensor, classes: Sequence[str]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Measure answers to one question of several classes.

    - ``accuracy``: top-1, the first of equally probable classes being the answer;
    - ``balanced_accuracy``: the mean recall of the classes present;
    - ``map``: the mean over the classes present of the average precision of one against the rest.
      With a single class present it is 1, there being no rest.

    Args:
        probabilities: floating ``[N, K]``; any scores whose order means the same will do.
        labels: integers ``[N]`` from 0 to K - 1; -1 leaves a picture out.
        classes: K names.

    Returns:
        The figures, empty if there is no labelled picture; and a row a class with ``class``,
        ``count``, ``recall``, ``precision``, ``ap``. What cannot be computed is None: recall and
        ap of a class that is absent, precision of one that is never the answer.

    Raises:
        InputError: other shapes or types, a label out of range, NaN, names that are not K.
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
