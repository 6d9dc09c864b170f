"""Attributes: PETA's figures and PARSE-27k's, by hand, by loops and by well-kept libraries."""

import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    jaccard_score,
    precision_score,
    recall_score,
)

from patchit_hf.common.errors import InputError
from patchit_hf.metrics import binary_attributes, class_attributes, eleven_point_ap


def scores_and_labels(n, a, low=0, seed=0):
    rng = np.random.default_rng(seed)
    scores = torch.tensor(rng.integers(0, 21, (n, a)) / 20, dtype=torch.float32)
    return scores, torch.tensor(rng.integers(low, 2, (n, a)))


def names(a):
    return [f"attribute {i}" for i in range(a)]


def mean(values):
    values = [v for v in values if v is not None]
    return sum(values) / len(values) if values else None


def naive_binary(scores, labels):
    """The figures of lists of lists, picture by picture and attribute by attribute."""
    rates, aps, accuracies, precisions, recalls = [], [], [], [], []
    for column, answers in zip(zip(*labels, strict=True), zip(*scores, strict=True), strict=True):
        known = [(s, y) for s, y in zip(answers, column, strict=True) if y >= 0]
        yes, no = [s for s, y in known if y == 1], [s for s, y in known if y == 0]
        if yes and no:
            tpr = sum(s > 0.5 for s in yes) / len(yes)
            tnr = sum(s <= 0.5 for s in no) / len(no)
            rates.append((tpr + tnr) / 2)
            aps.append(average_precision_score([y for _, y in known], [s for s, _ in known]))
    for row, answers in zip(labels, scores, strict=True):
        shown = {i for i, y in enumerate(row) if y == 1}
        said = {i for i, s in enumerate(answers) if s > 0.5 and row[i] != -1}
        if shown | said:
            accuracies.append(len(shown & said) / len(shown | said))
            precisions.append(len(shown & said) / len(said) if said else 0.0)
        if shown:
            recalls.append(len(shown & said) / len(shown))
    p, r = mean(precisions), mean(recalls)
    f1 = None if p is None or r is None else 2 * p * r / (p + r) if p + r else 0.0
    figures = {
        "ma": mean(rates), "accuracy": mean(accuracies), "precision": p, "recall": r, "f1": f1,
        "map": mean(aps),
    }  # fmt: skip
    return {key: value for key, value in figures.items() if value is not None}


def test_binary_by_hand():
    scores = torch.tensor([[0.9, 0.2, 0.6], [0.5, 0.7, 0.1], [0.8, 0.3, 0.4]])
    labels = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0]])
    summary, rows = binary_attributes(scores, labels, ["hat", "bag", "coat"])
    # Said: hat and coat of the first, bag of the second (0.5 is no yes), hat of the third.
    assert rows[0] == {
        "attribute": "hat", "positives": 2, "negatives": 1, "tpr": 0.5, "tnr": 0.0, "ma": 0.25,
        "ap": pytest.approx((1 + 2 / 3) / 2),
    }  # fmt: skip
    assert rows[1] == {
        "attribute": "bag", "positives": 2, "negatives": 1, "tpr": 0.5, "tnr": 1.0, "ma": 0.75,
        "ap": 1.0,
    }  # fmt: skip
    assert rows[2] == {
        "attribute": "coat", "positives": 0, "negatives": 3, "tpr": None,
        "tnr": pytest.approx(2 / 3), "ma": None, "ap": None,
    }  # fmt: skip
    precision, recall = (1 / 2 + 1 + 0) / 3, (1 + 1 / 2 + 0) / 3
    assert summary == pytest.approx(
        {
            "ma": 0.5,
            "accuracy": (1 / 2 + 1 / 2 + 0) / 3,
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / (precision + recall),
            "map": (5 / 6 + 1) / 2,
        }
    )


def test_pictures_of_nothing():
    nothing, said = [0.1, 0.1], [0.9, 0.1]
    labels = torch.tensor([[1, 0], [0, 0]])
    with_empty, _ = binary_attributes(torch.tensor([said, nothing]), labels, names(2))
    assert with_empty["accuracy"] == with_empty["precision"] == with_empty["recall"] == 1
    false_alarm, _ = binary_attributes(torch.tensor([said, said]), labels, names(2))
    assert false_alarm["accuracy"] == false_alarm["precision"] == 0.5
    assert false_alarm["recall"] == 1
    silent, _ = binary_attributes(torch.tensor([nothing, nothing]), labels, names(2))
    assert [silent[k] for k in ("accuracy", "precision", "recall", "f1")] == [0, 0, 0, 0]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 5), st.sampled_from([-1, 0]), st.integers(0, 10**6))
def test_binary_as_naive_loops(n, a, low, seed):
    scores, labels = scores_and_labels(n, a, low, seed)
    summary, rows = binary_attributes(scores, labels, names(a))
    assert summary == pytest.approx(naive_binary(scores.tolist(), labels.tolist()))
    assert [row["positives"] for row in rows] == (labels == 1).sum(0).tolist()
    order = np.random.default_rng(seed).permutation(n)
    again = binary_attributes(scores[order], labels[order], names(a))
    assert again[0] == pytest.approx(summary)
    assert again[1] == rows


def test_binary_as_sklearn():
    scores, labels = scores_and_labels(800, 7)
    labels[:, 0] = 1 - labels[:, 1]  # each picture shows something: all conventions agree
    scores[:, 2] = 0.9  # and something is said of each
    summary, rows = binary_attributes(scores, labels, names(7))
    said, truth = (scores > 0.5).int().numpy(), labels.numpy()
    samples = {"average": "samples"}
    assert summary["accuracy"] == pytest.approx(jaccard_score(truth, said, **samples))
    assert summary["precision"] == pytest.approx(precision_score(truth, said, **samples))
    assert summary["recall"] == pytest.approx(recall_score(truth, said, **samples))
    assert summary["map"] == pytest.approx(average_precision_score(truth, scores.numpy()))
    balanced = [balanced_accuracy_score(truth[:, i], said[:, i]) for i in range(7)]
    assert [row["ma"] for row in rows] == pytest.approx(balanced)


def test_binary_as_torchmetrics():
    theirs = importlib.import_module("torchmetrics.functional.classification")
    scores, labels = scores_and_labels(500, 6, low=-1)
    summary, rows = binary_attributes(scores, labels, names(6))
    options = {"num_labels": 6, "ignore_index": -1}
    aps = theirs.multilabel_average_precision(scores, labels, average=None, **options)
    assert [row["ap"] for row in rows] == pytest.approx(aps.tolist())
    assert summary["map"] == pytest.approx(float(aps.mean()))
    tnr = theirs.multilabel_specificity(scores, labels, average=None, **options)
    tpr = theirs.multilabel_recall(scores, labels, average=None, **options)
    assert [row["tnr"] for row in rows] == pytest.approx(tnr.tolist())
    assert [row["tpr"] for row in rows] == pytest.approx(tpr.tolist())


@pytest.mark.parametrize("n", [0, 3])
def test_binary_without_a_known_label(n):
    summary, rows = binary_attributes(torch.rand(n, 2), torch.full((n, 2), -1), names(2))
    assert summary == {}
    assert rows[1] == {
        "attribute": "attribute 1", "positives": 0, "negatives": 0, "tpr": None, "tnr": None,
        "ma": None, "ap": None,
    }  # fmt: skip


def test_binary_of_one_sample():
    summary, rows = binary_attributes(torch.tensor([[0.7, 0.6]]), torch.tensor([[1, 0]]), names(2))
    assert summary == pytest.approx({"accuracy": 0.5, "precision": 0.5, "recall": 1, "f1": 2 / 3})
    assert (rows[0]["tpr"], rows[0]["ma"], rows[0]["ap"]) == (1, None, None)


@pytest.mark.parametrize(
    ("scores", "labels", "names", "message"),
    [
        (torch.rand(4), torch.ones(4).int(), "ab", r"scores of shape \[4\].*\[any, any\]"),
        (torch.rand(4, 2), torch.ones(4, 3).int(), "ab", r"labels of shape \[4, 3\].*\[4, 2\]"),
        (torch.rand(4, 2), torch.ones(4, 2).int(), "abc", "names: 3 names: must be 2"),
        (torch.rand(4, 2), torch.ones(4, 2).int(), "aa", "names: 'a' more than once"),
        (torch.rand(4, 2), 2 * torch.ones(4, 2).int(), "ab", "labels: value 2: .* -1 to 1"),
        (torch.rand(4, 2), torch.ones(4, 2), "ab", "labels of type torch.float32"),
        (torch.rand(4, 2) / 0 * 0, torch.ones(4, 2).int(), "ab", "scores: 8 of 8 values are NaN"),
    ],
)
def test_binary_refuses(scores, labels, names, message):
    with pytest.raises(InputError, match=message):
        binary_attributes(scores, labels, names)


def test_classes_by_hand():
    sex = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.5, 0.5]])
    view = torch.eye(3)[[0, 1, 1, 2]]
    labels = torch.tensor([[0, 0], [1, 1], [0, 2], [-1, -1]])
    summary, rows = class_attributes(
        [sex, view], labels, ["sex", "view"], [["f", "m"], ["front", "back", "side"]]
    )
    assert rows[0] == {
        "attribute": "sex", "count": 3, "accuracy": pytest.approx(2 / 3),
        "ber": pytest.approx((1 / 2 + 0) / 2), "recalls": {"f": 0.5, "m": 1.0},
        "ap": pytest.approx(0.5),  # the one male is second: precision 1/2 at every recall
    }  # fmt: skip
    assert rows[1] == {
        "attribute": "view", "count": 3, "accuracy": pytest.approx(2 / 3),
        "ber": pytest.approx(1 / 3), "ap": None,
        "recalls": {"front": 1.0, "back": 1.0, "side": 0.0},
    }  # fmt: skip
    assert summary == pytest.approx({"accuracy": 2 / 3, "mber": (1 / 4 + 1 / 3) / 2, "map": 0.5})


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(0, 10**6))
def test_classes_as_sklearn(n, seed):
    rng = np.random.default_rng(seed)
    sizes = [2, 3, 5]
    probabilities = [torch.tensor(rng.dirichlet(np.ones(k), n)) for k in sizes]
    labels = torch.tensor(np.stack([rng.integers(-1, k, n) for k in sizes], 1))
    classes = [[str(c) for c in range(k)] for k in sizes]
    summary, rows = class_attributes(probabilities, labels, names(3), classes)
    accuracies, errors = [], []
    for row, p, y in zip(rows, probabilities, labels.T, strict=True):
        p, y = p[y >= 0].numpy(), y[y >= 0].numpy()
        assert row["count"] == len(y)
        if not len(y):
            assert row["accuracy"] is row["ber"] is row["ap"] is None
            continue
        guess = p.argmax(1)
        accuracies.append((guess == y).mean())
        errors.append(np.mean([(guess[y == c] != c).mean() for c in np.unique(y)]))
        assert row["accuracy"] == pytest.approx(accuracies[-1])
        assert row["ber"] == pytest.approx(errors[-1])
        absent = {str(c) for c in range(p.shape[1])} - {str(c) for c in y}
        assert {c for c, recall in row["recalls"].items() if recall is None} == absent
    both = set(labels[:, 0].tolist()) >= {0, 1}
    assert (rows[0]["ap"] is not None) == both == ("map" in summary)
    if both:
        known = labels[:, 0] >= 0
        ap = eleven_point_ap(probabilities[0][known, 1], labels[known, 0])
        assert rows[0]["ap"] == summary["map"] == pytest.approx(ap)
    if accuracies:
        assert summary["accuracy"] == pytest.approx(np.mean(accuracies))
        assert summary["mber"] == pytest.approx(np.mean(errors))


@pytest.mark.parametrize("n", [0, 2])
def test_classes_without_a_known_label(n):
    summary, rows = class_attributes(
        [torch.rand(n, 2)], torch.full((n, 1), -1), ["sex"], [["f", "m"]]
    )
    assert summary == {}
    assert rows == [
        {"attribute": "sex", "count": 0, "accuracy": None, "ber": None, "ap": None,
         "recalls": {"f": None, "m": None}}
    ]  # fmt: skip


def test_classes_refuse():
    p, y = torch.rand(4, 2), torch.zeros(4, 1).int()
    with pytest.raises(InputError, match="probabilities: 2 attributes: must be 1"):
        class_attributes([p, p], y, ["sex"], [["f", "m"]])
    with pytest.raises(InputError, match="classes: 0 attributes"):
        class_attributes([p], y, ["sex"], [])
    with pytest.raises(InputError, match=r"sex: probabilities of shape \[4, 2\].*\[4, 3\]"):
        class_attributes([p], y, ["sex"], [["f", "m", "x"]])
    with pytest.raises(InputError, match=r"sex: probabilities of shape \[3, 2\].*\[4, 2\]"):
        class_attributes([p[:3]], y, ["sex"], [["f", "m"]])
    with pytest.raises(InputError, match="sex: labels: value 2: must be from -1 to 1"):
        class_attributes([p], y + 2, ["sex"], [["f", "m"]])
    with pytest.raises(InputError, match="sex: classes: 'f' more than once"):
        class_attributes([p], y, ["sex"], [["f", "f"]])
    with pytest.raises(InputError, match="sex: classes: 0 names"):
        class_attributes([p[:, :0]], y, ["sex"], [[]])
    with pytest.raises(InputError, match=r"labels of shape \[4\]"):
        class_attributes([p], y[:, 0], ["sex"], [["f", "m"]])
