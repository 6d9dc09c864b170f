"""Decoded crops: cached on disk if they fit, else decoded on the fly.

Each source yields uint8 batches ``[B, 3, H, W]``. A cached data set is one file that all processes
of the machine share, so that a crop is decoded only once. The cache does not depend on the policy
for bad images; a second file lists them.
"""

from __future__ import annotations

import json
import logging
import os
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchit_hf.common.draws import sampled_rows
from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json
from patchit_hf.data.bad import BadImages
from patchit_hf.data.cached import cache_path, tidy
from patchit_hf.data.crop_cache import CropCache, Guard
from patchit_hf.data.dataset_state import dataset_fingerprint
from patchit_hf.data.decoded import Found, decode_all
from patchit_hf.data.file_states import FileStates, file_states
from patchit_hf.data.lazy import LazyCrops
from patchit_hf.data.rows import ImageRows
from patchit_hf.data.transformed import TransformedRows, image_rows
from patchit_hf.data.without_bad import ending, rows_kept, without_bad

__all__ = ["CropStore", "LazyCrops", "open_crops"]

logger = logging.getLogger(__name__)

VERSION = 2  # of the cache format


class CropStore:
    """Decoded crops in one array.

    Args:
        array: uint8 ``[N, H, W, 3]``, in memory or memory-mapped.
        fingerprint: hash of the pixels.
        bad: the bad images among them.
        index: row of the array for each crop ``[M]``; None for all rows in order.
        guard: compares crops of a file with their checksums; None for none.

    Attributes:
        known_as: fingerprints that other ways to read the same crops have.

    Example:
        >>> store = CropStore(np.zeros((5, 200, 100, 3), np.uint8), "zeros")
        >>> len(store), store[torch.tensor([0, 3])].shape
        (5, torch.Size([2, 3, 200, 100]))
    """

    def __init__(
        self,
        array: NDArray[np.uint8],
        fingerprint: str,
        bad: BadImages | None = None,
        index: NDArray[np.int64] | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.array, self.fingerprint, self.index = array, fingerprint, index
        self._guard = guard
        self.known_as: tuple[str, ...] = ()
        self.rows: ImageRows | None = None  # the undecoded images
        self.bad = bad or BadImages()
        self._path = str(getattr(array, "filename", ""))
        self._file: int | None = None
        if self._path and hasattr(os, "preadv"):
            self._file = os.open(self._path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return len(self.array) if self.index is None else len(self.index)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return crops, uint8 ``[B, 3, H, W]``, by row numbers ``[B]``."""
        crops = np.empty((len(rows), *self.array.shape[1:]), np.uint8)
        self.read_into(rows, crops)
        return torch.from_numpy(crops).permute(0, 3, 1, 2)

    def read_into(self, rows: Tensor, crops: NDArray[np.uint8]) -> None:
        """Write crops into an array ``[B, H, W, 3]``, by row numbers ``[B]``.

        Raises:
            OSError: if the cache file has become too short, and there is no guard to mend it.
        """
        numbers = rows.numpy() if self.index is None else self.index[rows.numpy()]
        if self._file is None:
            np.take(self.array, numbers, axis=0, out=crops)
        else:  # reading through the mapping would let the process appear to grow to the file's size
            self._read(self._file, numbers, crops)
        if self._guard is not None:
            self._guard.check(numbers, crops)

    def _read(self, file: int, numbers: NDArray[np.int64], crops: NDArray[np.uint8]) -> None:
        for crop, number in zip(crops, numbers.tolist(), strict=True):
            done = os.preadv(file, [crop.data], number * crop.nbytes)
            if done != crop.nbytes:
                if self._guard is None:
                    raise OSError(f"{self._path}: crop {number} is missing")
                crop.reshape(-1)[done:] = 0

    def batches(self, plan: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the crops of each planned batch of row numbers."""
        return (self[rows] for rows in plan)

    def sample(self, count: int) -> Iterator[Tensor]:
        """Yield batches of at most ``count`` crops, the same ones every time."""
        return self.batches(sampled_rows(len(self), count))


def open_crops(
    dataset: datasets.Dataset,
    column: str,
    canvas: tuple[int, int],
    fit: str,
    *,
    cache_gb: float = 8.0,
    on_disk: bool = True,
    workers: int = 2,
    main: bool = True,
    name: str = "data set",
    bad: BadImages | None = None,
    beforehand: bool = False,
    verify: bool = False,
) -> CropStore | LazyCrops:
    """Open a map-style data set as decoded crops.

    Up to ``cache_gb``, the decoded crops are kept in a file in the cache folder of ``datasets``, so
    that later epochs and runs need not decode. For a data set in memory, they are kept in memory.

    Args:
        dataset: a ``datasets.Dataset``.
        column: its image column.
        canvas: height and width, in pixels.
        fit: see ``patchit_hf.data.canvas.to_canvas``.
        cache_gb: largest cache, in 10**9 bytes; 0 decodes on the fly.
        on_disk: whether the cache of a data set on disk is a file; False keeps it in memory.
        workers: number of threads or worker processes that decode.
        main: whether this process shows progress.
        name: name of the data in errors and the progress bar.
        bad: policy for bad images, and the list that they are added to; they are errors if None.
        beforehand: whether to settle all replacements of bad images before the first batch, so that
            the caller can match labels by the result's ``index``. Without a cache, this decodes all
            images once.
        verify: whether to compare every crop of an existing cache with its checksum; otherwise each
            is compared when it is read for the first time.

    Returns:
        The cached crops, or crops that are decoded on the fly. Both yield batches of crops, uint8
        ``[B, 3, H, W]``, and have ``index``: the row of each crop, or None for all rows in order.

    Raises:
        InputError: for an image that cannot be decoded, if the policy is ``raise``.

    Example:
        >>> import datasets
        >>> from PIL import Image
        >>> images = {"image": [Image.new("RGB", (50, 100))] * 4}
        >>> features = datasets.Features({"image": datasets.Image()})
        >>> data = datasets.Dataset.from_dict(images, features=features)
        >>> crops = open_crops(data, "image", (200, 100), "squash", main=False)
        >>> [batch.shape for batch in crops.batches([torch.tensor([0, 2, 3])])]
        [torch.Size([3, 3, 200, 100])]
    """
    bad = bad or BadImages()
    bad.name = name
    rows = image_rows(dataset, column)
    shape = (len(rows), *canvas, 3)
    size = int(np.prod(shape))
    note = _note(dataset, column, canvas, fit, file_states(rows))
    lazy = LazyCrops(rows, canvas, fit, workers, f"datasets-{dataset_fingerprint(dataset)}", bad)
    if isinstance(rows, TransformedRows) and on_disk:
        logger.warning(
            "%s: has a transform, which every image passes through before the canvas, each time it "
            "is read; such crops are not cached",
            name,
        )
        return without_bad(lazy, None, beforehand, main=main)
    lazy.known_as = _noted(note)
    if size > cache_gb * 1e9:
        logger.info(
            "%s: %.1f GB of crops, more than the cache may have; decoded on the fly",
            name,
            size / 1e9,
        )
        return without_bad(lazy, note, beforehand, main=main)
    if note is None or not on_disk:
        array = np.empty(shape, dtype=np.uint8)

        def keep(start: int, chunk: NDArray[np.uint8]) -> None:
            array[start : start + len(chunk)] = chunk

        decoded = decode_all(lazy, keep, main=main)
        return _store(array, decoded.fingerprint, decoded.found, lazy)
    tidy()
    cache = CropCache(note, shape, lazy, main)
    opened = cache.open(verify=verify)
    if opened is None:
        return without_bad(lazy, note, beforehand, main=main)
    mapped, known = opened
    return _store(mapped, known.fingerprint, known.found, lazy, Guard(cache, known.sums))


def _note(
    dataset: datasets.Dataset,
    column: str,
    canvas: tuple[int, int],
    fit: str,
    files: FileStates | None,
) -> Path | None:
    """Return the note file of a data set's cached crops; None for a data set in memory.

    The state of the files that a data set of paths names belongs to the key. A cache of earlier
    versions, whose key lacks it, is right if no file has changed since.
    """
    if not dataset.cache_files:
        return None
    key = [VERSION, dataset_fingerprint(dataset), column, canvas, fit]
    note = cache_path("{}.json", json.dumps(key))
    if files is None or (note.exists() and note.stat().st_mtime_ns > files.newest):
        return note
    return cache_path("{}.json", json.dumps([*key, files.key]))


def _noted(note: Path | None) -> tuple[str, ...]:
    """Return the fingerprint of the pixels, where a cache was made of them."""
    try:
        return () if note is None else (str(read_json(note)["fingerprint"]),)
    except (InputError, OSError, KeyError):
        return ()


def _store(
    array: NDArray[np.uint8],
    fingerprint: str,
    found: Found,
    crops: LazyCrops,
    guard: Guard | None = None,
) -> CropStore:
    """Return the crops under the policy for bad images."""
    index = rows_kept(found, crops)
    end = ending(index, crops)
    store = CropStore(array, fingerprint + end, crops.bad, index, guard)
    store.known_as, store.rows = (crops.fingerprint + end,), crops.rows
    return store
