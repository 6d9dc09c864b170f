"""All figures of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from patchit_hf.common.draws import EVAL_SEED, Draws
from patchit_hf.figures.answered import localisation
from patchit_hf.figures.asked import labelled_patches
from patchit_hf.figures.body import accuracy_on_body, confusion_on_body, mean_crop
from patchit_hf.figures.curve import learning_curve
from patchit_hf.figures.filters import first_layer_filters
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask

SHOWS_PEOPLE = (
    "patches",
    "localisation",
    "neighbours",
    "map",
    "ranks",
)  # figures that show single people
SHOWN = 12  # number of single crops, spread over the held-out ones and asked as in evaluation


def draw_figures(
    task: PatchTask,
    model: PatchTaskModel,
    held_out_crops: Tensor | None,
    *,
    confusion: Tensor | None,
    entries: list[dict[str, Any]],
    baselines: dict[str, float] | None = None,
    device: torch.device | str = "cpu",
    name: Callable[[int], str] = str,
) -> dict[str, Figure]:
    """Draw the figures of a run.

    Args:
        task: the run's task, with the training crops' mean and deviation.
        model: the trained network, on ``device``; not changed.
        held_out_crops: uint8 ``[N, 3, H, W]``; None if the run had none.
        confusion: counts ``[C, C]`` of the held-out answers; rows are the true classes.
        entries: the lines of ``metrics.jsonl``.
        baselines: accuracies of methods that need no network, by name.
        device: where the model is.
        name: turns an answer into the label of its patches.

    Returns:
        Those of ``patches``, ``confusion``, ``accuracy``, ``learning_curve``, ``filters`` and
        ``localisation`` that apply.
    """
    drawn: dict[str, Figure | None] = {}
    crops, boxes = held_out_crops, task.boxes
    if crops is not None and len(crops):
        rows = torch.linspace(0, len(crops) - 1, min(SHOWN, len(crops))).round().long()
        some, draws = crops[rows].to(device), Draws(EVAL_SEED, rows, device)
        drawn["patches"] = labelled_patches(task, some, draws, name)
        if boxes is not None:
            mean = mean_crop(crops)
            if confusion is not None and int(confusion.sum()):
                drawn["confusion"] = confusion_on_body(confusion, boxes, mean)
                drawn["accuracy"] = accuracy_on_body(confusion, boxes, mean)
            drawn["localisation"] = _localisation(task, model, some, draws, boxes)
    drawn["learning_curve"] = learning_curve(entries, task.chance, baselines)
    drawn["filters"] = first_layer_filters(model.backbone)
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _localisation(
    task: PatchTask, model: PatchTaskModel, crops: Tensor, draws: Draws, boxes: Tensor
) -> Figure | None:
    """Ask the network about single crops and draw its answers."""
    batch = task.sample_all(crops, draws)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            answered = task.answers(model(batch.inputs)).cpu()
    finally:
        model.train(was_training)
    pictures = task.examples(batch)
    if pictures.shape[1] != 1:  # a question about several patches has no single cell
        return None
    shape = (len(crops), -1)
    return localisation(
        crops,
        task.transform.colours(pictures[:, 0]).unflatten(0, shape),
        answered.view(shape),
        task.truth(batch.targets).cpu().view(shape),
        boxes,
    )
