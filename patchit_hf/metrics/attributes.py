"""Attributes of people: many yes-or-no questions, or several questions with a few classes each.

Toolboxes for yes-or-no attributes differ on images whose quotient is 0 / 0. RAP's own code leaves
such an image out of the metric concerned, ports of it leave out every image without a positive
label, and later ones count 0 / 0 as 0. Here accuracy and recall follow RAP. Precision counts 0
where there is a positive label but no positive prediction, as all but RAP's code do. If every image
has a positive label, as in PETA and PA-100K, all of them agree except in that case. Source: Li et
al., "A Richly Annotated Dataset for Pedestrian Attribute Recognition", 2016.
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
    """Compute the metrics of yes-or-no attributes by the conventions of PETA, RAP and PA-100K.

    A score above 0.5 is a positive prediction. Averaged over the attributes that have both a
    positive and a negative label:

    - ``ma``: (true positive rate + true negative rate) / 2;
    - ``map``: average precision.

    Averaged over images, by their positive labels and positive predictions:

    - ``accuracy``: |labels and predictions| / |labels or predictions|;
    - ``precision``: |labels and predictions| / |predictions|, 0 if there are labels but no
      predictions;
    - ``recall``: |labels and predictions| / |labels|;
    - ``f1``: the harmonic mean of the two averages (not the average of the images' F1).

    An image with neither positive labels nor positive predictions is left out of ``accuracy`` and
    ``precision``; one without positive labels is left out of ``recall``. An unknown label is left
    out everywhere: it counts neither as a label nor as a prediction.

    Args:
        scores: probabilities, floating ``[N, A]``.
        labels: integers ``[N, A]``: 1 yes, 0 no, -1 unknown.
        names: names of the A attributes.

    Returns:
        The metrics that can be computed, and one row per attribute with ``attribute``,
        ``positives``, ``negatives``, ``tpr``, ``tnr``, ``ma``, ``ap``. An entry is None if a class
        that it needs is absent (``ap`` needs both).

    Raises:
        InputError: for a wrong shape or type, another label, NaN, or a wrong number of names.

    Example:
        >>> scores = torch.tensor([[0.9, 0.2], [0.4, 0.7]])
        >>> labels = torch.tensor([[1, 0], [1, 1]])
        >>> metrics, rows = binary_attributes(scores, labels, ["female", "backpack"])
        >>> metrics["accuracy"], metrics["ma"]  # "female" has no negative label
        (0.75, 1.0)
    """
    check_shape("scores", scores, None, None)
    check_shape("labels", labels, *scores.shape)
    check_names("names", names, scores.shape[1])
    check_numbers("scores", scores)
    check_integers("labels", labels, -1, 1)
    scores, labels = scores.T.contiguous(), labels.T.contiguous()
    shown, said = labels == 1, scores > THRESHOLD
    rows = _binary_rows(scores, labels, said, names)
    metrics = {
        "ma": mean(row["ma"] for row in rows),
        **_image_metrics(shown, said & (labels >= 0)),
        "map": mean(row["ap"] for row in rows),
    }
    return known_only(metrics), rows


def _binary_rows(
    scores: Tensor, labels: Tensor, said: Tensor, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return one row per attribute of scores, labels and predictions ``[A, N]``."""
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


def _image_metrics(shown: Tensor, said: Tensor) -> dict[str, float | None]:
    """Return the metrics over images of labels and predictions, bool ``[A, N]``."""
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
    """Compute the metrics of attributes with several classes, as PatchIt does on PARSE-27k.

    Classification: ``accuracy`` and ``mber``, averaged over the attributes. ``mber`` is the
    balanced error rate, the mean error of the classes that are present. Retrieval: ``map``, the
    mean 11-point average precision of class 1 (the positive one), over the two-class attributes of
    which both classes are present.

    Labels and classes decide how N/A is treated: label -1 leaves it out, or it is a class of its
    own. The paper leaves it out of the retrieval and makes it a class in the classification.

    Source: Sudowe & Leibe, "PatchIt", BMVC 2016; Sudowe, Spitzer & Leibe, "Person Attribute
    Recognition with a Jointly-trained Holistic CNN Model", ICCV Workshops 2015.

    Args:
        probabilities: one tensor per attribute, floating ``[N, K_a]``.
        labels: integers ``[N, A]`` from 0 to K_a - 1; -1 is left out.
        names: names of the A attributes.
        classes: for each attribute, the names of its K_a classes.

    Returns:
        The metrics that can be computed, and one row per attribute with ``attribute``, ``count``
        (of labels), ``accuracy``, ``ber``, ``ap`` and ``recalls`` by class name. An entry is None
        if a class that it needs is absent.

    Raises:
        InputError: for a wrong shape or type, a label out of range, NaN, or numbers of attributes
            or classes that do not match.

    Example:
        >>> probabilities = [torch.tensor([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])]
        >>> labels = torch.tensor([[0], [1], [1]])
        >>> metrics, rows = class_attributes(probabilities, labels, ["hat"], [["no", "yes"]])
        >>> metrics["mber"], rows[0]["recalls"]
        (0.25, {'no': 1.0, 'yes': 0.5})
    """
    check_shape("labels", labels, None, None)
    check_names("names", names, labels.shape[1])
    for what, given in (("probabilities", probabilities), ("classes", classes)):
        if len(given) != len(names):
            raise InputError(f"{what}: {len(given)} attributes: must be {len(names)}, one per name")
    rows = [
        _class_row(name, probabilities[a], labels[:, a], classes[a]) for a, name in enumerate(names)
    ]
    metrics = {
        "accuracy": mean(row["accuracy"] for row in rows),
        "mber": mean(row["ber"] for row in rows),
        "map": mean(row["ap"] for row in rows),
    }
    return known_only(metrics), rows


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
