"""Average precision of many rankings at once.

Samples with equal scores cannot be told apart, so a ranking is cut only between different scores.
No metric here depends on the order in which samples are given.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from patchit_hf.metrics.checks import check_integers, check_numbers, check_shape


class Cuts(NamedTuple):
    """Running counts at each position of rankings, best score first.

    Attributes:
        hits: int64 ``[A, N]``, positives up to this position.
        precision: float64 ``[A, N]``, their fraction of the known labels up to this position.
        valid: bool ``[A, N]``, whether a ranking can be cut after this position, because the next
            score differs.
        positives: int64 ``[A]``.
    """

    hits: Tensor
    precision: Tensor
    valid: Tensor
    positives: Tensor


def average_precision(scores: Tensor, labels: Tensor) -> float | None:
    """Return the area under the steps of the precision-recall curve.

    The sum over cuts of (recall gained) x (precision), without interpolation, as in
    ``sklearn.metrics.average_precision_score``.

    Args:
        scores: floating ``[N]``, higher means more likely positive.
        labels: ``[N]``, integers 0 or 1.

    Returns:
        In [0, 1]; None without positives.

    Raises:
        InputError: for other shapes, types or labels, or a score that is NaN.

    Example:
        >>> average_precision(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([1, 0, 0]))
        1.0
    """
    _check(scores, labels)
    return average_precisions(scores[None], labels[None])[0]


def eleven_point_ap(scores: Tensor, labels: Tensor) -> float | None:
    """Return the mean of the best precisions at recalls of at least 0, 0.1, ..., 1.

    The metric of PASCAL VOC 2005 to 2009 (Everingham et al., IJCV 2010, section 4.2) and of
    PatchIt's retrieval evaluation on PARSE-27k.

    Args:
        scores: floating ``[N]``, higher means more likely positive.
        labels: ``[N]``, integers 0 or 1.

    Returns:
        In [0, 1]; None without positives.

    Raises:
        InputError: for other shapes, types or labels, or a score that is NaN.

    Example:
        >>> eleven_point_ap(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([0, 1, 0]))
        0.5
    """
    _check(scores, labels)
    cuts = rank(scores[None], labels[None])
    hits, positives = cuts.hits[0], int(cuts.positives[0])
    if not positives:
        return None
    precision = cuts.precision[0].where(cuts.valid[0], 0)
    # In integers: 3 of 10 reach a recall of 0.3, although 3 * 0.1 > 0.3 in floating point.
    best = [precision[hits * 10 >= tenth * positives].max() for tenth in range(11)]
    return float(torch.stack(best).mean())


def average_precisions(scores: Tensor, labels: Tensor) -> list[float | None]:
    """Return ``average_precision`` of each row of scores and labels ``[A, N]``.

    A label of -1 leaves its sample out. The input is not checked.
    """
    cuts = rank(scores, labels)
    if not cuts.hits.shape[1]:
        return [None] * len(cuts.positives)
    reached = cuts.hits.where(cuts.valid, 0)
    before = torch.zeros_like(reached)
    before[:, 1:] = reached.cummax(1).values[:, :-1]
    gained = (reached - before).where(cuts.valid, 0)
    areas = (gained * cuts.precision).sum(1) / cuts.positives.clamp(min=1)
    positives = cuts.positives.tolist()
    return [area if n else None for area, n in zip(areas.tolist(), positives, strict=True)]


def rank(scores: Tensor, labels: Tensor) -> Cuts:
    """Sort rows of scores ``[A, N]`` and count labels ``[A, N]`` (1, 0, or -1 for unknown)."""
    ranked, order = scores.sort(dim=1, descending=True)
    labels = labels.gather(1, order)
    hits = (labels == 1).cumsum(1)
    seen = (labels >= 0).cumsum(1)
    valid = torch.ones_like(hits, dtype=torch.bool)
    valid[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    return Cuts(hits, hits.to(torch.float64) / seen.clamp(min=1), valid, (labels == 1).sum(1))


def _check(scores: Tensor, labels: Tensor) -> None:
    check_shape("scores", scores, None)
    check_shape("labels", labels, len(scores))
    check_numbers("scores", scores)
    check_integers("labels", labels, 0, 1)
