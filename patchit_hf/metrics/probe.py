"""How well frozen features separate labels: nearest neighbours and a linear classifier."""

from __future__ import annotations

import warnings
from typing import Any

from numpy.typing import NDArray

NEIGHBOURS = 20


def probe(
    train: NDArray[Any], labels: NDArray[Any], test: NDArray[Any], truth: NDArray[Any]
) -> dict[str, float]:
    """Fit kNN and a linear classifier on frozen features.

    kNN: the 20 nearest by cosine, weighted by closeness. Linear: logistic regression on
    standardised features with balanced class weights. The metric is balanced accuracy, the mean
    recall of the classes, so that never predicting a rare label does not pay off. Chance is 1 /
    classes.

    Args:
        train: features ``[N, C]``.
        labels: their labels ``[N]``, at least two different ones.
        test: features ``[M, C]``.
        truth: their labels ``[M]``.

    Returns:
        ``knn`` and ``linear``, each in [0, 1].
    """
    # Imported here, because scikit-learn takes a second to import.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    knn = KNeighborsClassifier(
        min(NEIGHBOURS, len(train)), weights="distance", metric="cosine", algorithm="brute"
    )
    scaler = StandardScaler().fit(train)
    linear = LogisticRegression(C=0.1, class_weight="balanced", max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        linear.fit(scaler.transform(train), labels)
        guesses = {
            "knn": knn.fit(train, labels).predict(test),
            "linear": linear.predict(scaler.transform(test)),
        }
        warnings.simplefilter("ignore", UserWarning)  # a predicted class that the truth lacks
        return {k: float(balanced_accuracy_score(truth, guess)) for k, guess in guesses.items()}
