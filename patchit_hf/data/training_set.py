"""Open training and held-out crops as decoded crops."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor

from patchit_hf.common.draws import EVAL_SEED, epoch_order
from patchit_hf.common.errors import InputError
from patchit_hf.data.bad import BadImages
from patchit_hf.data.columns import find_image_column
from patchit_hf.data.content_hashes import contents_of_rows
from patchit_hf.data.contents import Contents
from patchit_hf.data.dataset_state import examples
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.data.lazy import LazyCrops
from patchit_hf.data.rows import ImageRows
from patchit_hf.data.store import CropStore, open_crops
from patchit_hf.data.stream import StreamedCrops

Source = CropStore | LazyCrops | StreamedCrops

STATISTICS_CROPS = 2000


class HeldOut:
    """The held-out crops of an evaluation, in memory.

    Args:
        crops: uint8 ``[N, 3, H, W]``.
        bad: the bad images, which are left out.
        contents: the hashes of the undecoded images, as ``data.contents`` compares them.
    """

    def __init__(
        self, crops: Tensor, bad: BadImages | None = None, contents: Contents | None = None
    ) -> None:
        self.crops, self.bad, self.contents = crops, bad or BadImages(), contents

    def __len__(self) -> int:
        return len(self.crops)


def open_training(
    dataset: datasets.Dataset | datasets.IterableDataset,
    decode: DecodeArguments,
    canvas: tuple[int, int],
    *,
    name: str,
    folder: Path | None = None,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Source:
    """Open a training set as decoded crops: cached, on the fly, or streamed.

    Args:
        dataset: the split.
        decode: how crops are decoded.
        canvas: height and width of the crops, in pixels.
        name: name of the data in errors and progress bars.
        folder: the run's folder, where the list of bad images is written.
        seed: seed of a stream's order.
        rank: rank of this process.
        world: number of processes.

    Raises:
        InputError: if the data set has fewer than two crops or no clear image column, or an image
            is bad and the policy is ``raise``.
    """
    column = find_image_column(dataset, decode.image_column, name)
    workers = decode.dataloader_num_workers
    bad = BadImages(decode.on_bad_image, name, folder=folder)
    if isinstance(dataset, datasets.IterableDataset):
        return StreamedCrops(
            dataset, column, canvas, decode.fit, workers, seed, rank, world, bad=bad
        )
    if len(dataset) < 2:
        raise InputError(f"{name}: {len(dataset)} crops to train on; at least 2 are needed")
    return open_crops(
        dataset,
        column,
        canvas,
        decode.fit,
        cache_gb=decode.crop_cache_gb,
        workers=workers,
        main=rank == 0,
        name=name,
        bad=bad,
        verify=decode.verify_cache,
    )


def open_held_out(
    dataset: datasets.Dataset | datasets.IterableDataset | None,
    decode: DecodeArguments,
    canvas: tuple[int, int],
    *,
    name: str,
    limit: int,
) -> HeldOut | None:
    """Load at most ``limit`` held-out crops into memory, the same ones every time.

    A bad image is an error or is left out, but never replaced.

    Args:
        dataset: the held-out split, or None.
        decode: how crops are decoded.
        canvas: height and width of the crops, in pixels.
        name: name of the data in errors.
        limit: largest number of crops.

    Returns:
        The crops; None if ``dataset`` is None.

    Raises:
        InputError: if there are no crops, or an image is bad and the policy is ``raise``.
    """
    if dataset is None:
        return None
    if isinstance(dataset, datasets.IterableDataset):
        column = find_image_column(dataset, decode.image_column, name)
        images = dataset.select_columns([column])
        images = images.cast_column(column, datasets.Image(decode=False))
        rows = list(examples(images.take(limit), name))
        if not rows:
            raise InputError(
                f"{name}: the stream holds no crops; give the data set a validation split"
            )
        dataset = datasets.Dataset.from_list(rows, features=images.features)
    if len(dataset) == 0:
        raise InputError(f"{name}: is empty; must have at least 1 crop")
    chosen = epoch_order(EVAL_SEED, 0, len(dataset))[:limit].sort().values
    crops, _, bad = in_memory(dataset, chosen.tolist(), decode, canvas, name)
    images = ImageRows(dataset, find_image_column(dataset, decode.image_column, name))
    return HeldOut(crops, bad, contents_of_rows(images, chosen.tolist()))


def in_memory(
    dataset: datasets.Dataset,
    rows: list[int],
    decode: DecodeArguments,
    canvas: tuple[int, int],
    name: str,
) -> tuple[Tensor, Tensor, BadImages]:
    """Decode rows for an evaluation; bad images are never replaced.

    Args:
        dataset: the split.
        rows: its rows to decode.
        decode: how crops are decoded.
        canvas: height and width of the crops, in pixels.
        name: name of the data in errors.

    Returns:
        The good crops, uint8 ``[N, 3, H, W]``; the index into ``rows`` of each, int64 ``[N]``; and
        the bad images.

    Raises:
        InputError: if an image is bad and the policy is ``raise``.
    """
    bad = BadImages(decode.on_bad_held_out, name, part="held_out")
    store = open_crops(
        dataset.select(rows),
        find_image_column(dataset, decode.image_column, name),
        canvas,
        decode.fit,
        cache_gb=math.inf,
        on_disk=False,
        workers=decode.dataloader_num_workers,
        main=False,
        name=name,
        bad=bad,
    )
    crops = torch.cat(list(store.batches(torch.arange(len(store)).split(64))))
    kept = torch.arange(len(store)) if store.index is None else torch.from_numpy(store.index)
    return crops, kept, bad


def num_crops(source: Any) -> int:
    """Return the number of crops, 0 for a stream, whose length is unknown."""
    return 0 if isinstance(source, StreamedCrops | datasets.IterableDataset) else len(source)


def statistics(
    source: Source, covered: tuple[int, int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, in [0, 1], of the area of the patches.

    Args:
        source: the training crops, of which at most ``STATISTICS_CROPS`` are used.
        covered: height and width of the area in the centre of the canvas, in pixels.
    """

    def areas() -> Iterable[Tensor]:
        for crops in source.sample(STATISTICS_CROPS):
            top = (crops.shape[2] - covered[0]) // 2
            left = (crops.shape[3] - covered[1]) // 2
            yield crops[:, :, top : top + covered[0], left : left + covered[1]]

    return channel_statistics(areas())


def channel_statistics(
    batches: Iterable[Tensor],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, in [0, 1].

    Args:
        batches: crops, uint8 ``[B, 3, H, W]``.

    Example:
        >>> grey = torch.full((2, 3, 8, 4), 51, dtype=torch.uint8)
        >>> channel_statistics([grey])
        ((0.2, 0.2, 0.2), (0.01, 0.01, 0.01))
    """
    total, squares, count = torch.zeros(3).double(), torch.zeros(3).double(), 0
    for crops in batches:
        area = crops.permute(0, 2, 3, 1).to(torch.float32)  # the order in memory
        total += area.sum(2).sum((0, 1), dtype=torch.float64)  # sums of a row are exact in float32
        squares += area.square_().sum(2).sum((0, 1), dtype=torch.float64)
        count += area[..., 0].numel()
    mean = total / 255 / count
    std = (squares / 255**2 / count - mean.square()).clamp_min(1e-4).sqrt()
    return tuple(round(v, 6) for v in mean.tolist()), tuple(round(v, 6) for v in std.tolist())
