"""Decode the crops of a streaming data set."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from patchit_hf.common.errors import InputError
from patchit_hf.data.bad import BadImage, BadImages, substitute
from patchit_hf.data.canvas import BadImageError, load_canvas
from patchit_hf.data.dataset_state import examples
from patchit_hf.data.lazy import Batch, Refused, none_left, unless_refused

IN_A_ROW = 1000  # consecutive bad images after which the stream is given up


@dataclass(frozen=True)
class Row:
    """An undecoded row of a stream.

    Attributes:
        number: its index among the rows that one worker reads in an epoch.
        reader: that epoch, process and worker.
        value: value of the image column.
    """

    number: int
    reader: str
    value: Any


class StreamedCrops:
    """Crops of a streaming data set, shuffled by a buffer.

    Files are divided among processes and workers, or rows if the number of files does not allow
    that. Each crop is seen once per epoch. The order is fixed for a given number of processes and
    workers. A resumed run reads past the rows that it has seen, and decodes them only if bad images
    are skipped, since these shift the batches. A bad image is replaced by another of its batch.

    Args:
        dataset: a ``datasets.IterableDataset``.
        column: its image column.
        canvas: height and width, in pixels.
        fit: see ``patchit_hf.data.canvas.to_canvas``.
        workers: number of worker processes.
        seed: seed of the shuffle buffer.
        rank: rank of this process.
        world: number of processes.
        buffer: size of the shuffle buffer, in crops.
        bad: policy for bad images, and the list that they are added to.
    """

    def __init__(
        self,
        dataset: datasets.IterableDataset,
        column: str,
        canvas: tuple[int, int],
        fit: str,
        workers: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        buffer: int = 1000,
        bad: BadImages | None = None,
    ) -> None:
        images = dataset.select_columns([column])
        images = images.cast_column(column, datasets.Image(decode=False))
        images = images.shuffle(seed=seed, buffer_size=buffer)
        self.dataset = split_dataset_by_node(images, rank=rank, world_size=world)
        self.column, self.canvas, self.fit, self.rank = column, canvas, fit, rank
        self.workers = min(workers, self.dataset.num_shards)
        self.bad = bad or BadImages()
        self.fingerprint, self.known_as = "streamed", ()

    def stream(self, batch: int, skip: int) -> Iterator[Tensor]:
        """Yield batches of ``batch`` crops without end, leaving out the first ``skip`` batches."""
        loader: Any = DataLoader(
            _Stream(self, batch, skip), batch_size=None, num_workers=self.workers
        )
        for crops, found in unless_refused(loader):
            for image in found:
                self.bad.add(image)
            if len(crops):
                yield crops

    def sample(self, count: int, batch: int = 50) -> Iterator[Tensor]:
        """Yield batches of the first crops of the stream, at most ``count`` crops."""
        stream = self.rows(0)
        rows = itertools.islice(stream, count)
        try:
            while chunk := list(itertools.islice(rows, batch)):
                good: list[NDArray[np.uint8]] = []
                found: list[BadImage] = []
                for row in chunk:
                    canvas = self._canvas(row, found, "left out")
                    good += [] if canvas is None else [canvas]
                for image in found:
                    self.bad.add(image)
                if good:
                    yield _stacked(good)
        finally:  # datasets takes five seconds to close unfinished parquet
            threading.Thread(target=stream.close).start()

    def rows(self, epoch: int) -> Generator[Row]:
        """Yield the undecoded rows of an epoch.

        Raises:
            InputError: if this process and worker have none.
        """
        info = torch.utils.data.get_worker_info()
        reader = f"epoch {epoch}, process {self.rank}, worker {info.id if info else 0}"
        # Worker processes share a data set's epoch; each begins its epochs when it gets there.
        own = self.dataset.with_format(None)
        own.set_epoch(epoch)
        number = -1
        for number, example in enumerate(examples(own, self.bad.name)):
            yield Row(number, reader, example[self.column])
        if number < 0:
            raise InputError(
                "--streaming: a process or worker has no crop to read; use fewer processes or "
                "--workers, or a data set of more files"
            )

    def take(self, rows: Iterator[Row], count: int) -> Batch:
        """Return the next good crops, uint8 ``[count, 3, H, W]``, and the bad images among them.

        Raises:
            InputError: if there are too many bad ones in a row.
        """
        good: list[NDArray[np.uint8]] = []
        found: list[BadImage] = []
        last = 0
        while len(good) < count:
            canvas = self._canvas(next(rows), found, "left out")
            if canvas is not None:
                good.append(canvas)
                last = len(found)
            elif len(found) - last >= IN_A_ROW:
                raise none_left(self._with(found), IN_A_ROW)
        return _stacked(good), found

    def decode(self, rows: list[Row]) -> Batch:
        """Return the crops of rows, uint8 ``[B, 3, H, W]``, and the bad images among them.

        A bad crop is replaced by a good one of the same batch, chosen by its index alone.

        Raises:
            InputError: if none is good.
        """
        found: list[BadImage] = []
        crops = [self._canvas(row, found, "replaced by another of its batch") for row in rows]
        good = [crop for crop in crops if crop is not None]
        if not good:
            if self.bad.policy == "raise":
                self.bad.add(found[0])
            raise none_left(self._with(found), len(rows))
        filled = [
            good[substitute(row.number, 0, len(good))] if crop is None else crop
            for row, crop in zip(rows, crops, strict=True)
        ]
        return _stacked(filled), found

    def _canvas(self, row: Row, found: list[BadImage], became: str) -> NDArray[np.uint8] | None:
        where = f"{self.bad.name}, row {row.number} of {row.reader}"
        try:
            return load_canvas(row.value, self.canvas, self.fit, where)
        except BadImageError as error:
            content = (row.value or {}).get("bytes") or b""
            digest = hashlib.blake2b(content, digest_size=8).hexdigest()
            found.append(
                BadImage(
                    self.bad.part, row.number, error.file, error.reason, became, row.reader, digest
                )
            )
            return None

    def _with(self, found: list[BadImage]) -> BadImages:
        return BadImages("skip", self.bad.name, found={image.key: image for image in found})


class _Stream(IterableDataset[Batch | Refused]):
    def __init__(self, source: StreamedCrops, batch: int, skip: int) -> None:
        self.source, self.batch, self.skip = source, batch, skip

    def __iter__(self) -> Iterator[Batch | Refused]:
        try:
            yield from self._batches()
        except InputError as error:
            yield Refused(str(error))

    def _batches(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        source = self.source
        rows = itertools.chain.from_iterable(map(source.rows, itertools.count()))
        for turn in itertools.count():
            skipped = turn * workers + worker < self.skip  # workers deliver batches in turn
            if source.bad.policy == "skip":
                crops, found = source.take(rows, self.batch)
                yield torch.empty(0) if skipped else crops, found
                continue
            chunk = list(itertools.islice(rows, self.batch))
            yield (torch.empty(0), []) if skipped else source.decode(chunk)


def _stacked(canvases: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2)
