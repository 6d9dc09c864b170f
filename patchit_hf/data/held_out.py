"""Hold out 10 % of a data set without a validation split, by person or source if possible.

The choice depends on a hash of each group (or row), so it is the same in every run and process. For
a data set on disk it is cached.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.compute
from datasets.table import InMemoryTable
from numpy.typing import NDArray

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.files import replacing
from patchit_hf.common.resources import ResourceError
from patchit_hf.data.cached import cache_path
from patchit_hf.data.columns import GROUP_COLUMNS, NOBODY, missing
from patchit_hf.data.dataset_state import dataset_fingerprint, row_order

logger = logging.getLogger(__name__)

HELD_OUT = 0.1  # fraction of the crops that is held out
VERSION = 1  # of the choice
READ = 2  # of how keys that are no whole numbers are read
KEYS = 10_000  # keys that are in memory as text at a time


def hold_out(train: datasets.Dataset, name: str) -> tuple[datasets.Dataset, datasets.Dataset, str]:
    """Split 10 % off a data set, by the first of ``GROUP_COLUMNS`` that it has.

    A key that is missing, below 0 or a word such as "-1" means an unknown person; such a row is a
    group of its own. Lists and structs are keys by their content.

    Args:
        train: a ``datasets.Dataset``.
        name: name of the data set in errors.

    Returns:
        Training crops, held-out crops, each in the order of their rows, and a description of the
        split.

    Raises:
        InputError: if there are fewer than two crops.
    """
    if len(train) < 2:
        raise InputError(f"data set {name!r} has {len(train)} crop; at least 2 are needed")
    column = next((c for c in GROUP_COLUMNS if c in train.column_names), None)
    file = None
    if train.cache_files:
        read = "" if column is None or _numbered(train, column) else f" {READ}"
        key = f"{VERSION} {HELD_OUT} {dataset_fingerprint(train)} {column}{read}"
        file = cache_path("{}.held-out.npz", key)
    known = None if file is None else _load(file, len(train))
    held, grouped, words_read = known or _choose(train, column)
    if known is None and file is not None:
        _save(file, held, grouped, words_read)
    rest = np.ones(len(train), dtype=np.bool_)
    rest[held] = False
    words = "10 % of the training split" + (f", by {column}" if grouped else "")
    mark = f" {READ}" if words_read else ""  # other rows than before, so another fingerprint
    parts = (
        select(train, np.flatnonzero(rest), f"train{mark}"),
        select(train, held, f"held out{mark}"),
    )
    return *parts, words


def select(dataset: datasets.Dataset, rows: NDArray[np.int64], what: str) -> datasets.Dataset:
    """Select rows of a data set without making a Python list of them.

    Args:
        dataset: a ``datasets.Dataset``.
        rows: row numbers ``[N]``.
        what: name of the selection; with the data set, it has to determine the rows.
    """
    try:
        order = row_order(dataset)
    except AttributeError:
        return dataset.select(rows)
    if order is not None:
        rows = order[rows]
    table = pyarrow.table({"indices": pyarrow.array(rows, pyarrow.uint64())})
    key = f"{dataset_fingerprint(dataset)} {VERSION} {HELD_OUT} {what}"
    return datasets.Dataset(
        dataset.data,
        info=dataset.info.copy(),
        split=dataset.split,
        indices_table=InMemoryTable(table),
        fingerprint=hashlib.blake2b(key.encode(), digest_size=8).hexdigest(),
    )


def hold_out_stream(
    train: datasets.IterableDataset, image_column: str
) -> tuple[datasets.IterableDataset, datasets.IterableDataset, str]:
    """Split about 10 % off a stream, by the hash of person or source, else of the image.

    Which side a row is on does not depend on who reads the stream, or in which order.

    Args:
        train: a ``datasets.IterableDataset``.
        image_column: its image column.

    Returns:
        Training crops, held-out crops and a description of the split.
    """
    column = next((c for c in GROUP_COLUMNS if c in (train.features or {})), None)
    columns = [image_column] if column is None else [image_column, column]
    raw = train.cast_column(image_column, datasets.Image(decode=False))
    sides = [
        raw.filter(partial(_on_side, held_out=side), input_columns=columns)
        for side in (False, True)
    ]
    words = "about 10 % of the stream, by " + (column or "the image's hash")
    return sides[0], sides[1], words


def _on_side(image: dict[str, Any] | None, group: Any = None, *, held_out: bool) -> bool:
    unknown = missing(group, NOBODY)
    picture = (image or {}).get("bytes") or str((image or {}).get("path")).encode()
    key = picture if unknown else str(group).encode()
    return (hashlib.blake2b(key).digest()[0] < round(256 * HELD_OUT)) == held_out


def _choose(train: Any, column: str | None) -> tuple[NDArray[np.int64], bool, bool]:
    """Return the sorted held-out rows, whether they are whole groups, and what ``_groups`` says."""
    count, words_read = len(train), False
    codes, digests = _rows(count)
    if column is not None:
        theirs, found, words_read = _groups(train, column)
        if len(found) < 2:
            column = None
        else:
            codes, digests = theirs, found
    sizes = np.bincount(codes, minlength=len(digests))
    order = np.argsort(digests, kind="stable")
    reached = np.cumsum(sizes[order])
    target = max(1, round(HELD_OUT * count))
    stop = (reached - sizes[order] >= target) | (reached >= count)
    taken = order[: int(np.argmax(stop)) if stop.any() else len(order)]
    if not len(taken):
        taken = np.array([np.argmin(sizes)])  # codes are in the order of their first rows
    chosen = np.zeros(len(digests), dtype=np.bool_)
    chosen[taken] = True
    return np.flatnonzero(chosen[codes]), column is not None, words_read


def _rows(count: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    return np.arange(count), _digests(str(row) for row in range(count))


def _groups(train: Any, column: str) -> tuple[NDArray[np.int64], NDArray[np.uint64], bool]:
    """Return the group of each row, numbered by first appearance, and the groups' digests.

    The third value says whether some key had to be read: a word that means nobody, or a list.
    """
    table = train.select_columns([column]).with_format("arrow")[:]
    keys = table.column(0).combine_chunks()
    if pyarrow.types.is_dictionary(keys.type):
        keys = keys.dictionary_decode()
    known, words_read = keys.is_valid(), False
    if pyarrow.types.is_integer(keys.type):
        negative = pyarrow.compute.fill_null(pyarrow.compute.less(keys, 0), True)
        known = pyarrow.compute.and_(known, pyarrow.compute.invert(negative))
    else:
        if pyarrow.types.is_nested(keys.type):
            keys = pyarrow.array(_written(keys), pyarrow.string())
            known, words_read = keys.is_valid(), True
        coded = keys.dictionary_encode()
        nobody = [missing(key, NOBODY) for key in coded.dictionary.to_pylist()]
        if any(nobody):
            words_read = True
            of_row = pyarrow.array(nobody).take(pyarrow.compute.fill_null(coded.indices, 0))
            known = pyarrow.compute.and_(known, pyarrow.compute.invert(of_row))
    there = known.to_numpy(zero_copy_only=False)
    coded = keys.filter(known).dictionary_encode()
    codes = np.empty(len(keys), np.int64)
    codes[there] = coded.indices.to_numpy()
    unknown = np.flatnonzero(~there)
    codes[unknown] = len(coded.dictionary) + np.arange(len(unknown))
    digests = _digests(_texts(coded.dictionary, unknown))
    first = np.full(len(digests), len(codes))
    np.minimum.at(first, codes, np.arange(len(codes)))
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[codes], digests[order], words_read


def _numbered(train: Any, column: str) -> bool:
    """Say whether a column holds whole numbers, whose keys mean what they always did."""
    feature = train.features[column]
    return isinstance(feature, datasets.ClassLabel) or (
        isinstance(feature, datasets.Value) and "int" in feature.dtype
    )


def _written(keys: Any) -> Iterator[str | None]:
    """Yield lists or structs as text; an empty one is no key."""
    for start in range(0, len(keys), KEYS):
        for value in keys.slice(start, KEYS).to_pylist():
            yield json.dumps(value, default=str, sort_keys=True) if value else None


def _texts(keys: Any, unknown: NDArray[np.int64]) -> Iterator[str]:
    for start in range(0, len(keys), KEYS):
        yield from map(str, keys.slice(start, KEYS).to_pylist())
    for row in unknown:
        yield f"row {row}"


def _digests(words: Iterable[str]) -> NDArray[np.uint64]:
    """Return the first eight bytes of each word's hash as a number, big-endian."""
    return np.fromiter(
        (int.from_bytes(hashlib.blake2b(word.encode()).digest()[:8], "big") for word in words),
        np.uint64,
    )


def _save(file: Path, held: NDArray[np.int64], grouped: bool, words_read: bool) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file, shared=True) as draft, draft.open("wb") as out:
            np.savez(out, rows=held, flags=grouped + 2 * words_read)  # zip files have checksums
    except (OSError, ResourceError) as error:  # it is chosen again next time
        logger.warning("the choice of the held-out crops is not kept: %s", one_line(error))


def _load(file: Path, count: int) -> tuple[NDArray[np.int64], bool, bool] | None:
    """Return the rows that an earlier start chose among ``count``; None if that is not known."""
    earlier = file.with_suffix(".npy")  # of versions before 0.2: the rows and the answer in one
    file = file if file.exists() or not earlier.exists() else earlier
    if not file.exists():
        return None
    try:
        if file == earlier:
            values = np.load(file, allow_pickle=False)
            held, flags = values[:-1], int(values[-1])
        else:
            with np.load(file, allow_pickle=False) as known:
                held, flags = known["rows"], int(known["flags"])
        if not (0 < len(held) < count and (np.diff(held) > 0).all() and 0 <= held[0]):
            raise ValueError("it holds no rows in order")
        if held[-1] >= count:
            raise ValueError(f"it holds row {held[-1]} of {count}")
    except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        logger.warning("%s is damaged and made anew: %s", file, one_line(error))
        return None
    return held, bool(flags & 1), bool(flags & 2)
