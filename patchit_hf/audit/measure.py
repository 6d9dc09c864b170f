"""Scores of the audit's classifiers: accuracy, and the classes that they tell apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from patchit_hf.audit.cues import CUES, Questions

TREES = 40


class Score(NamedTuple):
    """The result of one classifier on held-out questions.

    Attributes:
        accuracy: fraction of right answers.
        error: standard error of the accuracy.
        kappa: Cohen's kappa, less two standard errors, of the group of classes that the classifier
            tells apart best; see ``best_group``.
        group: the classes of that group.
    """

    accuracy: float
    error: float
    kappa: float
    group: list[int]


def measure(train: Questions, asked: Questions, classes: int, seed: int) -> dict[str, Score]:
    """Train each classifier and score it on held-out questions.

    Args:
        train: training questions.
        asked: held-out questions.
        classes: number of classes.
        seed: seed of the classifiers.
    """
    scores = {}
    for name in CUES:
        guess = answers(train.seen[name], train.truth, asked.seen[name], seed)
        right = np.stack([guess == asked.truth, np.ones_like(guess)]).astype(np.float64)
        sums = np.add.reduceat(right, asked.starts, axis=1)
        accuracy, error = jackknife(lambda s: s[0] / s[1], sums)
        kappa, group = best_group(asked, guess, classes)
        scores[name] = Score(float(accuracy), float(error), kappa, group)
    return scores


def answers(
    train: NDArray[Any], truth: NDArray[Any], test: NDArray[Any], seed: int
) -> NDArray[Any]:
    """Return the joint answers of randomised trees and a linear discriminant.

    The trees learn what is not linear; the discriminant can weigh the patches of a whole puzzle.

    Args:
        train: features ``[N, F]``.
        truth: their classes ``[N]``.
        test: features ``[M, F]``.
        seed: seed of the trees.

    Returns:
        Classes ``[M]``.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.preprocessing import StandardScaler

    classes = np.unique(truth)
    if len(classes) == 1:
        return np.full(len(test), classes[0])
    scale = StandardScaler().fit(train)
    x, y = scale.transform(train), scale.transform(test)
    trees = ExtraTreesClassifier(TREES, min_samples_leaf=3, n_jobs=-1, random_state=seed)
    trees.fit(x, truth).set_params(n_jobs=1)  # several threads would add up in random order
    linear = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(x, truth)
    votes = trees.predict_proba(y) + linear.predict_proba(y)
    answered: NDArray[Any] = classes[votes.argmax(1)]
    return answered


def best_group(asked: Questions, guess: NDArray[Any], classes: int) -> tuple[float, list[int]]:
    """Return how well a classifier tells its best group of classes apart, and that group.

    Returns:
        ``cautious_kappa`` less two standard errors, and the classes; -1 and an empty list if there
        is only one class.
    """
    groups = confused_groups(asked.truth, guess, classes)
    if len(groups) == 0:
        return -1.0, []
    of_it, given = groups[:, asked.truth], groups[:, guess]
    counts = np.stack([of_it == given, of_it, given, np.ones_like(given)]).astype(np.float64)
    value, error = jackknife(cautious_kappa, np.add.reduceat(counts, asked.starts, axis=2))
    best = int((value - 2 * error).argmax())
    return float(value[best] - 2 * error[best]), np.flatnonzero(groups[best]).tolist()


def confused_groups(truth: NDArray[Any], guess: NDArray[Any], classes: int) -> NDArray[Any]:
    """Return groups of classes that are mistaken for each other, bool ``[G, classes]``.

    These are all single classes and all clusters of at most half of the classes. Clusters use
    average linkage; two classes are closer the more often one is mistaken for the other.
    """
    from sklearn.cluster import AgglomerativeClustering

    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (truth, guess), 1)
    confusion /= confusion.sum(1, keepdims=True).clip(1)
    groups = list(np.eye(classes, dtype=bool))
    if classes > 1:
        tree = AgglomerativeClustering(1, metric="precomputed", linkage="average")
        for one, other in tree.fit(2 - confusion - confusion.T).children_:
            groups.append(groups[one] | groups[other])
    return np.array([group for group in groups if 2 * group.sum() <= classes])


def cautious_kappa(sums: NDArray[Any]) -> NDArray[Any]:
    """Return Cohen's kappa of a yes-or-no question: 0 for guessing, 1 for always right.

    Two misses and two false alarms are added, so that a few questions prove nothing.

    Args:
        sums: counts ``[4, ...]``: agreeing answers, true yes, predicted yes, all.

    Example:
        >>> counts = np.array([1000.0, 500.0, 500.0, 1000.0])  # always right
        >>> round(float(cautious_kappa(counts)), 3)
        0.992
    """
    agree, true, given, count = sums[0], sums[1] + 2, sums[2] + 2, sums[3] + 4
    expected = (true * given + (count - true) * (count - given)) / count**2
    kappa: NDArray[Any] = (agree / count - expected) / (1 - expected)
    return kappa


def jackknife(
    statistic: Callable[[NDArray[Any]], NDArray[Any]], sums: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a statistic of sums and its standard error, leaving out one unit at a time.

    Args:
        statistic: function of summed quantities ``[Q, ...]``.
        sums: the quantities of each of U units, ``[Q, ..., U]``.

    Returns:
        Value and standard error; the error is infinite for a single unit.

    Example:
        >>> hits_and_questions = np.array([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
        >>> value, error = jackknife(lambda s: s[0] / s[1], hits_and_questions)
        >>> float(value), round(float(error), 4)
        (0.5, 0.2887)
    """
    units = sums.shape[-1]
    value = statistic(sums.sum(-1))
    if units < 2:
        return value, np.full_like(value, np.inf)
    without = statistic(sums.sum(-1, keepdims=True) - sums)
    apart = without - without.mean(-1, keepdims=True)
    return value, np.sqrt((units - 1) / units * np.square(apart).sum(-1))
