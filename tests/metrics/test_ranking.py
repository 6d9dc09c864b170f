"""Average precision: hand-worked rankings, naive loops, scikit-learn and torchmetrics."""

import importlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from patchit_hf.common.errors import InputError
from patchit_hf.metrics import average_precision, eleven_point_ap
from patchit_hf.metrics.ranking import average_precisions

BOTH = pytest.mark.parametrize("measure", [average_precision, eleven_point_ap])
# Few different scores, so that ties are the rule.
RANKINGS = st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 1)), min_size=1, max_size=30)


def points(scores, labels):
    """Precision and recall at every score that occurs, straight from the definition."""
    for score in sorted(set(scores), reverse=True):
        above = [label for s, label in zip(scores, labels, strict=True) if s >= score]
        yield sum(above) / len(above), sum(above) / sum(labels)


def naive_ap(scores, labels):
    area = before = 0.0
    for precision, recall in points(scores, labels):
        area += (recall - before) * precision
        before = recall
    return area


def naive_eleven(scores, labels):
    curve = list(points(scores, labels))
    best = [max(p for p, r in curve if r >= t / 10 - 1e-9) for t in range(11)]
    return sum(best) / 11


def tensors(ranking):
    scores, labels = zip(*ranking, strict=True)
    return torch.tensor(scores, dtype=torch.float32), torch.tensor(labels)


def test_by_hand():
    # Ranked: yes no yes no. Precision 1 at recall 1/2, 2/3 at recall 1.
    scores, labels = torch.tensor([0.8, 0.1, 0.4, 0.6]), torch.tensor([1, 0, 1, 0])
    assert average_precision(scores, labels) == pytest.approx((1 + 2 / 3) / 2)
    # Recalls 0 to 0.5 see 1, 0.6 to 1 see 2/3.
    assert eleven_point_ap(scores, labels) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


@BOTH
def test_limits(measure):
    scores = torch.tensor([0.9, 0.8, 0.2])
    assert measure(scores, torch.tensor([1, 1, 0])) == 1
    assert measure(scores, torch.tensor([1, 1, 1])) == 1
    assert measure(scores, torch.tensor([0, 0, 0])) is None
    assert measure(scores, torch.tensor([0, 0, 1])) == pytest.approx(1 / 3)
    assert measure(torch.full((4,), 0.5), torch.tensor([1, 0, 0, 0])) == 0.25, "one tie"
    assert measure(scores[:1], torch.tensor([1])) == 1
    assert measure(scores[:1], torch.tensor([0])) is None
    assert measure(torch.zeros(0), torch.zeros(0, dtype=torch.long)) is None
    assert measure(scores, torch.tensor([True, True, False])) == 1


def test_recall_of_three_in_ten_reaches_three_tenths():
    # 3 * 0.1 > 3 / 10 in floating point: compared naively, recall 0.3 would see the later 3/10.
    labels = torch.tensor([1] * 3 + [0] * 90 + [1] * 7)
    precision = 10 / 100
    expected = (4 * 1 + 7 * precision) / 11
    assert eleven_point_ap(-torch.arange(100.0), labels) == pytest.approx(expected)


@settings(deadline=None)
@given(RANKINGS)
def test_as_naive_loops(ranking):
    scores, labels = tensors(ranking)
    if not labels.any():
        assert average_precision(scores, labels) is None
        assert eleven_point_ap(scores, labels) is None
        return
    s, y = scores.tolist(), labels.tolist()
    assert average_precision(scores, labels) == pytest.approx(naive_ap(s, y))
    assert eleven_point_ap(scores, labels) == pytest.approx(naive_eleven(s, y))


@settings(deadline=None)
@given(RANKINGS, st.randoms(use_true_random=False))
def test_order_of_samples_and_monotone_transforms_change_nothing(ranking, random):
    scores, labels = tensors(ranking)
    places = list(range(len(ranking)))
    random.shuffle(places)
    for measure in (average_precision, eleven_point_ap):
        value = measure(scores, labels)
        assert measure(scores[places], labels[places]) == value
        assert measure(scores.exp() * 3 - 7, labels) == value
        assert measure(scores**3, labels) == value


@pytest.mark.parametrize("digits", [1, 6])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
def test_as_sklearn(digits, share):
    rng = np.random.default_rng(0)
    labels = (rng.random(2000) < share).astype(int)
    scores = (rng.normal(size=2000) + labels).round(digits).astype(np.float32)
    assert average_precision(torch.tensor(scores), torch.tensor(labels)) == pytest.approx(
        average_precision_score(labels, scores)
    )


def test_as_torchmetrics():
    classification = importlib.import_module("torchmetrics.functional.classification")
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(500, generator=generator)
    labels = torch.randint(0, 2, (500,), generator=generator)
    theirs = classification.binary_average_precision(scores, labels)
    assert average_precision(scores, labels) == pytest.approx(float(theirs))


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(0, 12), st.integers(0, 1000))
def test_many_at_once_leave_out_the_unknown(rankings, samples, seed):
    rng = np.random.default_rng(seed)
    scores = torch.tensor(rng.integers(0, 5, (rankings, samples)), dtype=torch.float64)
    labels = torch.tensor(rng.integers(-1, 2, (rankings, samples)))
    single = [average_precision(s[y >= 0], y[y >= 0]) for s, y in zip(scores, labels, strict=True)]
    assert average_precisions(scores, labels) == pytest.approx(single)


@BOTH
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (torch.zeros(3), torch.zeros(2, dtype=torch.long), r"labels of shape \[2\].*\[3\]"),
        (torch.zeros(3, 1), torch.zeros(3, dtype=torch.long), r"scores of shape \[3, 1\].*\[any\]"),
        (torch.zeros(3), torch.tensor([0, 1, -1]), "labels: value -1: must be from 0 to 1"),
        (torch.zeros(3), torch.tensor([0, 1, 2]), "labels: value 2"),
        (torch.zeros(3), torch.zeros(3), "labels of type torch.float32"),
        (torch.zeros(3, dtype=torch.long), torch.tensor([0, 1, 1]), "scores of type torch.int64"),
        (torch.tensor([0.1, math.nan]), torch.tensor([0, 1]), "scores: 1 of 2 values are NaN"),
    ],
)
def test_refuses(measure, scores, labels, message):
    with pytest.raises(InputError, match=message):
        measure(scores, labels)
