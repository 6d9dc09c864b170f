"""Crops of a streaming data set, decoded as they come."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from datasets.distributed import split_dataset_by_node
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from patchit_hf.data.canvas import load_canvas
from patchit_hf.data.store import one_line_errors, undecoded
from patchit_hf.errors import InputError

Row = tuple[str, Any]  # where it is, and its undecoded image


class StreamedCrops:
    """Crops of a streaming data set, in its own order through a shuffle buffer.

    The order is exact for a fixed number of processes and workers; a resumed run reads past what
    it has seen without decoding it.

    Args:
        dataset: a ``datasets.IterableDataset``.
        column: its image column.
        canvas: height and width, in pixels.
        fit: see ``patchit_hf.data.canvas.to_canvas``.
        workers: number of worker processes.
        seed: seed of the shuffle buffer.
        rank: this process.
        world: number of processes.
        buffer: size of the shuffle buffer, in crops.
    """

    def __init__(
        self,
        dataset: Any,
        column: str,
        canvas: tuple[int, int],
        fit: str,
        workers: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        buffer: int = 1000,
    ) -> None:
        dataset = undecoded(dataset, column).shuffle(seed=seed, buffer_size=buffer)
        self.dataset = split_dataset_by_node(dataset, rank=rank, world_size=world)
        self.column, self.canvas, self.fit = column, canvas, fit
        self.workers = min(workers, self.dataset.num_shards)
        self.fingerprint = "streamed"

    def stream(self, batch: int, skip: int) -> Iterator[Tensor]:
        """Yield batches of ``batch`` crops for ever, leaving out the first ``skip`` of them."""
        loader: Any = DataLoader(
            _Stream(self, batch, skip), batch_size=None, num_workers=self.workers
        )
        return (crops for crops in one_line_errors(loader) if len(crops))

    def sample(self, count: int, batch: int = 50) -> Iterator[Tensor]:
        """Yield batches of the first crops of the stream, at most ``count`` crops."""
        rows = itertools.islice(self.rows(0), count)
        while chunk := list(itertools.islice(rows, batch)):
            yield self.decode(chunk)

    def rows(self, epoch: int) -> Iterator[Row]:
        """Yield an epoch's rows, not decoded.

        Raises:
            InputError: if there is none for this process and worker.
        """
        self.dataset.set_epoch(epoch)
        row = -1
        for row, example in enumerate(self.dataset):
            yield f"epoch {epoch}, row {row} of the stream", example[self.column]
        if row < 0:
            raise InputError(
                "--streaming: a process or worker has no crop to read; take fewer of them or a "
                "data set of more files"
            )

    def decode(self, rows: list[Row]) -> Tensor:
        """Return crops, uint8 ``[B, 3, H, W]``."""
        canvases = [load_canvas(value, self.canvas, self.fit, where) for where, value in rows]
        return torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2)


class _Stream(IterableDataset[Tensor]):
    def __init__(self, source: StreamedCrops, batch: int, skip: int) -> None:
        self.source, self.batch, self.skip = source, batch, skip

    def __iter__(self) -> Iterator[Tensor]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        rows = itertools.chain.from_iterable(map(self.source.rows, itertools.count()))
        for turn in itertools.count():
            chunk = list(itertools.islice(rows, self.batch))
            skipped = turn * workers + worker < self.skip  # a loader's batches come in turns
            yield torch.empty(0) if skipped else self.source.decode(chunk)
