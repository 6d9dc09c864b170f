"""Which crops make up which step: from a data set of crops to a task's inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import torch
from torch import Tensor

from patchit_hf.data.ahead import crops_on
from patchit_hf.data.bad import BadImages
from patchit_hf.data.draws import Draws, crop_rows, epoch_order
from patchit_hf.data.lazy import LazyCrops
from patchit_hf.data.source import find_image_column
from patchit_hf.data.store import CropStore, crops_in_memory, open_crops
from patchit_hf.data.stream import StreamedCrops
from patchit_hf.errors import InputError
from patchit_hf.modeling import PatchTaskModel, has_batch_norm
from patchit_hf.patch_tasks.base import PatchBatch, PatchTask

if TYPE_CHECKING:
    from patchit_hf.training_args import LoopArguments, TrainingArguments

Source = CropStore | LazyCrops | StreamedCrops

STATISTICS_CROPS = 2000
EVAL_SEED = 0  # the held-out questions are the same in every run


@dataclass(frozen=True)
class Share:
    """How the samples of a step are shared out.

    The global batch is cut into ``world * accumulation`` parts; part ``turn * world + rank`` is
    this process's at an accumulation turn. One process with accumulation 2 and two processes thus
    work on the same parts.

    Attributes:
        batch: samples per step over everything.
        accumulation: turns a step.
        rank: this process.
        world: number of processes.
    """

    batch: int
    accumulation: int
    rank: int
    world: int

    @property
    def part(self) -> int:
        """Samples in one part."""
        return self.batch // (self.accumulation * self.world)

    def numbers(self, start_step: int) -> Iterator[tuple[int, Tensor]]:
        """Yield, turn by turn, the index of this process's part and its global sample numbers."""
        step = start_step
        while True:
            for turn in range(self.accumulation):
                index = turn * self.world + self.rank
                first = step * self.batch + index * self.part
                yield index, torch.arange(first, first + self.part)
            step += 1


def share_out(
    args: TrainingArguments, task: PatchTask, model: PatchTaskModel, rank: int, world: int
) -> Share:
    """Cut ``--batch-size`` into equal parts.

    Raises:
        InputError: if that cannot be, or leaves too little for batch normalisation.
    """
    turns, inputs = args.gradient_accumulation_steps, task.inputs_per_sample
    unit = inputs * world * turns
    if args.train_batch_size % unit:
        raise InputError(
            f"--batch-size {args.train_batch_size}: must be a multiple of {unit} (inputs a sample "
            "x processes x gradient accumulation steps)"
        )
    share = Share(args.train_batch_size // inputs, turns, rank, world)
    if share.part * inputs < 2 and has_batch_norm(model):
        raise InputError(
            f"--batch-size {args.train_batch_size}: leaves one input per process and accumulation "
            f"step, and {model.spec.name} has batch normalisation, which needs at least 2"
        )
    return share


class HeldOut:
    """The held-out crops that an evaluation uses, in memory.

    Args:
        crops: uint8 ``[N, 3, H, W]``.
        bad: the images that are left out because nothing can be seen on them.
    """

    def __init__(self, crops: Tensor, bad: BadImages | None = None) -> None:
        self.crops, self.bad = crops, bad or BadImages()

    def __len__(self) -> int:
        return len(self.crops)

    def batches(
        self, task: PatchTask, device: torch.device, rank: int, world: int, size: int = 32
    ) -> Iterator[PatchBatch]:
        """Yield every question of this process's crops; no crop is asked twice anywhere."""
        mine = torch.arange(rank, len(self), world)
        for rows in mine.split(size):
            yield task.sample_all(self.crops[rows].to(device), Draws(EVAL_SEED, rows, device))


def open_training(
    dataset: Any,
    args: TrainingArguments,
    task: PatchTask,
    info: dict[str, Any],
    rank: int,
    world: int,
) -> Source:
    """Open a training set as decoded crops: cached, on the fly, or streamed.

    Raises:
        InputError: if it is empty, its image column is not clear, or an image is damaged and
            ``--on-bad-image`` does not say to go on.
    """
    name = f"{info['name']} ({info.get('split') or 'train'})"
    column = find_image_column(dataset, args.image_column, name)
    workers = args.dataloader_num_workers
    folder = Path(args.output_dir) if args.output_dir else None
    bad = BadImages(args.on_bad_image, name, folder=folder)
    if isinstance(dataset, datasets.IterableDataset):
        return StreamedCrops(
            dataset, column, task.canvas, args.fit, workers, args.seed, rank, world, bad=bad
        )
    if len(dataset) < 2:
        raise InputError(f"{name}: {len(dataset)} crops to train on; at least 2 are needed")
    return open_crops(
        dataset,
        column,
        task.canvas,
        args.fit,
        cache_gb=args.crop_cache_gb,
        workers=workers,
        main=rank == 0,
        name=name,
        bad=bad,
    )


def open_held_out(
    dataset: Any, args: TrainingArguments, task: PatchTask, info: dict[str, Any]
) -> HeldOut | None:
    """Bring at most ``args.max_eval_crops`` held-out crops into memory, the same ones every time.

    A bad image among them is left out, unless it is to be an error; nothing stands for it.

    Raises:
        InputError: if there are none, or an image is damaged and ``--on-bad-image`` does not say to
            go on.
    """
    if dataset is None:
        return None
    name = f"{info['name']} (held out)"
    column = find_image_column(dataset, args.image_column, name)
    if isinstance(dataset, datasets.IterableDataset):
        images = dataset.select_columns([column])
        images = images.cast_column(column, datasets.Image(decode=False))
        rows = list(images.take(args.max_eval_crops))
        if not rows:
            raise InputError(f"{name}: no crop of the stream; give the data set a validation split")
        dataset = datasets.Dataset.from_list(rows, features=images.features)
    if len(dataset) == 0:
        raise InputError(f"{name}: it is empty")
    chosen = epoch_order(EVAL_SEED, 0, len(dataset))[: args.max_eval_crops].sort().values
    policy = "raise" if args.on_bad_image == "raise" else "skip"
    bad = BadImages(policy, name, part="held_out")
    crops, _ = crops_in_memory(
        dataset.select(chosen.tolist()), column, task.canvas, args.fit,
        workers=args.dataloader_num_workers, name=name, bad=bad,
    )  # fmt: skip
    return HeldOut(crops, bad)


def steps_per_epoch(num_crops: int, share: Share) -> float:
    """Return the steps of an epoch, one sample per crop; 0 for a stream, whose length is 0."""
    return num_crops / share.batch


def num_crops(source: Any) -> int:
    """Return how many crops there are, 0 for a stream, which does not say."""
    return 0 if isinstance(source, StreamedCrops | datasets.IterableDataset) else len(source)


def count_steps(args: LoopArguments, num_crops: int, share: Share) -> int:
    """Return the optimiser steps of the run; the last batch of the last epoch is a whole one.

    Raises:
        InputError: for a stream without ``--max-steps``.
    """
    if args.max_steps != -1:
        return args.max_steps
    if num_crops == 0:
        raise InputError("--streaming: the stream's length is not known; give --max-steps")
    return max(1, math.ceil(args.num_train_epochs * steps_per_epoch(num_crops, share)))


def training_parts(
    source: Source,
    task: PatchTask,
    share: Share,
    seed: int,
    start_step: int,
    device: torch.device,
) -> Iterator[tuple[int, PatchBatch]]:
    """Yield this process's parts from a step on, for ever.

    Args:
        source: the training crops.
        task: cuts them.
        share: who gets what.
        seed: the run's seed.
        start_step: the first step.
        device: where patches are cut.

    Yields:
        The part's index in the global batch, and inputs and targets on ``device``.
    """
    if isinstance(source, StreamedCrops):
        streamed = source.stream(share.part, start_step * share.accumulation)
        crops: Iterator[Tensor] = (batch.to(device, non_blocking=True) for batch in streamed)
    else:
        size = len(source)
        plan = (crop_rows(seed, numbers, size) for _, numbers in share.numbers(start_step))
        crops = crops_on(source, plan, device)
    for (index, numbers), batch in zip(share.numbers(start_step), crops, strict=False):
        yield index, task.sample(batch, Draws(seed, numbers, device))


def statistics(
    source: Source, covered: tuple[int, int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return per-channel mean and deviation in [0, 1] of the area that patches are cut from.

    Args:
        source: the training crops; at most ``STATISTICS_CROPS`` of them are looked at.
        covered: height and width of the area in the canvas' centre, in pixels.
    """
    total, squares, count = torch.zeros(3).double(), torch.zeros(3).double(), 0
    for crops in source.sample(STATISTICS_CROPS):
        top = (crops.shape[2] - covered[0]) // 2
        left = (crops.shape[3] - covered[1]) // 2
        area = crops.permute(0, 2, 3, 1)  # as it lies in memory; sums of rows are exact in float32
        area = area[:, top : top + covered[0], left : left + covered[1]].to(torch.float32)
        total += area.sum(2).sum((0, 1), dtype=torch.float64)
        squares += area.square_().sum(2).sum((0, 1), dtype=torch.float64)
        count += area[..., 0].numel()
    mean = total / 255 / count
    std = (squares / 255**2 / count - mean.square()).clamp_min(1e-4).sqrt()
    return tuple(round(v, 6) for v in mean.tolist()), tuple(round(v, 6) for v in std.tolist())
