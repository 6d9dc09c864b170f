"""Evaluate a comparison's predictions: rows, and differences with their intervals."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import Tensor

from patchit_hf.common.errors import InputError
from patchit_hf.compare.plan import RANDOM
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.metrics.names import short_name


class Tested:
    """The predictions of one seed on the test split, with what a bootstrap needs.

    Args:
        task: the task.
        tensors: ``predictions`` and ``targets``.
        seed: the seed.
    """

    def __init__(self, task: DownstreamTask, tensors: dict[str, Tensor], seed: int) -> None:
        predictions, targets = tensors["predictions"], tensors["targets"]
        self.seed = seed
        self.figures = task.measure(predictions, targets).summary
        self.statistic, self.count = task.resampled(predictions, targets)


def row_of(
    contender: str, fraction: float, records: list[Any], tested: list[Tested], metric: str
) -> dict[str, Any]:
    """Return a row of the results: one contender at one fraction of the labels.

    Args:
        contender: its name.
        fraction: fraction of the labels.
        records: the record of each seed's run.
        tested: the test result of each seed.
        metric: the primary metric.

    Raises:
        InputError: if the metric cannot be computed on the test split.
    """
    if any(metric not in t.figures for t in tested):
        raise InputError(
            f"{contender}: {short_name(metric)} cannot be computed on the test split; "
            "the finetuned models are kept"
        )
    values = [t.figures[metric] for t in tested]
    names = [n for n in tested[0].figures if all(n in t.figures for t in tested)]
    return {
        "contender": contender,
        "fraction": fraction,
        "labels": records[0]["data"]["train_crops"],
        "seeds": [t.seed for t in tested],
        "values": values,
        "mean": statistics.mean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "figures": {n: statistics.mean(t.figures[n] for t in tested) for n in names},
        "seconds": [record["training"]["seconds"] for record in records],
        "hardware": sorted({record["training"]["hardware"] for record in records}),
    }


def add_differences(
    mine: dict[str, dict[str, Any]],
    tested: dict[str, list[Tested]],
    metric: str,
    against: str,
    reference: str | None,
    samples: int,
) -> None:
    """Add differences to a contender, their intervals and shares of the gap to the rows.

    Args:
        mine: rows at one fraction of the labels, by contender.
        tested: the test results of each contender's seeds.
        metric: the primary metric.
        against: the contender that the others are compared with.
        reference: the contender whose lead over random weights is the whole gap, if any; there are
            shares of it only where random weights are what the others are compared with.
        samples: bootstrap samples for the intervals.
    """
    floor = mine[against]["mean"]
    for contender, row in mine.items():
        if contender == against:
            continue
        row["difference"] = row["mean"] - floor
        interval = difference_interval(tested[contender], tested[against], metric, samples)
        if interval:
            row["interval"] = interval
        if against == RANDOM and reference in mine and contender != reference:
            gap = mine[reference]["mean"] - floor
            row["gap_closed"] = row["difference"] / gap if gap > 0 else None


def difference_interval(
    first: list[Tested], second: list[Tested], metric: str, samples: int, seed: int = 0
) -> list[float]:
    """Return the 95 % interval of the difference of two contenders' means, empty if unknown.

    Test rows and seeds are resampled with replacement; both contenders get the same rows.

    Args:
        first: seeds of one contender.
        second: seeds of the other, on the same rows.
        metric: the metric.
        samples: number of resamplings.
        seed: seed of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    count, found = min(t.count for t in (*first, *second)), []
    for _ in range(samples):
        rows = torch.randint(count, (count,), generator=generator)
        means = [_drawn(side, rows, metric, generator) for side in (first, second)]
        known = [value for value in means if value is not None]
        if len(known) == 2:
            found.append(known[0] - known[1])
    if not found:
        return []
    tails = torch.tensor(found, dtype=torch.float64).quantile(
        torch.tensor([0.025, 0.975], dtype=torch.float64)
    )
    return [float(v) for v in tails]


def _drawn(
    side: list[Tested], rows: Tensor, metric: str, generator: torch.Generator
) -> float | None:
    """Return the mean of a metric over resampled seeds, on the given rows."""
    drawn = torch.randint(len(side), (len(side),), generator=generator).tolist()
    once = {i: side[i].statistic(rows).get(metric) for i in set(drawn)}
    values = [value for value in (once[i] for i in drawn) if value is not None]
    return statistics.mean(values) if values else None
