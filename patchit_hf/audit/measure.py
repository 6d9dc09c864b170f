"""How far the audit's classifiers get: accuracy, and the classes that they tell from the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from patchit_hf.audit.cues import CUES, Questions

TREES = 40


class Score(NamedTuple):
    """What one classifier reached on held-out questions.

    Attributes:
        accuracy: share of right answers.
        error: its standard error.
        kappa: Cohen's kappa of the group of classes that it tells best from the others, less two
            standard errors; see ``best_group``.
        group: the classes of that group.
    """

    accuracy: float
    error: float
    kappa: float
    group: list[int]


def measure(train: Questions, asked: Questions, classes: int, seed: int) -> dict[str, Score]:
    """Train each classifier and ask it.

    Args:
        train: questions to learn from.
        asked: held-out questions.
        classes: number of classes.
        seed: of the classifiers.
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
    """Return the answers of a vote of randomised trees and a linear discriminant.

    The trees know what is not linear; the discriminant can weigh the pictures of a whole puzzle.

    Args:
        train: features ``[N, F]``.
        truth: their classes ``[N]``.
        test: features ``[M, F]``.
        seed: of the trees.

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
    trees.fit(x, truth).set_params(n_jobs=1)  # several threads would add up in any order
    linear = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(x, truth)
    votes = trees.predict_proba(y) + linear.predict_proba(y)
    answered: NDArray[Any] = classes[votes.argmax(1)]
    return answered


def best_group(asked: Questions, guess: NDArray[Any], classes: int) -> tuple[float, list[int]]:
    """Return how well a classifier tells its best group of classes from the others, and the group.

    Returns:
        ``cautious_kappa`` less two standard errors, and the classes; -1 and none for one class.
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
    """Return groups of classes that are taken for each other, bool ``[G, classes]``.

    Every class, and every cluster of at most half of them: average linkage, where two classes are
    the nearer the larger the share of one that is taken for the other.
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
        sums: answers that agree, true ones, given ones, all; ``[4, ...]``.
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
        statistic: of summed quantities ``[Q, ...]``.
        sums: those of each of U units, ``[Q, ..., U]``.

    Returns:
        Value and error; an infinite error for a single unit.
    """
    units = sums.shape[-1]
    value = statistic(sums.sum(-1))
    if units < 2:
        return value, np.full_like(value, np.inf)
    without = statistic(sums.sum(-1, keepdims=True) - sums)
    apart = without - without.mean(-1, keepdims=True)
    return value, np.sqrt((units - 1) / units * np.square(apart).sum(-1))
