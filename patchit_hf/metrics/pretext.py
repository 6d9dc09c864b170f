"""Metrics of the pretext task and of features; they need no labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def place_metrics(confusion: Tensor, boxes: Tensor) -> dict[str, Any]:
    """Return the mean error in cells, and accuracy by row and by column.

    Args:
        confusion: counts ``[classes, classes]``, true cell by predicted cell.
        boxes: the cells, xyxy ``[classes, 4]``, in pixels.

    Example:
        >>> boxes = torch.tensor([[0, 0, 32, 32], [32, 0, 64, 32]])
        >>> place_metrics(torch.tensor([[3, 1], [0, 4]]), boxes)
        {'error_distance': 0.125, 'row_accuracy': [0.875], 'column_accuracy': [0.75, 1.0]}
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
    """Return the effective rank of features: exp of the entropy of their singular values.

    It lies between 1 (the network sees no difference between images) and min(N, C).

    Source: Garrido et al., "RankMe", ICML 2023.

    Args:
        features: ``[N, C]``.

    Example:
        >>> round(rank_me(torch.eye(4)), 2), round(rank_me(torch.ones(4, 4)), 2)
        (4.0, 1.0)
    """
    if not bool(features.isfinite().all()):
        return float("nan")
    values = torch.linalg.svdvals(features.float())
    shares = values / values.sum().clamp(min=1e-12) + 1e-7
    return float(torch.exp(-(shares * shares.log()).sum()))


def spread(features: Tensor) -> float:
    """Return the standard deviation of features ``[N, C]`` over images, relative to their size.

    It lies between 0 (all images have the same features) and 1.

    Example:
        >>> spread(torch.ones(3, 2)), spread(torch.tensor([[1.0], [-1.0]]))
        (0.0, 1.0)
    """
    scale = features.square().mean().sqrt().clamp(min=1e-12)
    return float((features - features.mean(0)).square().mean().sqrt() / scale)
