"""One question of several classes, against hand-worked values, scikit-learn and torchmetrics."""

import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    precision_score,
    recall_score,
)

from patchit_hf.common.errors import InputError
from patchit_hf.metrics import classification

CLASSES = ["sit", "run", "jump", "call"]


def answers(n, seed=0, low=0):
    rng = np.random.default_rng(seed)
    probabilities = torch.tensor(rng.dirichlet(np.ones(4), n), dtype=torch.float32)
    return probabilities, torch.tensor(rng.integers(low, 4, n))


def test_by_hand():
    probabilities = torch.tensor(
        [[0.6, 0.4, 0.0], [0.5, 0.5, 0.0], [0.2, 0.8, 0.0], [0.0, 0.1, 0.9]]
    )
    summary, rows = classification(probabilities, torch.tensor([0, 1, 1, -1]), ["a", "b", "c"])
    assert summary == pytest.approx({"accuracy": 2 / 3, "balanced_accuracy": 0.75, "map": 1.0})
    assert rows == [
        {"class": "a", "count": 1, "recall": 1.0, "precision": 0.5, "ap": 1.0},
        {"class": "b", "count": 2, "recall": 0.5, "precision": 1.0, "ap": 1.0},
        {"class": "c", "count": 0, "recall": None, "precision": None, "ap": None},
    ]


def test_as_sklearn():
    probabilities, labels = answers(400, low=-1)
    summary, rows = classification(probabilities, labels, CLASSES)
    p, y = probabilities[labels >= 0].numpy(), labels[labels >= 0].numpy()
    guess = p.argmax(1)
    assert summary == pytest.approx(
        {
            "accuracy": accuracy_score(y, guess),
            "balanced_accuracy": balanced_accuracy_score(y, guess),
            "map": average_precision_score(np.eye(4)[y], p, average="macro"),
        }
    )
    columns = {
        "count": np.bincount(y),
        "recall": recall_score(y, guess, average=None),
        "precision": precision_score(y, guess, average=None),
        "ap": average_precision_score(np.eye(4)[y], p, average=None),
    }
    for key, column in columns.items():
        assert [row[key] for row in rows] == pytest.approx(column.tolist()), key


def test_as_torchmetrics():
    theirs = importlib.import_module("torchmetrics.functional.classification")
    probabilities, labels = answers(300, seed=1, low=-1)
    summary, rows = classification(probabilities, labels, CLASSES)
    options = {"num_classes": 4, "ignore_index": -1}
    aps = theirs.multiclass_average_precision(probabilities, labels, average=None, **options)
    assert [row["ap"] for row in rows] == pytest.approx(aps.tolist())
    for key, average in (("accuracy", "micro"), ("balanced_accuracy", "macro")):
        value = theirs.multiclass_accuracy(probabilities, labels, average=average, **options)
        assert summary[key] == pytest.approx(float(value))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.integers(0, 10**6))
def test_few_samples_as_naive_loops(n, seed):
    probabilities, labels = answers(n, seed, low=-1)
    summary, rows = classification(probabilities, labels, CLASSES)
    pairs = [
        (p.index(max(p)), y) for p, y in zip(probabilities.tolist(), labels.tolist(), strict=True)
    ]
    pairs = [(guess, y) for guess, y in pairs if y >= 0]
    for c, row in enumerate(rows):
        there, named = [g for g, y in pairs if y == c], [y for g, y in pairs if g == c]
        assert row["count"] == len(there)
        assert row["recall"] == (there.count(c) / len(there) if there else None)
        assert row["precision"] == (named.count(c) / len(named) if named else None)
        assert (row["ap"] is None) == (not there)
    if pairs:
        assert summary["accuracy"] == pytest.approx(sum(g == y for g, y in pairs) / len(pairs))
        recalls = [row["recall"] for row in rows if row["recall"] is not None]
        assert summary["balanced_accuracy"] == pytest.approx(sum(recalls) / len(recalls))
    else:
        assert summary == {}
    order = np.random.default_rng(seed).permutation(n)
    assert classification(probabilities[order], labels[order], CLASSES)[1] == rows


def test_one_sample_and_none():
    summary, rows = classification(torch.tensor([[0.3, 0.7]]), torch.tensor([1]), ["a", "b"])
    assert summary == {"accuracy": 1, "balanced_accuracy": 1, "map": 1}
    assert rows[0]["precision"] is None
    for n in (0, 2):
        summary, rows = classification(torch.rand(n, 2), torch.full((n,), -1), ["a", "b"])
        assert summary == {}
        assert rows[0] == {"class": "a", "count": 0, "recall": None, "precision": None, "ap": None}


@pytest.mark.parametrize(
    ("probabilities", "labels", "classes", "message"),
    [
        (torch.rand(3, 2), torch.zeros(3).int(), "abc", r"of shape \[3, 2\].*\[3, 3\]"),
        (torch.rand(4, 2), torch.zeros(3).int(), "ab", r"of shape \[4, 2\].*\[3, 2\]"),
        (torch.rand(3, 2), torch.zeros(3, 1).int(), "ab", r"labels of shape \[3, 1\]"),
        (torch.rand(3, 2), torch.tensor([0, 1, 2]), "ab", "labels: value 2: must be from -1 to 1"),
        (torch.rand(3, 2), torch.tensor([0, 1, -2]), "ab", "labels: value -2"),
        (torch.rand(3, 2), torch.zeros(3).int(), "aa", "classes: 'a' more than once"),
        (torch.rand(3, 0), torch.zeros(3).int(), "", "classes: 0 names"),
        (torch.full((3, 2), torch.nan), torch.zeros(3).int(), "ab", "6 of 6 values are NaN"),
    ],
)  # fmt: skip
def test_refuses(probabilities, labels, classes, message):
    with pytest.raises(InputError, match=message):
        classification(probabilities, labels, classes)
