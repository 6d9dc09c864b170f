"""How close predicted joints are to the labelled ones, by every metric that the joints allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from patchit_hf.downstream.base import Report
from patchit_hf.downstream.keypoints import sigma_of
from patchit_hf.metrics.keypoints import (
    head_length,
    oks,
    oks_ap,
    pck_hits,
    pck_summary,
    torso_length,
)

TORSO = ("left shoulder", "right shoulder", "left hip", "right hip")
HEAD = ("neck", "head top")


def has_torso(joints: list[str]) -> bool:
    """Return whether the joints include a torso.

    Example:
        >>> has_torso(["left hip", "right hip"])
        False
    """
    return all(name in joints for name in TORSO)


def pose_report(predictions: Tensor, targets: Tensor, joints: list[str]) -> Report:
    """Return PCK@0.2 of the torso, PCKh@0.5 of the head, and average precision over OKS.

    Args:
        predictions: x, y and a score, ``[N, J, 3]``.
        targets: x, y, and above 0 if visible, ``[N, J, 3]``.
        joints: names of the J joints; without a torso or a head there is no PCK or PCKh.
    """
    index = {joint: i for i, joint in enumerate(joints)}
    references: list[tuple[str, float, Callable[..., Tensor], tuple[int, ...]]] = []
    if has_torso(joints):
        references.append(("pck", 0.2, _torso, tuple(index[name] for name in TORSO)))
    if all(name in index for name in HEAD):
        references.append(("pckh", 0.5, head_length, tuple(index[name] for name in HEAD)))
    summary: dict[str, float | None] = {}
    table: list[dict[str, Any]] = [{"joint": joint} for joint in joints]
    for name, share, length, ends in references:
        hits = pck_hits(predictions[..., :2], targets, length(targets, *ends), share)
        summary[name], each = pck_summary(hits, joints)
        counted = (~hits.isnan()).sum(0).tolist()
        for row, count in zip(table, counted, strict=True):
            row |= {name: each[row["joint"]], f"{name}_joints": count}
    sigmas = torch.tensor([sigma_of(joint) for joint in joints])
    found = oks(predictions[..., :2], targets, _area(targets), sigmas)
    known = ~found.isnan()
    if bool(known.any()):
        summary |= oks_ap(found[known], predictions[known, :, 2].mean(1))
    return Report({k: v for k, v in summary.items() if v is not None}, table)


def _torso(truth: Tensor, left: int, right: int, left_hip: int, right_hip: int) -> Tensor:
    """Return the length of the torso, of its other diagonal if the first is not visible.

    The first is from the left shoulder to the right hip, as for Leeds Sports Pose.
    """
    first = torso_length(truth, (left, right), (left_hip, right_hip))
    second = torso_length(truth, (right, left), (right_hip, left_hip))
    return torch.where(first.isnan(), second, first)


def _area(truth: Tensor) -> Tensor:
    """Return the area of the box around the visible joints, in square pixels ``[N]``."""
    seen = truth[..., 2:] > 0
    low = truth[..., :2].masked_fill(~seen, torch.inf).amin(1)
    high = truth[..., :2].masked_fill(~seen, -torch.inf).amax(1)
    sides = (high - low).clamp(min=1)
    return torch.where(seen.any(1)[:, 0], sides.prod(1), torch.ones(len(truth)))
