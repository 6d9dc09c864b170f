"""Decode crops on the fly in worker processes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from patchit_hf.common.draws import sampled_rows
from patchit_hf.common.errors import InputError
from patchit_hf.common.progress import Progress
from patchit_hf.data.bad import TRIES, BadImage, BadImages, substitute
from patchit_hf.data.canvas import BadImageError, load_canvas
from patchit_hf.data.rows import ImageRows

logger = logging.getLogger(__name__)

SCAN = 256  # crops that a worker checks at a time
Batch = tuple[Tensor, list[BadImage]]


class LazyCrops:
    """Crops that are decoded on the fly in worker processes.

    Args:
        rows: the images.
        canvas: height and width, in pixels.
        fit: see ``patchit_hf.data.canvas.to_canvas``.
        workers: number of worker processes.
        fingerprint: fingerprint of the data set.
        bad: policy for bad images, and the list that they are added to.
        index: row of each crop ``[M]``; None for all rows in order.

    Attributes:
        known_as: fingerprints that other ways to read the same crops have.
    """

    def __init__(
        self,
        rows: ImageRows,
        canvas: tuple[int, int],
        fit: str,
        workers: int,
        fingerprint: str,
        bad: BadImages,
        index: NDArray[np.int64] | None = None,
    ) -> None:
        self.rows, self.canvas, self.fit, self.workers = rows, canvas, fit, workers
        self.fingerprint, self.bad, self.index = fingerprint, bad, index
        self.known_as: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows) if self.index is None else len(self.index)

    def __getitems__(self, numbers: list[int]) -> Batch:
        """Return crops, uint8 ``[B, 3, H, W]``, and the bad images among them."""
        found: list[BadImage] = []
        rows = numbers if self.index is None else self.index[numbers].tolist()
        canvases = [self._canvas(row, found) for row in rows]
        return torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2), found

    def batches(self, plan: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the crops of each planned batch of row numbers."""
        for crops, found in load(self, plan, self.workers):
            for image in found:
                self.bad.add(image)
            yield crops

    def sample(self, count: int) -> Iterator[Tensor]:
        """Yield batches of at most ``count`` crops, the same ones every time."""
        return self.batches(sampled_rows(len(self), count))

    def _canvas(self, row: int, found: list[BadImage]) -> NDArray[np.uint8]:
        try:
            return load_row(self.rows, row, self.canvas, self.fit, self.bad.name)
        except BadImageError as error:
            if self.bad.policy != "replace" or self.index is not None:
                found.append(bad_image(self.rows, row, error, self.bad.part, "left out"))
                if self.index is not None:
                    raise InputError(f"{error}; it was readable when the run began") from error
                return np.zeros((*self.canvas, 3), np.uint8)
            other, canvas = self._substitute(row)
            became = f"replaced by row {self.rows.original(other)}"
            found.append(bad_image(self.rows, row, error, self.bad.part, became))
            return canvas

    def _substitute(self, row: int) -> tuple[int, NDArray[np.uint8]]:
        for attempt in range(TRIES):
            other = substitute(row, attempt, len(self.rows))
            try:
                return other, load_row(self.rows, other, self.canvas, self.fit, self.bad.name)
            except BadImageError:
                continue
        raise none_left(self.bad, TRIES)


class Scan:
    """Decodes all images once to find the bad ones.

    Args:
        crops: the images.
    """

    def __init__(self, crops: LazyCrops) -> None:
        self.crops = crops

    def __getitems__(self, numbers: list[int]) -> dict[int, BadImage]:
        found: dict[int, BadImage] = {}
        crops = self.crops
        for row in numbers:
            try:
                load_row(crops.rows, row, crops.canvas, crops.fit, crops.bad.name)
            except BadImageError as error:
                found[row] = bad_image(crops.rows, row, error, crops.bad.part, "left out")
        return found

    def run(self, *, main: bool) -> dict[int, BadImage]:
        """Return the bad images by row, in order.

        Args:
            main: whether this process shows progress.
        """
        count = len(self.crops)
        found: dict[int, BadImage] = {}
        starts = range(0, count, SCAN)
        plan = (torch.arange(start, min(start + SCAN, count)) for start in starts)
        with Progress(f"checking {self.crops.bad.name}", count, "images", shown=main) as bar:
            for start, images in zip(starts, load(self, plan, self.crops.workers), strict=True):
                found |= images
                bar.update(min(SCAN, count - start))
        return found


def load(dataset: Any, plan: Iterable[Tensor], workers: int) -> Iterator[Any]:
    """Yield ``dataset.__getitems__`` of each batch of row numbers, run in worker processes.

    Raises:
        InputError: for bad input that a worker found.
    """
    loader: Any = DataLoader(
        cast(Any, _Worker(dataset)),
        batch_sampler=(rows.tolist() for rows in plan),
        num_workers=workers,
        collate_fn=_same,
    )
    return unless_refused(loader)


def load_row(
    rows: ImageRows, row: int, canvas: tuple[int, int], fit: str, name: str
) -> NDArray[np.uint8]:
    """Decode one row; see ``load_canvas``."""
    return load_canvas(rows[row], canvas, fit, f"{name}, row {rows.original(row)}")


def bad_image(rows: ImageRows, row: int, error: BadImageError, part: str, became: str) -> BadImage:
    """Return the record of a bad row."""
    return BadImage(part, rows.original(row), error.file or rows.path(row), error.reason, became)


def none_left(bad: BadImages, count: int) -> InputError:
    """Return the error for a data set without a good image."""
    first = next(iter(bad.found.values()), None)
    said = f"; the first, row {first.row}: {first.reason}" if first else ""
    return InputError(f"{bad.name}: none of {count} images is readable{said}")


def _same(batch: Any) -> Any:
    return batch


@dataclass(frozen=True)
class Refused:
    """Bad input that a worker found, as a value: an exception would arrive only as text.

    Attributes:
        message: message of the ``InputError``.
    """

    message: str


def unless_refused(loader: Iterable[Any]) -> Iterator[Any]:
    """Iterate over a loader of batches or ``Refused``.

    Raises:
        InputError: for bad input that a worker found.
    """
    for batch in loader:
        if isinstance(batch, Refused):
            raise InputError(batch.message)
        yield batch


class _Worker:
    """A data set that returns ``Refused`` instead of raising ``InputError``.

    Args:
        dataset: the data set; its ``__getitems__`` returns a batch.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitems__(self, numbers: list[int]) -> Any:
        try:
            return self.dataset.__getitems__(numbers)
        except InputError as error:
            return Refused(str(error))
