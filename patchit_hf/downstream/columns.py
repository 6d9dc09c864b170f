"""Label columns: how they are found, and encoded with the classes of the training split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import torch
from torch import Tensor

from patchit_hf.common.errors import InputError
from patchit_hf.data.columns import GROUP_COLUMNS

CAMERA_COLUMNS = ("camera", "camid", "cam_id", "camera_id")
NO_ATTRIBUTES = {*GROUP_COLUMNS, *CAMERA_COLUMNS, "action", "label", "frame", "image_id"}
MOST_CLASSES = 100
_SIDE = re.compile(r"(?P<before>^|[_\W]|(?<=[a-z]))(?P<side>[Ll]eft|[Rr]ight)(?=$|[_\W]|[A-Z])")


@dataclass(frozen=True)
class LabelColumn:
    """A column of labels.

    Attributes:
        name: its name.
        classes: the names of its classes; a binary column has two, of which the second means yes.
        values: the value that stands for each class in the data.

    Example:
        >>> import datasets
        >>> rows = datasets.Dataset.from_dict({"coat": ["red", "blue", None]})
        >>> column = read_column(rows, "coat")
        >>> column.classes, column.encode(rows).tolist()
        (['blue', 'red'], [1, 0, -1])
    """

    name: str
    classes: list[str]
    values: list[Any]

    @property
    def binary(self) -> bool:
        """Whether there are two classes, no and yes."""
        return len(self.classes) == 2

    def encode(self, dataset: datasets.Dataset) -> Tensor:
        """Return class indices, int64 ``[N]``; -1 for no label.

        Raises:
            InputError: if the column is missing, or has a value that the training split has not.
        """
        require(dataset, self.name)
        numbers = {value: number for number, value in enumerate(self.values)}
        found = []
        for row, value in enumerate(column_values(dataset, self.name)):
            unknown = value is None or (isinstance(value, int) and value < 0)
            number = -1 if unknown else numbers.get(value)
            if number is None:
                raise InputError(
                    f"column {self.name!r}, row {row}: {value!r} is none of the classes that were "
                    f"trained ({', '.join(map(str, self.values))})"
                )
            found.append(number)
        return torch.tensor(found, dtype=torch.int64)


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


def read_column(dataset: datasets.Dataset, name: str) -> LabelColumn:
    """Return a label column with the classes of a training split.

    Class labels keep their names. Booleans, and integers that are all -1, 0 or 1, mean no and yes.
    Other integers and strings are classes in sorted order.

    Raises:
        InputError: if the column is missing or holds no labels.
    """
    require(dataset, name)
    feature = dataset.features[name]
    if isinstance(feature, datasets.ClassLabel):
        return LabelColumn(name, list(feature.names), list(range(feature.num_classes)))
    values = {v for v in column_values(dataset, name) if v is not None}
    if not all(isinstance(v, int | str) for v in values):
        kind = next(type(v).__name__ for v in values if not isinstance(v, int | str))
        raise InputError(f"column {name!r}: holds {kind}; labels are whole numbers, words, yes/no")
    values = {v for v in values if isinstance(v, str) or v >= 0}
    if values <= {0, 1}:
        return LabelColumn(name, ["no", "yes"], [0, 1])
    known = sorted(values, key=lambda v: (isinstance(v, str), v))
    if not 2 <= len(known) <= MOST_CLASSES:
        raise InputError(
            f"column {name!r}: has {len(known)} classes; a label has 2 to {MOST_CLASSES}"
        )
    return LabelColumn(name, [str(v) for v in known], list(known))


def attribute_columns(dataset: datasets.Dataset) -> list[str]:
    """Return the names of columns that look like attributes: class labels, booleans, and -1/0/1."""
    found = []
    for name, feature in dataset.features.items():
        if name in NO_ATTRIBUTES:
            continue
        if isinstance(feature, datasets.ClassLabel):
            found.append(name)
        elif isinstance(feature, datasets.Value) and feature.dtype == "bool":
            found.append(name)
        elif isinstance(feature, datasets.Value) and "int" in feature.dtype:
            if set(column_values(dataset, name)) <= {-1, 0, 1, None}:
                found.append(name)
    return found


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
