"""Label columns: what their values mean, and which class by name each row has.

Labels are compared by name. The numbers behind a ``ClassLabel`` differ between two folders of which
one lacks a class, so they mean nothing outside of their own data set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import datasets
import torch
from torch import Tensor

from patchit_hf.common.errors import InputError
from patchit_hf.data.columns import missing
from patchit_hf.downstream.columns import column_values, require

MOST_CLASSES = 100
ANSWERS = {  # words for no and yes, in lower case
    **dict.fromkeys(("no", "false", "n", "f", "0", "0.0"), "no"),
    **dict.fromkeys(("yes", "true", "y", "t", "1", "1.0"), "yes"),
}
DONT_KNOW = {"unknown", "none", "null", "na", "n/a", "<na>", "?", "-"}  # beside no and yes
UNKNOWN = 2  # beside 0 and 1, in PETA and RAP
LISTS = tuple(
    getattr(datasets, name) for name in ("List", "LargeList", "Sequence") if hasattr(datasets, name)
)


@dataclass(frozen=True)
class LabelColumn:
    """A column of labels.

    Attributes:
        name: its name.
        classes: the names of its classes; a binary column has two, of which the second means yes.
        values: the value that stood for each class in the training split.
        source: the column of vectors that this is an entry of, or None.
        entry: the index of that entry.
        unknown: further values that stand for no label.

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
    source: str | None = None
    entry: int | None = None
    unknown: list[int] = field(default_factory=list)

    @property
    def binary(self) -> bool:
        """Whether there are two classes, no and yes."""
        return len(self.classes) == 2

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments that rebuild this column, as JSON values; those with defaults are missing.

        Example:
            >>> LabelColumn("hat", ["no", "yes"], [0, 1]).kwargs
            {'name': 'hat', 'classes': ['no', 'yes'], 'values': [0, 1]}
        """
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        optional = ("source", "entry", "unknown")
        return {k: v for k, v in given.items() if k not in optional or v not in (None, [])}

    def encode(self, dataset: datasets.Dataset) -> Tensor:
        """Return class indices by name, int64 ``[N]``; -1 for no label.

        Raises:
            InputError: if the column is missing, or has a class that the training split has not.
        """
        cells, names = self._cells(dataset)
        numbers = {name: number for number, name in enumerate(self.classes)}
        answers = self._answers()
        known: dict[Any, int] = {}  # by type and value: True is not 1 here
        found = []
        for row, value in enumerate(cells):
            key = (type(value), value)
            if key not in known:
                number = self._number(value, names, numbers, answers)
                if number is None:
                    raise self._unknown(cells, names, row)
                known[key] = number
            found.append(known[key])
        return torch.tensor(found, dtype=torch.int64)

    def _cells(self, dataset: datasets.Dataset) -> tuple[list[Any], list[str] | None]:
        """Return the values, and the names behind them if they are the numbers of classes."""
        if self.source is not None and self.name not in dataset.column_names:
            return vectors(dataset, self.source, self.entry or 0), None
        require(dataset, self.name)
        feature = dataset.features[self.name]
        names = list(feature.names) if isinstance(feature, datasets.ClassLabel) else None
        return column_values(dataset, self.name), names

    def _answers(self) -> dict[str, int]:
        """Return the class of each word for no and yes; empty where that is not what it asks."""
        meant = [ANSWERS.get(name.strip().lower()) for name in self.classes]
        if sorted(map(str, meant)) != ["no", "yes"]:
            return {}
        return {word: meant.index(answer) for word, answer in ANSWERS.items()}

    def _number(
        self,
        value: Any,
        names: list[str] | None,
        numbers: dict[str, int],
        answers: dict[str, int],
    ) -> int | None:
        if missing(value) or value in self.unknown:
            return -1
        text = _text(value, names)
        word = text.strip().lower()
        for key, known in ((text, numbers), (text.strip(), numbers), (word, answers)):
            if key in known:
                return known[key]
        return -1 if answers and word in DONT_KNOW else None

    def _unknown(self, cells: list[Any], names: list[str] | None, row: int) -> InputError:
        theirs = names or sorted({_text(value, None) for value in cells if not missing(value)})
        return InputError(
            f"column {self.name!r}, row {row}: {_text(cells[row], names)!r} is none of the classes "
            f"that were trained ({listed(self.classes)}); the data set has {listed(theirs)}"
        )


def read_column(dataset: datasets.Dataset, name: str, *, unknown: int | None = None) -> LabelColumn:
    """Return a label column with the classes of a training split.

    Class labels keep their names. Booleans, numbers that are all -1, 0 or 1, and words such as yes
    and no mean no and yes. Other whole numbers and words are classes in sorted order. NaN, numbers
    below 0 and empty text are no label.

    Args:
        dataset: the training split.
        name: of the column.
        unknown: a further number that is no label, such as 2 in PETA and RAP.

    Raises:
        InputError: if the column is missing or holds no labels.
    """
    require(dataset, name)
    feature = dataset.features[name]
    if isinstance(feature, datasets.ClassLabel):
        return _labelled(name, list(feature.names))
    if isinstance(feature, LISTS):
        raise InputError(
            f"column {name!r}: holds lists; labels are whole numbers, words, yes/no; of --task "
            "attributes also vectors, whose entries names=[...] names"
        )
    return classes_of(name, column_values(dataset, name), unknown)


def _labelled(name: str, names: list[str]) -> LabelColumn:
    if len(names) < 2:
        raise InputError(
            f"column {name!r}: has {'one class (' + names[0] + ')' if names else 'no class'}; a "
            "label has at least 2"
        )
    numbers = list(range(len(names)))
    if [ANSWERS.get(word.strip().lower()) for word in names] == ["yes", "no"]:
        return LabelColumn(name, names[::-1], numbers[::-1])  # the second class means yes
    return LabelColumn(name, names, numbers)


def classes_of(name: str, cells: Iterable[Any], unknown: int | None = None) -> LabelColumn:
    """Return the label column of such values; see ``read_column``.

    Raises:
        InputError: if they are no labels.
    """
    values = whole(name, cells)
    further = [unknown] if unknown is not None and unknown in values else []
    values -= set(further)
    if values <= {0, 1}:
        return LabelColumn(name, ["no", "yes"], [0, 1], unknown=further)
    known = sorted(values, key=lambda v: (isinstance(v, str), v))
    if answers(values) and [ANSWERS.get(str(v).strip().lower()) for v in known] != ["no", "yes"]:
        return LabelColumn(name, ["no", "yes"], [0, 1], unknown=further)
    if not 2 <= len(known) <= MOST_CLASSES:
        count = f"one class ({known[0]})" if len(known) == 1 else f"{len(known)} classes"
        raise InputError(f"column {name!r}: has {count}; a label has 2 to {MOST_CLASSES}")
    return LabelColumn(name, [str(v) for v in known], list(known), unknown=further)


def whole(name: str, cells: Iterable[Any]) -> set[Any]:
    """Return the values of a column as whole numbers or words, without those that are missing.

    Raises:
        InputError: for a number with a fraction, or a value of another type.
    """
    found: set[Any] = set()
    for value in cells:
        if missing(value):
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int | str):
            kind = "float" if isinstance(value, float) else type(value).__name__
            shown = f", such as {value:g}" if isinstance(value, float) else ""
            raise InputError(
                f"column {name!r}: holds {kind}{shown}; labels are whole numbers, words, yes/no"
            )
        found.add(value)
    return found


def answers(values: set[Any]) -> bool:
    """Say whether values are words for no, yes and perhaps unknown.

    Example:
        >>> answers({"Yes", "no", "?"}), answers({"none", "?"}), answers({"yes", "maybe"})
        (True, False, False)
    """
    words = {str(value).strip().lower() for value in values}
    said = {ANSWERS[word] for word in words if word in ANSWERS}
    return bool(said) and all(word in ANSWERS or word in DONT_KNOW for word in words)


def vectors(dataset: datasets.Dataset, name: str, entry: int) -> list[Any]:
    """Return an entry of each vector of a column, None where there is no vector.

    Raises:
        InputError: if the column is missing or holds no vectors, or one is too short.
    """
    require(dataset, name)
    if not isinstance(dataset.features[name], LISTS):
        raise InputError(f"column {name!r}: holds no vectors, as those that were trained")
    cells = []
    for row, value in enumerate(column_values(dataset, name)):
        if value and len(value) <= entry:
            raise InputError(
                f"column {name!r}, row {row}: has {len(value)} entries; entry {entry} is a label"
            )
        cells.append(value[entry] if value else None)
    return cells


def listed(names: Iterable[str]) -> str:
    """Return names as a message lists them."""
    return ", ".join(map(str, names))


def _text(value: Any, names: list[str] | None) -> str:
    """Return the name of a value: of its class, or as text."""
    if names is not None and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
