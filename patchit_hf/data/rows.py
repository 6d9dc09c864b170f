"""Read undecoded images by row number with constant memory, whatever the size of the data set.

``datasets`` maps its Arrow files into memory, so a process that reads them all appears to grow by
their size. This module looks up the offset of each image in its file once, which takes twelve bytes
per row, and then reads single images. A data set in memory, or a column that was cast to another
type than the file's, is read through Arrow instead.
"""

from __future__ import annotations

import bisect
import mmap
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import pyarrow
from datasets.table import ConcatenationTable, MemoryMappedTable
from numpy.typing import NDArray

from patchit_hf.data.dataset_state import row_order

MISSING = -1  # length of an image whose bytes are not in the table
IN_MEMORY = -1  # file index of a chunk that is in no file


class ImageRows:
    """The undecoded image column of a map-style data set.

    Args:
        dataset: a ``datasets.Dataset``, or a selection of one.
        column: its image column.
    """

    def __init__(self, dataset: datasets.Dataset, column: str) -> None:
        self.dataset, self.column = dataset, column
        try:
            self._order = row_order(dataset)
        except AttributeError:  # datasets writes a copy in order
            self.dataset, self._order = dataset.select_columns([column]).flatten_indices(), None
        self._files: list[str] = []
        self._starts, self._lengths, self._ends, self._owner = self._index()
        self._open()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, Any] | None:
        """Return ``bytes`` and ``path`` of a row; ``path`` only if there are no bytes.

        Raises:
            OSError: if the Arrow file is too short.
        """
        at = self.original(row)
        length = int(self._lengths[at])
        if length == MISSING:
            return self.described(row)
        chunk = bisect.bisect_right(self._ends, at)
        file = self._owner[chunk]
        if file != IN_MEMORY:
            content = os.pread(self._descriptors[file], length, int(self._starts[at]))
        else:
            first = self._ends[chunk - 1] if chunk else 0
            content = self._chunks[chunk].field(0)[at - first].as_py()
        if len(content) != length:
            raise OSError(f"{self._files[file]}: ends in the middle of row {at}")
        return {"bytes": content, "path": None}

    def undecoded(self, row: int) -> dict[str, Any] | None:
        """Return a row as the data set holds it, also where a transform follows; see ``[row]``."""
        return ImageRows.__getitem__(self, row)

    def held(self) -> NDArray[np.bool_]:
        """Return for each row whether its image is in the table, and not only named ``[N]``."""
        held: NDArray[np.bool_] = self._lengths != MISSING
        return held if self._order is None else held[self._order]

    def original(self, row: int) -> int:
        """Return the row of the underlying table for a row of a selection."""
        return row if self._order is None else int(self._order[row])

    def described(self, row: int) -> dict[str, Any] | None:
        """Return a row as Arrow holds it, with its path."""
        return self._value(self.original(row))

    def _value(self, at: int) -> dict[str, Any] | None:
        chunk = bisect.bisect_right(self._ends, at)
        value: dict[str, Any] | None = self._chunks[chunk][
            at - (self._ends[chunk - 1] if chunk else 0)
        ].as_py()
        return value

    def place(self, row: int) -> tuple[str, int, int] | None:
        """Return file, offset and length in bytes of a row's image; None if no file holds it."""
        at = self.original(row)
        file, length = self._owner[bisect.bisect_right(self._ends, at)], int(self._lengths[at])
        if file == IN_MEMORY or length == MISSING:
            return None
        return self._files[file], int(self._starts[at]), length

    def path(self, row: int) -> str | None:
        """Return the path of a row's image, or None."""
        value = self.described(row)
        return None if value is None else value["path"]

    def paths(self) -> Iterator[str]:
        """Yield the path of every row whose image is in a file of its own, in order."""
        rows = np.arange(len(self._lengths)) if self._order is None else self._order
        for at in rows[self._lengths[rows] == MISSING].tolist():
            value = self._value(at)
            if value is not None and value["path"] is not None:
                yield str(value["path"])

    def _index(self) -> tuple[NDArray[np.int64], NDArray[np.int32], list[int], list[int]]:
        """Return offset and length of each image, and last row and file of each chunk."""
        found = _column(self.dataset, self.column)
        self._chunks = [chunk for chunk, _ in found]
        count = sum(map(len, self._chunks))
        starts, lengths = np.zeros(count, np.int64), np.full(count, MISSING, np.int32)
        ends: list[int] = []
        owner: list[int] = []
        names = {name for _, name in found if name and hasattr(os, "pread")}
        self._files = sorted(names)
        files = {name: ArrowFile.map(name) for name in self._files}
        done = 0
        for chunk, name in found:
            images = chunk.field(0)
            place = _place(images, files[name]) if name in files else None
            offsets, first = place or (_offsets(images), 0)
            part = slice(done, done + len(chunk))
            starts[part] = offsets[:-1] + first
            lengths[part] = np.diff(offsets)
            if chunk.null_count or images.null_count:
                there = chunk.is_valid().to_numpy(False) & images.is_valid().to_numpy(False)
                lengths[part][~there] = MISSING
            done += len(chunk)
            ends.append(done)
            owner.append(IN_MEMORY if place is None else self._files.index(str(name)))
        return starts, lengths, ends, owner

    def _open(self) -> None:
        self._descriptors = [os.open(file, os.O_RDONLY) for file in self._files]
        for descriptor in self._descriptors:
            weakref.finalize(self, os.close, descriptor)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_chunks", "_descriptors")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._chunks = [chunk for chunk, _ in _column(self.dataset, self.column)]
        self._open()


@dataclass(frozen=True)
class ArrowFile:
    """A memory-mapped Arrow file of a data set, whose pages can be released.

    Attributes:
        name: the file.
        mapping: the whole file.
        seen: addresses of other mappings, and whether each holds the same bytes.
    """

    name: str
    mapping: mmap.mmap
    seen: dict[int, bool] = field(default_factory=dict)

    @classmethod
    def map(cls, name: str) -> ArrowFile:
        """Map a file for reading."""
        with open(name, "rb") as file:
            return cls(name, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def release(self) -> None:
        """Release the pages that were read; they are read again when needed."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on every operating system
            self.mapping.madvise(mmap.MADV_DONTNEED)

    def start_of(self, buffer: pyarrow.Buffer) -> int | None:
        """Return the offset of a buffer in the file; None if it is not part of a mapping of it."""
        whole = buffer
        while whole.parent is not None:
            whole = whole.parent
        start = int(buffer.address - whole.address)
        if whole.size != len(self.mapping) or not 0 <= start <= whole.size - buffer.size:
            return None
        if whole.address not in self.seen:  # checked once, since each check touches pages
            head = buffer[: min(64, buffer.size)].to_pybytes()
            self.seen[whole.address] = self.mapping[start : start + len(head)] == head
        return start if self.seen[whole.address] else None

    def read(self, dtype: type[np.generic], count: int, start: int) -> NDArray[np.int64]:
        """Return a copy of the numbers from byte ``start`` on, as int64 ``[count]``."""
        return np.frombuffer(self.mapping, dtype, count, start).astype(np.int64)


def open_arrow(name: str) -> datasets.Dataset:
    """Open an Arrow file as ``Dataset.from_file`` does, and release the pages that it touches.

    Args:
        name: an Arrow stream file, as ``datasets`` writes it.
    """
    file = ArrowFile.map(name)
    table = pyarrow.ipc.open_stream(pyarrow.py_buffer(file.mapping)).read_all()
    dataset = datasets.Dataset(MemoryMappedTable(table, name))
    file.release()
    return dataset


def _column(dataset: datasets.Dataset, column: str) -> list[tuple[Any, str | None]]:
    """Return the chunks of a column, each with the file that ``datasets`` has mapped, if any."""
    table = dataset.data
    rows = table.blocks if isinstance(table, ConcatenationTable) else [[table]]
    return [
        (chunk, getattr(block, "path", None))
        for blocks in rows
        for block in blocks
        if column in block.column_names
        for chunk in block.column(column).chunks
    ]


def column_chunks(dataset: datasets.Dataset, column: str) -> list[Any]:
    """Return the Arrow chunks of a column of the underlying table, in order."""
    return [chunk for chunk, _ in _column(dataset, column)]


def _place(images: Any, file: ArrowFile) -> tuple[NDArray[np.int64], int] | None:
    """Return the offsets ``[N + 1]`` of a chunk's values, and the byte of the file they count from.

    None if the file does not hold the chunk as it is.
    """
    _, offsets, data = images.buffers()
    if offsets is None or data is None or not data.size:
        return None
    start, before = file.start_of(data), file.start_of(offsets)
    if start is None or before is None:
        return None
    dtype = np.int64 if pyarrow.types.is_large_binary(images.type) else np.int32
    first = before + images.offset * np.dtype(dtype).itemsize
    return file.read(dtype, len(images) + 1, first), start


def _offsets(images: Any) -> NDArray[np.int64]:
    """Return the offsets ``[N + 1]`` of the values of a binary array in its data."""
    wide = pyarrow.types.is_large_binary(images.type)
    buffer = images.buffers()[1]
    if buffer is None:
        return np.zeros(len(images) + 1, np.int64)
    values = np.frombuffer(buffer, np.int64 if wide else np.int32)
    return values[images.offset : images.offset + len(images) + 1].astype(np.int64)
