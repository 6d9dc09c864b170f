"""From crops to a task's inputs: which process cuts which sample in which step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from patchit_hf.common.draws import EVAL_SEED, Draws, crop_rows
from patchit_hf.common.errors import InputError
from patchit_hf.data.ahead import crops_on
from patchit_hf.data.stream import StreamedCrops
from patchit_hf.data.training_set import Source, num_crops
from patchit_hf.models.backbone import has_batch_norm
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchBatch, PatchTask
from patchit_hf.training.share import Share

if TYPE_CHECKING:
    from patchit_hf.pretrain.arguments import TrainingArguments

EVAL_BATCH = 32  # crops


def share_out(
    args: TrainingArguments, task: PatchTask, model: PatchTaskModel, rank: int, world: int
) -> Share:
    """Cut ``--batch-size`` into equal parts.

    Raises:
        InputError: if it cannot be divided evenly, or a part is too small for batch normalisation.
    """
    share = Share.of(args, rank, world, task.inputs_per_sample)
    if share.part * task.inputs_per_sample < 2 and has_batch_norm(model):
        raise InputError(
            f"--batch-size {args.train_batch_size}: leaves one input per process and accumulation "
            f"step, and {model.spec.name} has batch normalisation, which needs at least 2"
        )
    return share


def held_out_batches(
    crops: Tensor,
    task: PatchTask,
    device: torch.device,
    rank: int,
    world: int,
    size: int = EVAL_BATCH,
) -> Iterator[PatchBatch]:
    """Yield every question about this process's share of the held-out crops.

    Args:
        crops: uint8 ``[N, 3, H, W]``; each crop belongs to one process.
        task: asks the questions.
        device: where patches are cut.
        rank: index of this process.
        world: number of processes.
        size: crops per batch.
    """
    for rows in torch.arange(rank, len(crops), world).split(size):
        yield task.sample_all(crops[rows].to(device), Draws(EVAL_SEED, rows, device))


def crop_batches(
    source: Source, share: Share, seed: int, start_step: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield the crops of this process's parts, uint8 ``[B, 3, H, W]`` on the device, endlessly."""
    if isinstance(source, StreamedCrops):
        streamed = source.stream(share.part, start_step * share.accumulation)
        return (batch.to(device, non_blocking=True) for batch in streamed)
    size = len(source)
    plan = (crop_rows(seed, numbers, size) for _, numbers in share.numbers(start_step))
    return crops_on(source, plan, device)


def training_parts(
    source: Source,
    task: PatchTask,
    share: Share,
    seed: int,
    start_step: int,
    max_steps: int,
    device: torch.device,
) -> Iterator[tuple[int, PatchBatch]]:
    """Yield this process's parts of the batches, endlessly from a given step on.

    Args:
        source: the training crops.
        task: cuts the patches.
        share: which samples this process gets.
        seed: the run's seed.
        start_step: the first step.
        max_steps: steps of the whole training; the draws' progress is relative to it.
        device: where patches are cut.

    Yields:
        The part's index in the global batch, and inputs and targets on ``device``.
    """
    size = num_crops(source)
    crops = crop_batches(source, share, seed, start_step, device)
    for (index, numbers), batch in zip(share.numbers(start_step), crops, strict=False):
        progress = int(numbers[0]) // share.batch / max_steps
        rows = crop_rows(seed, numbers, size) if size else None
        yield index, task.sample(batch, Draws(seed, numbers, device, progress, rows))
