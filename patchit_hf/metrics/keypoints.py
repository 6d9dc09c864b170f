"""Pose: how close predicted joints are to the labelled ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from patchit_hf.common.errors import InputError
from patchit_hf.metrics.checks import check_names, check_numbers, check_shape

# COCO's thresholds, computed as in its own code.
OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)


def pck_hits(predicted: Tensor, truth: Tensor, reference: Tensor, threshold: float) -> Tensor:
    """Decide which joints are found: at most ``threshold`` x reference away from the label.

    The reference of PCK is the longer side of the person's box (Yang & Ramanan, PAMI 2013), on LSP
    the length of the torso; that of PCKh is the length of the head (Andriluka et al., CVPR 2014).

    Args:
        predicted: ``[N, J, 2]`` in px; a joint that is not finite is a miss.
        truth: ``[N, J, 3]``: x, y in px and visible (above 0).
        reference: ``[N]`` in px.
        threshold: fraction of the reference, above 0.

    Returns:
        float32 ``[N, J]``: 1 hit, 0 miss, NaN without a visible label or a reference above 0.

    Raises:
        InputError: if shapes do not match, a visible joint has no finite position, or threshold is
            not above 0.

    Example:
        >>> predicted = torch.tensor([[[10.0, 10.0], [30.0, 30.0]]])
        >>> truth = torch.tensor([[[11.0, 10.0, 1.0], [10.0, 10.0, 1.0]]])
        >>> pck_hits(predicted, truth, torch.tensor([20.0]), 0.2)
        tensor([[1., 0.]])
    """
    _check_joints(predicted, truth)
    check_shape("reference", reference, len(truth))
    if not threshold > 0:
        raise InputError(f"threshold={threshold}: must be above 0")
    squared = _squared_distances(predicted, truth)
    reference = reference.double()[:, None]
    known = _visible(truth) & (reference > 0) & reference.isfinite()
    hits = (squared.sqrt() <= threshold * reference).float()
    return hits.masked_fill_(~known, torch.nan)


def pck_summary(
    hits: Tensor, joints: Sequence[str]
) -> tuple[float | None, dict[str, float | None]]:
    """Return the fraction of joints found, over all that count and by joint.

    Args:
        hits: ``[N, J]`` from ``pck_hits``, or some rows of it.
        joints: names of the J joints.

    Returns:
        The fraction over all joints, and a fraction for each; None if no joint counts.

    Raises:
        InputError: if the shapes do not match.

    Example:
        >>> hits = torch.tensor([[1.0, 0.0], [1.0, torch.nan]])
        >>> total, by_joint = pck_summary(hits, ["head", "hip"])
        >>> by_joint
        {'head': 1.0, 'hip': 0.0}
    """
    check_shape("hits", hits, None, len(joints))
    check_names("joints", joints, len(joints))
    counts = ~hits.isnan()
    found = hits.nan_to_num(0).double()
    total = float(found.sum() / counts.sum()) if bool(counts.any()) else None
    shares: list[float | None] = [
        hit / count if count else None
        for hit, count in zip(found.sum(0).tolist(), counts.sum(0).tolist(), strict=True)
    ]
    return total, dict(zip(joints, shares, strict=True))


def torso_length(truth: Tensor, shoulder: tuple[int, int], hip: tuple[int, int]) -> Tensor:
    """Return the distance from left shoulder to right hip, the torso of LSP's PCK.

    These are joints 10 and 3 of its 14, in the evaluation that MPI Informatics maintains for LSP.

    Args:
        truth: ``[N, J, 3]``: x, y in px and visible.
        shoulder: indices of the left and the right shoulder, in this order.
        hip: indices of the left and the right hip.

    Returns:
        float64 ``[N]`` in px; NaN if either joint is not visible.

    Raises:
        InputError: for another shape, or an index out of range.
    """
    return _length(truth, shoulder[0], hip[1])


def head_length(truth: Tensor, neck: int, head_top: int) -> Tensor:
    """Return the distance from neck to top of the head in px, the head of PCKh.

    (MPII itself takes 0.6 x the diagonal of a labelled head box instead.)

    Args:
        truth: ``[N, J, 3]``: x, y in px and visible.
        neck: index of the neck.
        head_top: index of the top of the head.

    Returns:
        float64 ``[N]`` in px; NaN if either joint is not visible.

    Raises:
        InputError: for another shape, or an index out of range.

    Example:
        >>> head_length(torch.tensor([[[0.0, 0.0, 1.0], [3.0, 4.0, 1.0]]]), neck=1, head_top=0)
        tensor([5.], dtype=torch.float64)
    """
    return _length(truth, neck, head_top)


def oks(predicted: Tensor, truth: Tensor, area: Tensor, sigmas: Tensor) -> Tensor:
    """Return COCO's object keypoint similarity.

    The mean over the visible joints of exp(-d^2 / (2 area (2 sigma)^2)), where d is the distance.

    Args:
        predicted: ``[N, J, 2]`` in px; a joint that is not finite counts 0.
        truth: ``[N, J, 3]``: x, y in px and visible (above 0).
        area: ``[N]``, the person's area in px^2 (COCO: of its mask), at least 0.
        sigmas: ``[J]``, how much labels of each joint vary, above 0.

    Returns:
        float64 ``[N]`` in [0, 1]; NaN where nothing is visible.

    Raises:
        InputError: if shapes do not match, a visible joint has no finite position, an area is below
            0, a sigma is not above 0, or either is NaN.

    Example:
        >>> truth = torch.tensor([[[10.0, 10.0, 1.0]]])
        >>> oks(truth[..., :2], truth, torch.tensor([900.0]), torch.tensor([0.05]))
        tensor([1.], dtype=torch.float64)
    """
    _check_joints(predicted, truth)
    check_shape("area", area, len(truth))
    check_shape("sigmas", sigmas, truth.shape[1])
    if not bool((area >= 0).all()):
        raise InputError(f"area: {float(area[~(area >= 0)][0])}: must be at least 0 px^2")
    if not bool((sigmas > 0).all()):
        raise InputError(f"sigmas: {float(sigmas[~(sigmas > 0)][0])}: must be above 0")
    visible = _visible(truth)
    spread = 2 * (2 * sigmas.double()) ** 2 * (area.double()[:, None] + np.spacing(1.0))
    near = (-_squared_distances(predicted, truth) / spread).exp().where(visible, 0)
    similarity: Tensor = near.sum(1) / visible.sum(1)  # 0 / 0 gives the documented NaN
    return similarity


def oks_ap(oks: Tensor, scores: Tensor) -> dict[str, float]:
    """Return COCO's average precision of poses, with one person and one prediction per image.

    A prediction is correct at each threshold that its similarity reaches. Precision is made
    non-increasing in recall and averaged over the recalls 0, 0.01, ..., 1.

    Args:
        oks: ``[N]`` from ``oks``; NaN leaves an image out, as COCO does without labelled joints.
        scores: floating ``[N]``, confidence of the predictions; ties keep their order.

    Returns:
        ``ap`` (mean over the thresholds 0.50, 0.55, ..., 0.95), ``ap50``, ``ap75``; empty if
        nothing is left.

    Raises:
        InputError: if shapes do not match, or a score is NaN.

    Example:
        >>> oks_ap(torch.tensor([0.8, 0.3]), torch.tensor([0.9, 0.1]))["ap50"]
        0.504950495049505
    """
    check_shape("oks", oks, None)
    check_shape("scores", scores, len(oks))
    check_numbers("scores", scores)
    known = ~oks.isnan()
    if not bool(known.any()):
        return {}
    order = scores[known].argsort(descending=True, stable=True)
    ranked = oks[known][order].double().numpy()
    areas = [_area(ranked >= min(threshold, 1 - 1e-10)) for threshold in OKS_THRESHOLDS]
    return {"ap": float(np.mean(areas)), "ap50": areas[0], "ap75": areas[5]}


def _area(right: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    """Return COCO's interpolated average precision of predictions bool ``[N]``, best first."""
    hits = right.cumsum()
    recall = hits / len(right)
    precision = hits / np.arange(1, len(right) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(recall, RECALLS)].mean())


def _length(truth: Tensor, first: int, second: int) -> Tensor:
    check_shape("truth", truth, None, None, 3)
    for joint in (first, second):
        if not 0 <= joint < truth.shape[1]:
            raise InputError(f"joint {joint}: must be from 0 to {truth.shape[1] - 1}")
    ends = truth[:, [first, second]].double()
    lengths: Tensor = torch.linalg.vector_norm(ends[:, 0, :2] - ends[:, 1, :2], dim=1)
    return lengths.masked_fill_(~_visible(ends).all(1), torch.nan)


def _visible(truth: Tensor) -> Tensor:
    return truth[..., 2] > 0


def _squared_distances(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return float64 ``[N, J]``; infinite where nothing finite was predicted."""
    squared = (predicted.double() - truth[..., :2].double()).square().sum(2)
    return squared.nan_to_num(nan=torch.inf, posinf=torch.inf)


def _check_joints(predicted: Tensor, truth: Tensor) -> None:
    check_shape("truth", truth, None, None, 3)
    check_shape("predicted", predicted, len(truth), truth.shape[1], 2)
    placed = truth[..., :2].isfinite().all(2)
    if bad := int((_visible(truth) & ~placed).sum()):
        raise InputError(f"truth: {bad} visible joints have no finite position: must have one")
