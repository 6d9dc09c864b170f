"""Predictions of a finetuned model on labelled crops."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import Tensor

from patchit_hf.common.freed_memory import freed_memory_kept
from patchit_hf.common.progress import Progress
from patchit_hf.downstream.augment import Geometry
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.finetune.labelled import Labelled
from patchit_hf.models.finetuned_model import FinetunedModel


@freed_memory_kept()
def predict(
    model: FinetunedModel,
    data: Labelled,
    task: DownstreamTask,
    geometry: Geometry,
    accelerator: Accelerator | None = None,
    batch: int = 64,
) -> tuple[Tensor, Tensor]:
    """Return predictions and targets of every row, in order, on the CPU.

    Each process predicts its share, and all of them get the whole result. The model is left in
    evaluation mode.

    Args:
        model: the unwrapped model.
        data: the crops.
        task: turns outputs into predictions.
        geometry: maps crops to inputs.
        accelerator: the processes; None for this one only.
        batch: crops per batch.

    Returns:
        Predictions ``[N, ...]``, and targets ``[N, ...]`` in the input's coordinates.
    """
    model.eval()
    device = next(model.parameters()).device
    rank, world = (0, 1)
    if accelerator is not None:
        rank, world = accelerator.process_index, accelerator.num_processes
    if world > 1:  # batch statistics are those of the main process
        for buffer in model.buffers():
            broadcast(buffer)
    mine = torch.arange(rank, len(data), world)
    found: list[Tensor] = []
    truth: list[Tensor] = []
    progress = Progress("evaluating", len(mine), "crops", shown=rank == 0, leave=False)
    with torch.inference_mode(), progress:
        for crops, targets in data.select(mine).batches(batch):
            prediction, view = model.answers(crops.to(device), task, geometry)
            found.append(prediction.cpu())
            truth.append(task.moved(targets.to(device), view).cpu())
            progress.update(len(crops))
    if world == 1:
        return torch.cat(found), torch.cat(truth)
    shares = gather_object(
        [(mine.tolist(), [t.numpy() for t in found], [t.numpy() for t in truth])]
    )
    rows = torch.tensor([row for share in shares for row in share[0]])
    order = rows.argsort()
    predictions = torch.cat([torch.from_numpy(t) for share in shares for t in share[1]])
    targets = torch.cat([torch.from_numpy(t) for share in shares for t in share[2]])
    return predictions[order], targets[order]
