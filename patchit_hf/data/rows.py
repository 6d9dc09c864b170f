"""Undecoded images by row number: of a million rows as of ten, with memory that stays as it is.

``datasets`` maps its Arrow files into memory, so that a process that walks over them seems to grow
until it holds all of them. Here the places of the images in their files are noted once, twelve
bytes a row, and each image is then read from there. Where the system does not say what is mapped
where (it does on Linux), and for data sets in memory, Arrow's own view is read.
"""

from __future__ import annotations

import bisect
import ctypes
import os
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # type: ignore[import-untyped]
from numpy.typing import NDArray

MISSING = -1  # length of an image whose bytes are not in the table
IN_MEMORY = -1  # file of a chunk that no file holds
DONT_NEED = 4  # madvise's MADV_DONTNEED


class ImageRows:
    """The image column of a map-style data set, not decoded.

    Args:
        dataset: a ``datasets.Dataset``, selections included.
        column: its image column.
    """

    def __init__(self, dataset: Any, column: str) -> None:
        self.dataset, self.column = dataset, column
        indices = dataset._indices
        self._order = None if indices is None else indices.column(0).to_numpy()
        self._files: list[str] = []
        self._starts, self._lengths, self._ends, self._owner = self._index()
        self._open()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, Any] | None:
        """Return ``bytes`` and ``path`` of a row, as the column has them; the latter if need be."""
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

    def original(self, row: int) -> int:
        """Return the row of the table that a row of a selection stands for."""
        return row if self._order is None else int(self._order[row])

    def described(self, row: int) -> dict[str, Any] | None:
        """Return a row with its path, through Arrow's own view."""
        at = self.original(row)
        chunk = bisect.bisect_right(self._ends, at)
        value: dict[str, Any] | None = self._chunks[chunk][
            at - (self._ends[chunk - 1] if chunk else 0)
        ].as_py()
        return value

    def place(self, row: int) -> tuple[str, int, int] | None:
        """Return file, offset and length of a row's image; None where no file holds it as it is."""
        at = self.original(row)
        file, length = self._owner[bisect.bisect_right(self._ends, at)], int(self._lengths[at])
        if file == IN_MEMORY or length == MISSING:
            return None
        return self._files[file], int(self._starts[at]), length

    def path(self, row: int) -> str | None:
        """Return what the column says about the file of a row."""
        value = self.described(row)
        return None if value is None else value["path"]

    def _index(self) -> tuple[NDArray[np.int64], NDArray[np.int32], list[int], list[int]]:
        """Return where each image starts and how long it is, and ends and files of the chunks."""
        self._chunks = self.dataset.data.column(self.column).chunks
        count = sum(map(len, self._chunks))
        starts, lengths = np.zeros(count, np.int64), np.full(count, MISSING, np.int32)
        ends: list[int] = []
        owner: list[int] = []
        mapped = _mapped({entry["filename"] for entry in self.dataset.cache_files})
        self._files = sorted({name for _, _, _, name in mapped})
        done = 0
        for chunk in self._chunks:
            images = chunk.field(0)
            offsets = _offsets(images)
            place = _place(images, mapped)
            part = slice(done, done + len(chunk))
            starts[part] = offsets[:-1] + (0 if place is None else place[1])
            lengths[part] = np.diff(offsets)
            if chunk.null_count or images.null_count:
                there = chunk.is_valid().to_numpy(False) & images.is_valid().to_numpy(False)
                lengths[part][~there] = MISSING
            done += len(chunk)
            ends.append(done)
            owner.append(IN_MEMORY if place is None else self._files.index(place[0]))
        _forget(mapped)
        return starts, lengths, ends, owner

    def _open(self) -> None:
        self._descriptors = [os.open(file, os.O_RDONLY) for file in self._files]
        for descriptor in self._descriptors:
            weakref.finalize(self, os.close, descriptor)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_chunks", "_descriptors")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._chunks = self.dataset.data.column(self.column).chunks
        self._open()


def _offsets(images: Any) -> NDArray[np.int64]:
    """Return where the values of a binary array begin in its data, and where the last one ends."""
    wide = pyarrow.types.is_large_binary(images.type)
    buffer = images.buffers()[1]
    if buffer is None:
        return np.zeros(len(images) + 1, np.int64)
    values = np.frombuffer(buffer, np.int64 if wide else np.int32)
    return values[images.offset : images.offset + len(images) + 1].astype(np.int64)


def _place(images: Any, mapped: list[tuple[int, int, int, str]]) -> tuple[str, int] | None:
    """Return the file that an array's data lies in, and where it begins there; None if in none."""
    data = images.buffers()[2]
    if data is None or not data.size:
        return None
    at = bisect.bisect_right(mapped, (data.address, sys.maxsize, 0, "")) - 1
    if at < 0:
        return None
    first, last, offset, name = mapped[at]
    if data.address + data.size > last:
        return None
    return name, data.address - first + offset


def _mapped(names: set[str]) -> list[tuple[int, int, int, str]]:
    """Return first and last address, offset and name of what is mapped of files, by address."""
    table = Path("/proc/self/maps")
    if not names or not hasattr(os, "pread") or not table.exists():
        return []
    real = {os.path.realpath(name): name for name in names}
    found = []
    for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split(None, 5)
        if len(words) == 6 and words[5] in real:
            first, last = (int(word, 16) for word in words[0].split("-"))
            found.append((first, last, int(words[2], 16), real[words[5]]))
    return sorted(found)


def release(names: set[str]) -> None:
    """Let go of the pages of mapped files; they are read again if somebody needs them."""
    _forget(_mapped(names))


def _forget(mapped: list[tuple[int, int, int, str]]) -> None:
    if not mapped or not sys.platform.startswith("linux"):
        return
    advise = ctypes.CDLL(None).madvise
    for first, last, _, _ in mapped:
        advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), DONT_NEED)
