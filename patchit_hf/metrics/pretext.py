"""Metrics of the pretext task and of features, which need no label."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def place_metrics(confusion: Tensor, boxes: Tensor) -> dict[str, Any]:
    """Return the mean error in cells, and accuracy by row and by column.

    Args:
        confusion: counts ``[classes, classes]``, true by answered.
        boxes: xyxy ``[classes, 4]``, in pixels.
    """
    middle = (boxes[:, :2] + boxes[:, 2:]).float() / 2
    side = float((boxes[:, 3] - boxes[:, 1]).min())
    distance = torch.cdist(middle, middle) / side
    counts = confusion.float()
    values: dict[str, Any] = {
        "error_distance": round(float((counts * distance).sum() / counts.sum().clamp(min=1)), 4)
    }
    right, asked = counts.diagonal(), counts.sum(1)
    for name, axis in (("row_accuracy", 1), ("column_accuracy", 0)):
        lines = boxes[:, axis].unique()
        shares = [
            float(
                right[boxes[:, axis] == line].sum() / asked[boxes[:, axis] == line].sum().clamp(1)
            )
            for line in lines
        ]
        values[name] = [round(share, 4) for share in shares]
    return values


def rank_me(features: Tensor) -> float:
    """Return the effective rank of features, exp of the entropy of their singular values.

    Source: Garrido et al., "RankMe", ICML 2023. Between 1 (all pictures look alike to the network)
    and min(N, C).

    Args:
        features: ``[N, C]``.
    """
    values = torch.linalg.svdvals(features.float())
    shares = values / values.sum().clamp(min=1e-12) + 1e-7
    return float(torch.exp(-(shares * shares.log()).sum()))


def spread(features: Tensor) -> float:
    """Return the deviation of features ``[N, C]`` over pictures, relative to their size.

    0 where every picture has the same features, at most 1.
    """
    scale = features.square().mean().sqrt().clamp(min=1e-12)
    return float((features - features.mean(0)).square().mean().sqrt() / scale)
