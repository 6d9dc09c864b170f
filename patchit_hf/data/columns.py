"""Find the columns of a data set that hold images, people and sources."""

from __future__ import annotations

from typing import Any

import datasets

from patchit_hf.common.errors import InputError
from patchit_hf.data.dataset_state import stream_features

GROUP_COLUMNS = ("person_id", "pid", "identity", "track_id", "source", "video", "sequence")
DISTRACTOR = "distractor"  # whether a row shows somebody whom nobody searches for
NO_VALUE = frozenset({"", "-1", "-1.0", "nan"})  # how text writes that there is no value
NOBODY = NO_VALUE | {"none", "null", "na", "n/a", "<na>", "unknown"}


def missing(value: Any, words: frozenset[str] = NO_VALUE) -> bool:
    """Say whether a value means that there is none: None, NaN, a number below 0, or such a word.

    Args:
        value: of a column.
        words: the words that mean it, in lower case; ``NOBODY`` has more, for people and sources.

    Example:
        >>> [missing(value) for value in (None, float("nan"), -1, -1.0, " ", "-1", 0, "none")]
        [True, True, True, True, True, True, False, False]
        >>> missing("none", NOBODY)
        True
    """
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower() in words
    return isinstance(value, int | float) and not value >= 0  # NaN is not at least 0, either


def find_image_column(
    dataset: datasets.Dataset | datasets.IterableDataset, column: str | None, name: str
) -> str:
    """Return the name of the image column.

    Args:
        dataset: a ``datasets.Dataset`` or ``IterableDataset``.
        column: the column that the user names; None finds the only one.
        name: name of the data set in errors.

    Raises:
        InputError: if the named column is missing or holds no images, or if none is named and
            there is not exactly one.

    Example:
        >>> import datasets
        >>> features = datasets.Features(
        ...     {"photo": datasets.Image(), "person_id": datasets.Value("int64")}
        ... )
        >>> empty = datasets.Dataset.from_dict({"photo": [], "person_id": []}, features=features)
        >>> find_image_column(empty, None, "mine")
        'photo'
    """
    features = stream_features(dataset)
    images = [key for key, f in features.items() if isinstance(f, datasets.Image)]
    if column is not None:
        if column not in images:
            raise InputError(
                f"--image-column {column!r}: no such image column in {name!r} (image columns: "
                f"{', '.join(images) or 'none'}; all columns: {', '.join(features)})"
            )
        return column
    if not images:
        raise InputError(
            f"data set {name!r} has no image column (columns: {', '.join(features)}); it must be "
            "images, or parquet or arrow files with a column of images"
        )
    if len(images) > 1:
        raise InputError(
            f"data set {name!r} has {len(images)} image columns; choose one with --image-column: "
            f"{', '.join(images)}"
        )
    return str(images[0])
