"""Joints and boxes of a row, in whichever of the usual ways a data set writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import datasets

from patchit_hf.common.errors import InputError
from patchit_hf.downstream import keypoints as kp
from patchit_hf.downstream.columns import column_values
from patchit_hf.downstream.labels import listed

Joint = list[float]  # x, y in pixels, and above 0 if it is visible
Box = tuple[float, float, float, float]
NAME_COLUMNS = ("keypoint_names", "joint_names", "joints")
UNSEEN: Joint = [0.0, 0.0, 0.0]


def read_joints(value: Any, count: int | None, row: int, column: str) -> list[Joint]:
    """Return the joints of a row.

    Args:
        value: joints as lists of x, y, visible or of x, y, as one flat list of these, by name, or
            any of these as JSON text. None and [] mean that none is visible, and so do NaN, None,
            and x = y = 0 without a third number.
        count: number of joints; None if the value says it.
        row: index of the row, for messages.
        column: name of the column, for messages.

    Returns:
        ``count`` joints: x, y and above 0 if visible.

    Raises:
        InputError: for another number of joints, or numbers a joint.

    Example:
        >>> read_joints([5.0, 6.0, 2.0, None, 0.0, 0.0], 2, 0, "keypoints")
        [[5.0, 6.0, 2.0], [0.0, 0.0, 0.0]]
        >>> read_joints([[5.0, 6.0], [0.0, 0.0]], 2, 0, "keypoints")
        [[5.0, 6.0, 1.0], [0.0, 0.0, 0.0]]
    """
    if isinstance(value, str):
        value = _from_text(value, row, column)
    if isinstance(value, Mapping):
        value = list(value.values())
    if value is None or len(value) == 0:
        return [UNSEEN] * (count or 0)
    if all(isinstance(item, int | float | None) for item in value):
        size = _numbers(len(value), count)
        if size is None:
            raise InputError(
                f"row {row}: {column}: has {len(value)} numbers; "
                + (
                    f"{count} joints have {3 * count} or {2 * count}"
                    if count
                    else "name its joints"
                )
            )
        value = [value[i : i + size] for i in range(0, len(value), size)]
    if count is not None and len(value) != count:
        raise InputError(f"row {row}: {column}: has {len(value)} joints; must have {count}")
    return [_joint(item, row, column) for item in value]


def _numbers(length: int, count: int | None) -> int | None:
    """Return how many numbers a joint has in a flat list."""
    counts = (count,) if count is not None else (len(kp.LSP), len(kp.COCO))
    return next((size for size in (3, 2) for c in counts if length == size * c), None)


def _joint(item: Any, row: int, column: str) -> Joint:
    if item is None:
        return UNSEEN
    if not isinstance(item, list | tuple) or len(item) not in (2, 3):
        raise InputError(
            f"row {row}: {column}: {item!r} is no joint; must be x, y, visible or x, y in pixels"
        )
    if not all(isinstance(v, int | float | None) for v in item):
        raise InputError(f"row {row}: {column}: {item!r} is no joint; must hold numbers")
    x, y, *third = (math.nan if v is None else float(v) for v in item)
    if not (math.isfinite(x) and math.isfinite(y)):
        return UNSEEN
    if not third:
        return [x, y, float(x != 0 or y != 0)]
    return [x, y, third[0] if third[0] > 0 else 0.0]  # NaN is not above 0


def _from_text(text: str, row: int, column: str) -> Any:
    """Return what JSON text says; None for empty text."""
    try:
        return json.loads(text) if text.strip() else None
    except ValueError:
        raise InputError(f"row {row}: {column}: {text[:60]!r} is no list of numbers") from None


def read_box(value: Any, row: int = 0, column: str = "box") -> Box | None:
    """Return the box of a row; None if it has none: None, [], or with a None or NaN in it.

    Args:
        value: x0, y0, x1, y1, in a list, a struct or JSON text.
        row: index of the row, for messages.
        column: name of the column, for messages.

    Raises:
        InputError: if it is anything else.

    Example:
        >>> read_box([1, 2, 3, 4]), read_box(None), read_box([1.0, float("nan"), 3.0, 4.0])
        ((1.0, 2.0, 3.0, 4.0), None, None)
    """
    if isinstance(value, str):
        value = _from_text(value, row, column)
    if isinstance(value, Mapping):
        value = list(value.values())
    if value is None or (isinstance(value, list | tuple) and len(value) == 0):
        return None
    plain = isinstance(value, list | tuple) and all(
        isinstance(v, int | float | None) for v in value
    )
    if not plain or len(value) != 4:
        raise InputError(f"row {row}: {column}: {value!r} is no box; must be x0, y0, x1, y1")
    if any(v is None or math.isnan(v) for v in value):
        return None
    x0, y0, x1, y1 = map(float, value)
    return x0, y0, x1, y1


def has_area(box: Box) -> bool:
    """Say whether a box x0, y0, x1, y1 has x0 < x1 and y0 < y1."""
    return box[0] < box[2] and box[1] < box[3]


def remarks(values: list[Any], column: str) -> list[str]:
    """Return a line about the rows that have no box, and one about boxes without area.

    Args:
        values: the column of boxes.
        column: its name.

    Raises:
        InputError: if most of the boxes have no area.
    """
    boxes = [read_box(value, row, column) for row, value in enumerate(values)]
    without = [row for row, box in enumerate(boxes) if box is None]
    flat = [row for row, box in enumerate(boxes) if box is not None and not has_area(box)]
    lines = []
    if without:
        lines.append(
            f"{len(without)} of {len(boxes)} rows have no {column} (the first: row {without[0]}); "
            "their whole images are taken"
        )
    if not flat:
        return lines
    first = f"row {flat[0]}, {list(boxes[flat[0]] or ())}"
    if len(flat) > (len(boxes) - len(without)) / 2:
        raise InputError(
            f"column {column!r}: {len(flat)} of {len(boxes)} boxes have no area (the first: "
            f"{first}); must be x0 < x1 and y0 < y1, in pixels"
        )
    return [
        *lines,
        f"{len(flat)} of {len(boxes)} rows have a {column} without area (the first: {first}); "
        "their joints are left out",
    ]


def names_of(dataset: datasets.Dataset, column: str) -> list[str] | None:
    """Return the joints' names that a data set states, or None.

    They are the fields of the column of joints, or a list in a column of ``NAME_COLUMNS``.
    """
    feature = dataset.features[column]
    if isinstance(feature, dict):
        return [_plain(word) for word in feature]
    for name in NAME_COLUMNS:
        if name in dataset.column_names and name != column and len(dataset):
            stated = column_values(dataset.select(range(1)), name)[0]
            if isinstance(stated, list) and all(isinstance(word, str) for word in stated):
                return [_plain(word) for word in stated]
    return None


def count_of(dataset: datasets.Dataset, column: str, names: Sequence[str] | None) -> int | None:
    """Return the number of joints of a row; None if no row has any.

    Args:
        dataset: a split.
        column: of joints.
        names: the joints' names, if they are known.

    Raises:
        InputError: for a flat list whose joints cannot be counted.
    """
    if names is not None:
        return len(names)
    for row, value in enumerate(column_values(dataset, column)):
        if value is not None and len(value):
            return len(read_joints(value, None, row, column))
    return None


def order_of(stated: Sequence[str], trained: Sequence[str]) -> list[int]:
    """Return for each trained joint its index among those of a data set; -1 where it lacks one.

    Names are compared without case, and an underscore is a space.

    Raises:
        InputError: if the data set has a joint that was not trained.

    Example:
        >>> order_of(["right_knee", "left_knee"], ["left knee", "right knee", "nose"])
        [1, 0, -1]
    """
    numbers = {_plain(name): index for index, name in enumerate(stated)}
    known = {_plain(name) for name in trained}
    for name in stated:
        if _plain(name) not in known:
            raise InputError(
                f"joint {name!r} is none of those that were trained ({listed(trained)}); the data "
                f"set has {listed(stated)}"
            )
    return [numbers.get(_plain(name), -1) for name in trained]


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().lower()
