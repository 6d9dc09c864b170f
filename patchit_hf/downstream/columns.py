"""Columns of a data set: found by their names, and what left and right in a name mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import datasets

from patchit_hf.common.errors import InputError
from patchit_hf.data.columns import GROUP_COLUMNS

CAMERA_COLUMNS = ("camera", "camid", "cam_id", "camera_id")
NO_ATTRIBUTES = {*GROUP_COLUMNS, *CAMERA_COLUMNS, "action", "label", "frame", "image_id"}
_SIDE = re.compile(r"(?P<before>^|[_\W]|(?<=[a-z]))(?P<side>[Ll]eft|[Rr]ight)(?=$|[_\W]|[A-Z])")


def column_values(dataset: datasets.Dataset, name: str) -> list[Any]:
    """Return a column as a list, without decoding any image, whatever the data set's format."""
    return list(dataset.with_format(None).select_columns([name])[:][name])


def require(dataset: datasets.Dataset, name: str) -> None:
    """Check that a data set has a column.

    Raises:
        InputError: if it has not, with the names of those that it has.
    """
    if name not in dataset.column_names:
        raise InputError(
            f"column {name!r}: the data set has none of that name (columns: "
            f"{', '.join(dataset.column_names)})"
        )


def find_column(
    dataset: datasets.Dataset, given: str | None, candidates: Sequence[str], flag: str
) -> str:
    """Return the given name, or the first candidate that the data set has.

    Raises:
        InputError: if there is no such column.
    """
    if given is not None:
        require(dataset, given)
        return given
    for name in candidates:
        if name in dataset.column_names:
            return name
    raise InputError(
        f"the data set has none of the columns {', '.join(candidates)}; name one with "
        f"--task-kwargs {flag}=... (columns: {', '.join(dataset.column_names)})"
    )


def other_side(name: str) -> str:
    """Return a name with left and right swapped.

    Example:
        >>> other_side("bag_left"), other_side("HasBagInRightHand")
        ('bag_right', 'HasBagInLeftHand')
    """
    swap = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    return _SIDE.sub(lambda m: m["before"] + swap[m["side"]], name)


def swapped(names: Sequence[str]) -> list[int]:
    """Return for each name the index of the one that it becomes in a mirror image.

    Example:
        >>> swapped(["hat", "bag_left", "bag_right"])
        [0, 2, 1]
    """
    numbers = {name: i for i, name in enumerate(names)}
    return [numbers.get(other_side(name), i) for i, name in enumerate(names)]
