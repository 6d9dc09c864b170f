"""Which columns of a data set are attributes, and why the others are not."""

from __future__ import annotations

import logging
from typing import Any

import datasets

from patchit_hf.common.errors import InputError
from patchit_hf.downstream.columns import NO_ATTRIBUTES, column_values, require
from patchit_hf.downstream.labels import (
    LISTS,
    UNKNOWN,
    LabelColumn,
    answers,
    classes_of,
    read_column,
    vectors,
    whole,
)

logger = logging.getLogger(__name__)

SHOWN = 3  # values that a reason names


def choose_columns(
    dataset: datasets.Dataset,
    columns: list[str] | None = None,
    names: list[str] | None = None,
    unknown: int | None = None,
) -> list[LabelColumn]:
    """Return the label columns of a training split.

    By default they are class labels, booleans, words for yes and no, and numbers that are all -1,
    0 or 1. Numbers that are all 0, 1 or 2 answer yes or no, too: 2 means unknown in PETA and RAP.
    A message names every column that is left out, and why.

    Args:
        dataset: the training split.
        columns: the columns to take instead; whole numbers 0, 1, 2 are then three classes, unless
            ``unknown`` says otherwise.
        names: what the entries of a column of vectors are called, in order.
        unknown: a number that is no label, beside those below 0.

    Raises:
        InputError: for a column that is missing or holds no labels.

    Example:
        >>> rows = datasets.Dataset.from_dict({"attrs": [[0, 1], [1, 1]]})
        >>> [column.name for column in choose_columns(rows, names=["hat", "bag"])]
        ['hat', 'bag']
    """
    if columns is None:
        found, left = survey(dataset, names, unknown)
        _report(found, left, dataset)
        if not found:
            why = "; ".join(f"{name}: {reason}" for name, reason in left.items())
            raise InputError(
                f"--task attributes: no label column; name some: columns=[a, b] ({why})"
            )
        return found
    chosen: list[LabelColumn] = []
    for name in columns:
        require(dataset, name)
        if isinstance(dataset.features[name], LISTS):
            chosen += entries(dataset, name, names, unknown)
        else:
            chosen.append(read_column(dataset, name, unknown=unknown))
            if chosen[-1].values == [0, 1, UNKNOWN]:
                logger.warning(
                    "%s: 0, 1 and 2 are three classes; if 2 means unknown, give --task-kwargs "
                    "unknown=2",
                    name,
                )
    if names is not None and not any(column.source for column in chosen):
        raise InputError(
            f"names={names} in --task-kwargs: none of the columns {', '.join(columns)} holds "
            "vectors"
        )
    return chosen


def survey(
    dataset: datasets.Dataset, names: list[str] | None = None, unknown: int | None = None
) -> tuple[list[LabelColumn], dict[str, str]]:
    """Return the columns that look like attributes, and for each of the others the reason.

    Args:
        dataset: the training split.
        names: what the entries of a column of vectors are called.
        unknown: a number that is no label, beside those below 0.
    """
    found: list[LabelColumn] = []
    left: dict[str, str] = {}
    for name, feature in dataset.features.items():
        if isinstance(feature, datasets.Image):
            continue
        result = _judged(dataset, name, feature, names, unknown)
        if isinstance(result, str):
            left[name] = result
        else:
            found += result
    return found, left


def _judged(
    dataset: datasets.Dataset,
    name: str,
    feature: Any,
    names: list[str] | None,
    unknown: int | None,
) -> list[LabelColumn] | str:
    """Return a column's labels, or why it has none."""
    if name in NO_ATTRIBUTES:
        return "names people, cameras, sources or classes of another task"
    if isinstance(feature, datasets.ClassLabel):
        try:
            return [read_column(dataset, name)]
        except InputError:
            return "has fewer than two classes"
    if isinstance(feature, LISTS):
        if names is not None and _length(dataset, name) == len(names):
            return entries(dataset, name, names, unknown)
        count = _length(dataset, name)
        if count is None:
            return "holds lists"
        return f"holds vectors of {count} entries; name them with names=[...]"
    if not isinstance(feature, datasets.Value):
        return "holds several values a row"
    if feature.dtype == "null":
        return "is empty"
    return _judged_values(name, feature, column_values(dataset, name), unknown)


def _judged_values(
    name: str, feature: Any, cells: list[Any], unknown: int | None
) -> list[LabelColumn] | str:
    try:
        values = whole(name, cells)
    except InputError as error:
        return str(error).partition(": ")[2].partition("; ")[0]
    if not values and any(not isinstance(c, int | float) for c in cells if c is not None):
        return "is empty"
    if any(isinstance(value, str) for value in values):
        if answers(values):
            return [classes_of(name, cells, unknown)]
        return f"holds words ({_some(values)}); name it in columns=[...] to learn their classes"
    if unknown is None and values == {0, 1, UNKNOWN}:
        logger.warning(
            "%s: holds 0, 1 and 2; 2 is taken for unknown, as in PETA and RAP. If it is a third "
            "class, name the column in --task-kwargs columns=[...]",
            name,
        )
        unknown = UNKNOWN
    if values - {unknown} <= {0, 1}:
        return [classes_of(name, cells, unknown)]
    return f"holds numbers ({_some(values)}); name it in columns=[...] to learn them as classes"


def entries(
    dataset: datasets.Dataset, name: str, names: list[str] | None, unknown: int | None = None
) -> list[LabelColumn]:
    """Return a label column for each entry of a column of vectors.

    Args:
        dataset: the training split.
        name: of the column of vectors.
        names: what its entries are called; ``name[0]``, ``name[1]``, ... by default.
        unknown: a number that is no label, beside those below 0.

    Raises:
        InputError: if the vectors have different lengths, other than names has, or hold no labels.
    """
    count = _length(dataset, name)
    if count is None:
        raise InputError(f"column {name!r}: holds lists of several lengths, or of no labels")
    if names is None:
        logger.warning(
            "%s: its %d entries are called %s[0] to %s[%d]; --task-kwargs names=[...] names them",
            name, count, name, name, count - 1,
        )  # fmt: skip
        names = [f"{name}[{index}]" for index in range(count)]
    if len(names) != count:
        raise InputError(
            f"names={names} in --task-kwargs: has {len(names)} names; a vector of column {name!r} "
            f"has {count} entries"
        )
    found = []
    for index, own in enumerate(names):
        cells = vectors(dataset, name, index)
        column = classes_of(own, cells, unknown)
        found.append(LabelColumn(own, column.classes, column.values, name, index, column.unknown))
    return found


def _length(dataset: datasets.Dataset, name: str) -> int | None:
    """Return the common length of vectors of numbers; None if they are anything else."""
    lists = [value for value in column_values(dataset, name) if value]
    lengths = {len(value) for value in lists}
    plain = all(isinstance(item, int | float | None) for value in lists for item in value)
    return lengths.pop() if len(lengths) == 1 and plain else None


def _some(values: set[Any]) -> str:
    shown = sorted(values, key=lambda v: (isinstance(v, str), v))[:SHOWN]
    return ", ".join(map(str, shown)) + (", ..." if len(values) > SHOWN else "")


def _report(found: list[LabelColumn], left: dict[str, str], dataset: datasets.Dataset) -> None:
    """Name the columns that are left out; those that cannot be attributes in a lower voice."""
    if not left:
        return
    reasons: dict[str, list[str]] = {}
    for name, reason in left.items():
        reasons.setdefault(reason, []).append(name)
    plain = all(name in NO_ATTRIBUTES or isinstance(dataset.features[name], LISTS) for name in left)
    logger.log(
        logging.INFO if plain else logging.WARNING,
        "attributes: %d columns are learnt (%s); left out: %s",
        len(found),
        ", ".join(column.name for column in found),
        "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items()),
    )
