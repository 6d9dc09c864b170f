"""Attributes of people: many yes-or-no questions, or several questions of a few classes each.

Toolboxes for yes-or-no attributes differ in pictures whose quotient is 0 / 0. RAP's own leaves
each out of the figure concerned, ports of it leave out every picture that shows nothing, later ones
count 0 / 0 as 0. Here accuracy and recall are RAP's; precision counts 0 where something is shown
and nothing said, as all but RAP's do. Where each picture shows something, as in PETA and PA-100K,
all agree but for that case. Source: Li et al., "A Richly Annotated Dataset for Pedestrian
Attribute Recognition", 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from patchit_hf.common.errors import InputError
from patchit_hf.metrics.checks import (
    check_integers,
    check_names,
    check_numbers,
    check_shape,
    known_only,
    mean,
    ratio,
)
from patchit_hf.metrics.classification import check_class_input, count_classes
from patchit_hf.metrics.ranking import average_precision, average_precisions, eleven_point_ap

__all__ = ["average_precision", "binary_attributes", "class_attributes", "eleven_point_ap"]

THRESHOLD = 0.5
_KEYS = ("attribute", "positives", "negatives", "tpr", "tnr", "ma", "ap")


def binary_attributes(
    scores: Tensor, labels: Tensor, names: Sequence[str]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Measure yes-or-no attributes by the conventions of PETA, RAP and PA-100K.

    A yes is a score above 0.5. Over the attributes that have both a positive and a negative:

    - ``ma``: mean of (true positive rate + true negative rate) / 2;
    - ``map``: mean average precision.

    Over pictures, of what they show (yes labels) and what was said of them (yes answers):

    - ``accuracy``: mean of |shown and said| / |shown or said|;
    - ``precision``: mean of |shown and said| / |said|, 0 where nothing was said but should have;
    - ``recall``: mean of |shown and said| / |shown|;
    - ``f1``: the harmonic mean of these two averages (not the average of pictures' F1).

    A picture that shows nothing and of which nothing is said is left out of ``accuracy`` and
    ``precision``, one that shows nothing is left out of ``recall``. An unknown label is left out
    everywhere: it is neither shown nor said.

    Args:
        scores: probabilities, floating ``[N, A]``.
        labels: integers ``[N, A]``: 1 yes, 0 no, -1 not known.
        names: A attributes' names.

    Returns:
        The figures, without those that cannot be computed; and a row an attribute with
        ``attribute``, ``positives``, ``negatives``, ``tpr``, ``tnr``, ``ma``, ``ap``, None where
        a class that it takes is absent (``ap`` takes both).

    Raises:
        InputError: other shapes or types, another label, NaN, names that are not A.
    """
    check_shape("scores", scores, None, None)
    check_shape("labels", labels, *scores.shape)
    check_names("names", names, scores.shape[1])
    check_numbers("scores", scores)
    check_integers("labels", labels, -1, 1)
    scores, labels = scores.T.contiguous(), labels.T.contiguous()
    shown, said = labels == 1, scores > THRESHOLD
    rows = _binary_rows(scores, labels, said, names)
    figures = {
        "ma": mean(row["ma"] for row in rows),
        **_of_pictures(shown, said & (labels >= 0)),
        "map": mean(row["ap"] for row in rows),
    }
    return known_only(figures), rows


def _binary_rows(
    scores: Tensor, labels: Tensor, said: Tensor, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a row an attribute of scores, labels and answers ``[A, N]``."""
    yes, no = labels == 1, labels == 0
    positives, negatives = yes.sum(1), no.sum(1)
    columns = zip(
        names,
        positives.tolist(),
        negatives.tolist(),
        ratio((yes & said).sum(1), positives),
        ratio((no & ~said).sum(1), negatives),
        average_precisions(scores, labels),
        strict=True,
    )
    return [
        dict(zip(_KEYS, (name, p, n, tpr, tnr, _half(tpr, tnr), ap if n else None), strict=True))
        for name, p, n, tpr, tnr, ap in columns
    ]


def _half(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else (first + second) / 2


def _of_pictures(shown: Tensor, said: Tensor) -> dict[str, float | None]:
    """Return the figures over pictures of shown and said, bool ``[A, N]``."""
    both, either = (shown & said).sum(0), (shown | said).sum(0)
    shows, says = shown.sum(0), said.sum(0)
    precision = _average(both, says.clamp(min=1), either > 0)
    recall = _average(both, shows, shows > 0)
    f1 = None
    if precision is not None and recall is not None:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {
        "accuracy": _average(both, either, either > 0),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def _average(part: Tensor, whole: Tensor, chosen: Tensor) -> float | None:
    quotients = part[chosen].to(torch.float64) / whole[chosen]
    return float(quotients.mean()) if len(quotients) else None


def class_attributes(
    probabilities: Sequence[Tensor],
    labels: Tensor,
    names: Sequence[str],
    classes: Sequence[Sequence[str]],
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Measure attributes of several classes by the two evaluations of PatchIt on PARSE-27k.

    Classification: ``accuracy`` and ``mber``, the means over the attributes of the share named
    rightly and of the balanced error rate, which is the mean error of the classes present.
    Retrieval: ``map``, the mean over the two-class attributes (those of which both classes are
    present) of the 11-point average precision of class 1, the positive one.

    Whether N/A is left out (label -1) or a class like the others is said by labels and classes;
    the paper leaves it out of the retrieval and has it as a class in the classification.

    Source: Sudowe & Leibe, "PatchIt", BMVC 2016; Sudowe, Spitzer & Leibe, "Person Attribute
    Recognition with a Jointly-trained Holistic CNN Model", ICCV Workshops 2015.

    Args:
        probabilities: an attribute each, floating ``[N, K_a]``.
        labels: integers ``[N, A]`` from 0 to K_a - 1; -1 leaves the answer out.
        names: A attributes' names.
        classes: an attribute each, K_a names.

    Returns:
        The figures, without those that cannot be computed; and a row an attribute with
        ``attribute``, ``count`` (of labels), ``accuracy``, ``ber``, ``ap`` and ``recalls``, by
        the classes' names; None where a class that it takes is absent.

    Raises:
        InputError: other shapes or types, a label out of range, NaN, numbers of attributes or of
            classes that do not fit.
    """
    check_shape("labels", labels, None, None)
    check_names("names", names, labels.shape[1])
    for what, given in (("probabilities", probabilities), ("classes", classes)):
        if len(given) != len(names):
            raise InputError(f"{what}: of {len(given)} attributes: must be of {len(names)}")
    rows = [
        _class_row(name, probabilities[a], labels[:, a], classes[a]) for a, name in enumerate(names)
    ]
    figures = {
        "accuracy": mean(row["accuracy"] for row in rows),
        "mber": mean(row["ber"] for row in rows),
        "map": mean(row["ap"] for row in rows),
    }
    return known_only(figures), rows


def _class_row(
    name: str, probabilities: Tensor, labels: Tensor, classes: Sequence[str]
) -> dict[str, Any]:
    check_names(f"{name}: classes", classes, len(classes) or 1)
    check_class_input(name, probabilities, labels, len(classes))
    known = labels >= 0
    probabilities, labels = probabilities[known], labels[known].long()
    counts = count_classes(probabilities, labels)
    recalls = counts.recalls
    balanced = mean(recalls)
    ap = None
    if len(classes) == 2 and bool((counts.there > 0).all()):
        ap = eleven_point_ap(probabilities[:, 1], labels)
    return {
        "attribute": name,
        "count": len(labels),
        "accuracy": counts.accuracy,
        "ber": None if balanced is None else 1 - balanced,
        "ap": ap,
        "recalls": dict(zip(classes, recalls, strict=True)),
    }
