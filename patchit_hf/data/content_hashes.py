"""Hashes of what a data set holds; see ``contents`` for what they are compared for.

They are hashes of the undecoded images, so they are the same whether crops are cached, decoded on
the fly, or touched; of a stream they are hashes of its files. Images that are files are read again
only if size, time or change time of the file differ from those at the last look.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from patchit_hf.common.files import replacing
from patchit_hf.common.progress import Progress
from patchit_hf.common.resources import ResourceError
from patchit_hf.common.walk import walk
from patchit_hf.data.cached import cache_path
from patchit_hf.data.contents import Contents, Digests
from patchit_hf.data.dataset_state import dataset_fingerprint
from patchit_hf.data.rows import ImageRows

VERSION = 1  # of the hashes and of their cache
NAMED = 10_000  # images or files whose names are kept with a run
THREADS = 8
CHUNK = 256
WHOLE = 2**24  # bytes of a stream's file up to which all of it is read
SAMPLES, SAMPLE = 64, 2**16  # of a larger one, so many parts of so many bytes
NO_DATA = ("readme.md", "license", "license.md", "license.txt")  # files that hold no crops


def contents_of_rows(
    images: ImageRows,
    rows: Sequence[int] | None = None,
    *,
    name: str = "data set",
    main: bool = False,
) -> Contents:
    """Return what rows of a data set hold: the hash of each undecoded image.

    For a data set on disk the hashes are kept in the cache folder of ``datasets``.

    Args:
        images: the undecoded images.
        rows: which rows; all by default.
        name: name of the data in the progress bar.
        main: whether this process shows progress.
    """
    wanted = np.arange(len(images)) if rows is None else np.asarray(rows, np.int64)
    file = _cache(images.dataset, images.column)
    known = _Known.read(file, len(images))
    open_rows = known.stale(images, wanted)
    with ThreadPoolExecutor(THREADS) as pool:
        chunks = [open_rows[i : i + CHUNK] for i in range(0, len(open_rows), CHUNK)]
        shown = main and len(open_rows) >= NAMED
        bar = Progress(f"reading {name}", len(open_rows), "images", shown=shown)
        with bar:
            for done in pool.map(lambda chunk: known.hash(images, chunk), chunks):
                bar.update(done)
    if len(open_rows):
        known.write(file)
    names = [images.path(int(row)) for row in wanted] if len(wanted) <= NAMED else []
    whole = () if None in names else tuple(str(found) for found in names)
    return Contents(known.digests[wanted], whole)


def is_data(name: str) -> bool:
    """Say whether a file may hold crops: it is not hidden, and not a card or a licence.

    Example:
        >>> is_data("train/0.parquet"), is_data("README.md"), is_data(".gitattributes")
        (True, False, False)
    """
    last = Path(name).name.lower()
    return not last.startswith(".") and last not in NO_DATA


def contents_of_folder(folder: Path) -> Contents:
    """Return what a folder that is read as a stream holds: the hash of each file.

    Of a file of more than 16 MB, parts from all over it are read.

    Args:
        folder: the folder; hidden files, its card and its licence are left out.
    """
    names = sorted(
        os.path.join(path, entry.name)
        for path, entries in walk(folder, again=True)
        for entry in entries
        if is_data(entry.name)
    )
    with ThreadPoolExecutor(THREADS) as pool:
        digests = list(pool.map(lambda name: _file_digest(folder / name), names))
    return contents_of_files(dict(zip(names, digests, strict=True)))


def contents_of_files(files: dict[str, Any]) -> Contents:
    """Return what files hold, from names and whatever identifies the content of each."""
    digests = [_digest(f"{name} {value}".encode()) for name, value in files.items()]
    names = tuple(files) if len(files) <= NAMED else ()
    return Contents(np.array(digests, np.uint64).reshape(-1), names)


def contents_of_targets(targets: Tensor) -> Contents:
    """Return what labels ``[N, ...]`` are."""
    rows = targets.reshape(len(targets), -1).numpy()
    return Contents(np.array([_digest(row.tobytes()) for row in rows], np.uint64).reshape(-1))


class _Known:
    """The hashes of a data set's images that are known from before, and of which state."""

    def __init__(self, count: int) -> None:
        self.digests: Digests = np.zeros(count, np.uint64)
        self.states = np.full((count, 3), -1, np.int64)  # size, time, change time

    @classmethod
    def read(cls, file: Path | None, count: int) -> _Known:
        known = cls(count)
        if file is None or not file.exists():
            return known
        try:
            with np.load(file, allow_pickle=False) as stored:
                digests, states = stored["digests"], stored["states"]
        except Exception:  # a damaged cache is made anew
            return known
        if digests.shape == (count,) and states.shape == (count, 3):
            known.digests, known.states = digests.astype(np.uint64), states.astype(np.int64)
        return known

    def write(self, file: Path | None) -> None:
        if file is None:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file, shared=True) as draft, draft.open("wb") as out:
                np.savez(out, digests=self.digests, states=self.states)
        except (OSError, ResourceError):  # it is made again next time
            pass

    def stale(self, images: ImageRows, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows whose hash is not known, or that are files in another state."""
        held = images.held()[rows]
        known = self.states[rows, 0] >= 0
        for at in np.flatnonzero(~held & known).tolist():
            row = int(rows[at])
            known[at] = tuple(self.states[row].tolist()) == _state(images, row)
        stale: NDArray[np.int64] = rows[~known]
        return stale

    def hash(self, images: ImageRows, rows: NDArray[np.int64]) -> int:
        """Hash these rows, and return how many they are."""
        for row in rows.tolist():
            value = images.undecoded(row)
            inside = value is None or value.get("bytes") is not None
            state = (0, 0, 0) if inside else _state(images, row)  # before its content
            self.digests[row] = _digest(_content(value))
            self.states[row] = state
        return len(rows)


def _state(images: ImageRows, row: int) -> tuple[int, int, int]:
    """Return size, time and change time of an image that is a file; zeros for any other."""
    try:
        found = os.stat(str(images.path(row)))
    except (OSError, ValueError):  # an address, or a place in an archive
        return 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _content(value: dict[str, Any] | None) -> bytes:
    """Return the bytes of an undecoded image; of one that cannot be read here, its path."""
    content = (value or {}).get("bytes")
    if content is not None:
        return bytes(content)
    path = str((value or {}).get("path"))
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError):
        return path.encode(errors="backslashreplace")


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _cache(dataset: datasets.Dataset, column: str) -> Path | None:
    files = [file["filename"] for file in dataset.cache_files]
    if not files:
        return None
    states = [(file, os.path.getsize(file), os.stat(file).st_mtime_ns) for file in files]
    return cache_path(
        "{}.contents.npz", json.dumps([VERSION, dataset_fingerprint(dataset), column, states])
    )


def _file_digest(file: Path) -> int:
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            if size <= WHOLE:
                return _digest(opened.read())
            total = hashlib.blake2b(str(size).encode(), digest_size=8)
            for start in np.linspace(0, size - SAMPLE, SAMPLES).astype(np.int64).tolist():
                opened.seek(start)
                total.update(opened.read(SAMPLE))
    except OSError:  # whoever reads it says so
        return 0
    return int.from_bytes(total.digest(), "little")
