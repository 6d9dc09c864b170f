"""Display names of the metrics: short ones for lines and tables, long ones for model cards.

``metrics.json``, ``patchit.json`` and ``compare.json`` use the keys.
"""

from __future__ import annotations

from typing import Any

NAMES = {
    "map": ("mAP", "mean AP"),
    "ma": ("mA", "mean accuracy (mA)"),
    "accuracy": ("accuracy", "accuracy"),
    "precision": ("precision", "precision"),
    "recall": ("recall", "recall"),
    "f1": ("F1", "F1"),
    "class_accuracy": ("class accuracy", "accuracy (several classes)"),
    "mber": ("mBER", "mean balanced error rate, lower is better"),
    "class_map": ("11-point mAP", "11-point mean AP (two classes)"),
    "balanced_accuracy": ("balanced accuracy", "balanced accuracy"),
    "rank1": ("rank-1", "CMC rank 1"),
    "rank5": ("rank-5", "CMC rank 5"),
    "rank10": ("rank-10", "CMC rank 10"),
    "pck": ("PCK@0.2", "PCK@0.2 (torso)"),
    "pckh": ("PCKh@0.5", "PCKh@0.5"),
    "ap": ("OKS AP", "OKS AP"),
    "ap50": ("OKS AP50", "OKS AP 0.50"),
    "ap75": ("OKS AP75", "OKS AP 0.75"),
    "knn_balanced_accuracy": ("kNN, balanced accuracy", "kNN, balanced accuracy"),
    "linear_balanced_accuracy": ("linear, balanced accuracy", "linear, balanced accuracy"),
}


def short_name(key: str) -> str:
    """Return the name of a metric for a line or a table; the key itself if it has none.

    Example:
        >>> short_name("rank1"), short_name("loss")
        ('rank-1', 'loss')
    """
    return NAMES.get(key, (key, key))[0]


def long_name(key: str) -> str:
    """Return the name of a metric for a model card; the key itself if it has none."""
    return NAMES.get(key, (key, key))[1]


def mean_text(row: dict[str, Any]) -> str:
    """Return the mean of a comparison's row in per cent, with its deviation if it is known.

    Example:
        >>> mean_text({"mean": 0.417, "deviation": 0.004})
        '41.7 ± 0.4'
    """
    spread = "" if row["deviation"] is None else f" ± {100 * row['deviation']:.1f}"
    return f"{100 * row['mean']:.1f}{spread}"


def difference_text(row: dict[str, Any]) -> str:
    """Return the difference of a comparison's row in points, with its interval; empty for none.

    Example:
        >>> difference_text({"difference": 0.008, "interval": [0.004, 0.012]})
        '+0.8 (+0.4 to +1.2)'
    """
    if row.get("difference") is None:
        return ""
    text = f"{100 * row['difference']:+.1f}"
    if row.get("interval"):
        low, high = row["interval"]
        text += f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return text
