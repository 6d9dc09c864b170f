"""How far a metric can be trusted: percentile intervals of resampled rows.

Source: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from patchit_hf.common.errors import InputError

Statistic = Callable[[Tensor], Mapping[str, float | None]]


def bootstrap(
    statistic: Statistic, count: int, *, samples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return confidence intervals of metrics from rows resampled with replacement.

    Args:
        statistic: computes metrics from row numbers, int64 ``[count]``. A metric that it cannot
            compute is None or missing; that sample does not count for it.
        count: number of rows. Rows that belong together (the images of one person) must be one row.
        samples: number of resamplings.
        level: fraction of the samples that lies within an interval.
        seed: seed of the draws; the same seed and count give the same rows.

    Returns:
        The lower and upper percentile of each metric that any sample gave.

    Raises:
        InputError: if count or samples is below 1, level is not between 0 and 1, or a metric is
            NaN.

    Example:
        >>> hits = torch.tensor([1.0, 1.0, 1.0, 0.0])
        >>> bootstrap(lambda rows: {"accuracy": float(hits[rows].mean())}, len(hits), samples=200)
        {'accuracy': (0.25, 1.0)}
    """
    _check(count, samples, level)
    generator = torch.Generator().manual_seed(seed)
    metrics: dict[str, list[float]] = {}
    for _ in range(samples):
        rows = torch.randint(count, (count,), generator=generator)
        for key, value in statistic(rows).items():
            if value is not None:
                metrics.setdefault(key, []).append(_number(key, value))
    tails = (1 - level) / 2, (1 + level) / 2
    intervals = {key: np.quantile(values, tails).tolist() for key, values in metrics.items()}
    return {key: (low, high) for key, (low, high) in intervals.items()}


def _number(key: str, value: float) -> float:
    if math.isnan(value):
        raise InputError(f"{key}: NaN: must be a number, or None where it cannot be computed")
    return value


def _check(count: int, samples: int, level: float) -> None:
    for name, number in (("count", count), ("samples", samples)):
        if number < 1:
            raise InputError(f"{name}={number}: must be at least 1")
    if not 0 < level < 1:
        raise InputError(f"level={level}: must be between 0 and 1")
