"""Bootstrap: what is drawn, what the intervals cover, and what pairing is good for."""

import math

import numpy as np
import pytest
import torch

from patchit_hf.common.errors import InputError
from patchit_hf.metrics import binary_attributes, bootstrap

VALUES = torch.tensor(np.random.default_rng(0).normal(3.0, 2.0, 400))


def average(rows):
    return {"mean": float(VALUES[rows].mean())}


def test_as_a_naive_loop():
    drawn = []

    def statistic(rows):
        drawn.append(rows)
        return average(rows)

    low, high = bootstrap(statistic, 400, samples=200, level=0.9)["mean"]
    means = sorted(float(VALUES[rows].mean()) for rows in drawn)
    assert len(drawn) == 200
    assert low == pytest.approx(np.percentile(means, 5))
    assert high == pytest.approx(np.percentile(means, 95))
    for rows in drawn:
        assert rows.dtype == torch.int64
        assert rows.shape == (400,)
        assert 0 <= int(rows.min()) <= int(rows.max()) < 400
    # With replacement, 1 - 1/e of the rows are in a sample.
    share = np.mean([len(rows.unique()) / 400 for rows in drawn])
    assert share == pytest.approx(1 - 1 / math.e, abs=0.01)


def test_the_interval_of_a_mean_is_the_normal_one():
    low, high = bootstrap(average, 400, samples=2000)["mean"]
    error = float(VALUES.std()) / 20
    assert low == pytest.approx(float(VALUES.mean()) - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(float(VALUES.mean()) + 1.96 * error, abs=0.15 * error)


def test_seeds():
    first = bootstrap(average, 400, samples=20, seed=1)
    assert bootstrap(average, 400, samples=20, seed=1) == first
    assert bootstrap(average, 400, samples=20, seed=2) != first
    state = torch.get_rng_state()
    bootstrap(average, 400, samples=2)
    assert torch.equal(torch.get_rng_state(), state), "nobody else's numbers are used up"


def test_what_cannot_be_computed_is_left_out():
    def statistic(rows):
        first = int(rows[0])
        figures = {"always": 1.0, "never": None, "even": 2.0 if first % 2 == 0 else None}
        return figures | ({"there": 3.0} if first > 5 else {})

    intervals = bootstrap(statistic, 10, samples=50)
    assert intervals == {"always": (1.0, 1.0), "even": (2.0, 2.0), "there": (3.0, 3.0)}


def test_one_row():
    assert bootstrap(lambda rows: {"x": float(rows.sum())}, 1, samples=3) == {"x": (0.0, 0.0)}


def test_of_attributes():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 2, (60, 4), generator=generator)
    scores = (labels * 0.2 + torch.rand(60, 4, generator=generator) * 0.8).clamp(0, 1)

    def statistic(rows):
        return binary_attributes(scores[rows], labels[rows], "abcd")[0]

    whole = statistic(torch.arange(60))
    intervals = bootstrap(statistic, 60, samples=100)
    assert set(intervals) == set(whole)
    for key, (low, high) in intervals.items():
        assert low <= whole[key] <= high, key
        assert low < high


def test_refuses():
    for options, message in (
        ({"count": 0}, "count=0: must be at least 1"),
        ({"count": 5, "samples": 0}, "samples=0: must be at least 1"),
        ({"count": 5, "level": 1.0}, "level=1.0: must be between 0 and 1"),
        ({"count": 5, "level": 95}, "level=95"),
    ):
        with pytest.raises(InputError, match=message):
            bootstrap(average, **options)
    with pytest.raises(InputError, match="x: NaN"):
        bootstrap(lambda rows: {"x": math.nan}, 5)
