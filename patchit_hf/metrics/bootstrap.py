"""How far a figure can be trusted: percentile intervals of resampled rows.

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
    """Return intervals of figures when the rows are drawn again, with replacement.

    Args:
        statistic: row numbers int64 ``[count]`` to figures. One that it cannot compute is None
            or missing, and that sample does not count for it.
        count: number of rows. Rows that belong together (a person's pictures) are to be one row.
        samples: how often to draw.
        level: share of the samples' figures within the interval.
        seed: of the draws; the same seed and count give the same rows.

    Returns:
        For each figure that any sample gave, its lower and upper percentile.

    Raises:
        InputError: count or samples below 1, a level that is not between 0 and 1, a figure that
            is NaN.
    """
    _check(count, samples, level)
    generator = torch.Generator().manual_seed(seed)
    figures: dict[str, list[float]] = {}
    for _ in range(samples):
        rows = torch.randint(count, (count,), generator=generator)
        for key, value in statistic(rows).items():
            if value is not None:
                figures.setdefault(key, []).append(_number(key, value))
    tails = (1 - level) / 2, (1 + level) / 2
    intervals = {key: np.quantile(values, tails).tolist() for key, values in figures.items()}
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
