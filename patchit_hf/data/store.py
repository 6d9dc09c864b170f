"""Decoded crops: cached on disk where they fit, decoded on the fly where not.

Each source yields uint8 batches ``[B, 3, H, W]``. A cached data set is one memory-mapped file that
every process of the machine shares; cutting a patch then costs a copy of its crop and no decoding.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from patchit_hf.data.canvas import load_canvas
from patchit_hf.data.draws import epoch_order
from patchit_hf.errors import InputError

logger = logging.getLogger(__name__)

VERSION = 1  # of the cache's files
CHUNK = 64


class CropStore:
    """Decoded crops in one array.

    Args:
        array: uint8 ``[N, H, W, 3]``, in memory or memory-mapped.
        fingerprint: hash of the crops' pixels.
    """

    def __init__(self, array: NDArray[np.uint8], fingerprint: str) -> None:
        self.array = array
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return crops, uint8 ``[B, 3, H, W]``, by row numbers ``[B]``."""
        return torch.from_numpy(self.array[rows.numpy()]).permute(0, 3, 1, 2)

    def batches(self, plan: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the crops of each planned batch of row numbers."""
        return (self[rows] for rows in plan)

    def sample(self, count: int) -> Iterator[Tensor]:
        """Yield batches of at most ``count`` crops, the same ones every time."""
        return self.batches(sampled_rows(len(self), count))


class LazyCrops:
    """Crops decoded when they are asked for, in worker processes.

    Args:
        dataset: a map-style data set.
        column: its image column.
        canvas: height and width, in pixels.
        fit: see ``patchit_hf.data.canvas.to_canvas``.
        workers: number of worker processes.
    """

    def __init__(
        self, dataset: Any, column: str, canvas: tuple[int, int], fit: str, workers: int
    ) -> None:
        self.dataset = undecoded(dataset, column)
        self.column, self.canvas, self.fit, self.workers = column, canvas, fit, workers
        self.fingerprint = f"datasets-{dataset._fingerprint}"

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, rows: list[int]) -> Tensor:
        values = self.dataset[rows][self.column]
        canvases = [
            load_canvas(value, self.canvas, self.fit, f"row {original_row(self.dataset, row)}")
            for row, value in zip(rows, values, strict=True)
        ]
        return torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2)

    def batches(self, plan: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the crops of each planned batch of row numbers."""
        loader: Any = DataLoader(
            self,  # type: ignore[arg-type]
            batch_sampler=(rows.tolist() for rows in plan),
            num_workers=self.workers,
            collate_fn=_same,  # type: ignore[arg-type]
        )
        return one_line_errors(loader)

    def sample(self, count: int) -> Iterator[Tensor]:
        """Yield batches of at most ``count`` crops, the same ones every time."""
        return self.batches(sampled_rows(len(self), count))


def open_crops(
    dataset: Any,
    column: str,
    canvas: tuple[int, int],
    fit: str,
    *,
    cache_gb: float = 8.0,
    on_disk: bool = True,
    workers: int = 2,
    main: bool = True,
    name: str = "data set",
) -> CropStore | LazyCrops:
    """Open a map-style data set as decoded crops.

    Up to ``cache_gb`` the canvases are kept in a file of the ``datasets`` cache folder (or in
    memory, for a data set that is not on disk), so that later epochs and runs decode nothing.

    Args:
        dataset: a ``datasets.Dataset``.
        column: its image column.
        canvas: height and width, in pixels.
        fit: see ``patchit_hf.data.canvas.to_canvas``.
        cache_gb: largest cache, in 10**9 bytes; 0 decodes on the fly.
        on_disk: whether the cache is a file if the data set is one.
        workers: threads or worker processes that decode.
        main: whether this process shows progress.
        name: what errors and the progress bar call the data.

    Raises:
        InputError: for an image that cannot be decoded.
    """
    shape = (len(dataset), *canvas, 3)
    size = int(np.prod(shape))
    if size > cache_gb * 1e9:
        logger.info("%s: %.1f GB of crops, decoded on the fly", name, size / 1e9)
        return LazyCrops(dataset, column, canvas, fit, workers)
    if not (on_disk and dataset.cache_files):
        array = np.empty(shape, dtype=np.uint8)
        return CropStore(array, _fill(array, dataset, column, fit, workers, main, name))
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "patchit_hf"
    key = hashlib.blake2b(
        json.dumps([VERSION, dataset._fingerprint, column, canvas, fit]).encode(), digest_size=12
    ).hexdigest()
    pixels, note = folder / f"{key}.uint8", folder / f"{key}.json"
    if not note.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < size + 10**9:
            logger.warning("%s: no room for %.1f GB of crops in %s", name, size / 1e9, folder)
            return LazyCrops(dataset, column, canvas, fit, workers)
        _write(pixels, note, shape, dataset, column, fit, workers, main, name)
    fingerprint = json.loads(note.read_text(encoding="utf-8"))["fingerprint"]
    return CropStore(np.memmap(pixels, np.uint8, "r", shape=shape), fingerprint)


def undecoded(dataset: Any, column: str) -> Any:
    """Return the data set with its image column alone, as bytes or paths."""
    return dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def sampled_rows(size: int, count: int, batch: int = 100) -> tuple[Tensor, ...]:
    """Return batches of at most ``count`` of ``size`` row numbers, the same ones every time."""
    rows = epoch_order(0, 0, size)[:count].sort().values
    return tuple(rows.split(batch))


def original_row(dataset: Any, row: int) -> int:
    """Return the row of the file that a row of a selection stands for."""
    indices = getattr(dataset, "_indices", None)
    return row if indices is None else int(indices.column(0)[row].as_py())


def _write(
    pixels: Path,
    note: Path,
    shape: tuple[int, ...],
    dataset: Any,
    column: str,
    fit: str,
    workers: int,
    main: bool,
    name: str,
) -> None:
    """Fill both files under other names, and move them when they are whole."""
    draft = pixels.with_name(f"{pixels.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    draft_note = draft.with_suffix(".note")
    try:
        array = np.memmap(draft, np.uint8, "w+", shape=shape)
        fingerprint = _fill(array, dataset, column, fit, workers, main, name)
        array.flush()
        del array
        text = json.dumps({"fingerprint": fingerprint, "shape": shape})
        draft_note.write_text(text, encoding="utf-8")
        os.replace(draft, pixels)
        os.replace(draft_note, note)
    finally:
        draft.unlink(missing_ok=True)
        draft_note.unlink(missing_ok=True)


def _fill(
    array: NDArray[np.uint8],
    dataset: Any,
    column: str,
    fit: str,
    workers: int,
    main: bool,
    name: str,
) -> str:
    """Decode every crop into the array and return the hash of all pixels."""
    source = undecoded(dataset, column)
    canvas = (array.shape[1], array.shape[2])

    def fill_chunk(start: int) -> tuple[int, bytes]:
        stop = min(start + CHUNK, len(array))
        for row, value in enumerate(source[start:stop][column], start):
            where = f"{name}, row {original_row(source, row)}"
            array[row] = load_canvas(value, canvas, fit, where)
        return stop - start, hashlib.blake2b(array[start:stop].tobytes(), digest_size=16).digest()

    total = hashlib.blake2b(digest_size=16)
    bar = tqdm(total=len(array), desc=f"decoding {name}", unit=" crops", disable=not main)
    with ThreadPoolExecutor(max(1, workers)) as pool, bar:
        futures = [pool.submit(fill_chunk, start) for start in range(0, len(array), CHUNK)]
        try:
            for future in futures:
                done, digest = future.result()
                total.update(digest)
                bar.update(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return total.hexdigest()


def _same(batch: Tensor) -> Tensor:
    return batch


def one_line_errors(loader: Iterable[Tensor]) -> Iterator[Tensor]:
    """Iterate over a loader; bad input found by a worker comes out as the one line it is."""
    try:
        yield from loader
    except InputError:
        raise
    except Exception as error:
        marker = f"{InputError.__module__}.{InputError.__name__}: "
        lines = [line for line in str(error).splitlines() if line.startswith(marker)]
        if lines:
            raise InputError(lines[-1].removeprefix(marker)) from error
        raise
