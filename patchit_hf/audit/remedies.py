"""Options that remove a shortcut: each is tried on the same crops and measured."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from patchit_hf.audit.cues import held_out_questions, training_questions
from patchit_hf.audit.measure import Score, measure
from patchit_hf.patch_tasks.base import PatchTask

GAP = (
    8  # more pixels between the patches of a puzzle, so that lines do not continue in the next one
)
ENLARGED = 1.25  # on a larger canvas, cells of the same size leave out the crop's edge


def options(task: PatchTask, *, place: bool, sharpness: bool) -> list[tuple[str, Any]]:
    """Return the options that could close a shortcut, the most likely first.

    ``grayscale`` and ``resample`` are tried at 1, because a shortcut that half of the training
    patches still show is learnt anyway.

    Args:
        task: the task.
        place: whether some cells are given away, for example by a frame at the crop's edge.
        sharpness: whether sharpness can be the cause, rather than something drawn onto the image.
    """
    kwargs = task.kwargs
    tried: list[tuple[str, Any]] = [("standardize", True), ("grayscale", 1.0)]
    tried += [("resample", 1.0)] if sharpness else []
    tried = [(key, value) for key, value in tried if kwargs.get(key, value) != value]
    if task.inputs_per_sample > 1:
        tried += [(key, kwargs[key] + GAP) for key in ("margin", "gap") if key in kwargs]
    canvas = ("canvas", (round(task.canvas[0] * ENLARGED), round(task.canvas[1] * ENLARGED)))
    return [canvas, *tried] if place else [*tried, canvas]


def flag(key: str, value: Any) -> str:
    """Return an option as it is written on the command line.

    Example:
        >>> flag("standardize", True)
        '--task-kwargs standardize=true'
    """
    if key == "canvas":
        return f"--canvas {value[0]}x{value[1]}, which leaves out the crop's edge,"
    return f"--task-kwargs {key}={str(value).lower()}"


def with_option(
    task: PatchTask, key: str, value: Any, train_crops: Tensor, held_out_crops: Tensor, seed: int
) -> dict[str, Score]:
    """Return the classifiers' scores with another option.

    Args:
        task: the task without the option.
        key: ``canvas`` or one of the task's options.
        value: the option's value.
        train_crops: uint8 ``[N, 3, H, W]`` of the task's canvas.
        held_out_crops: uint8 ``[M, 3, H, W]`` of the task's canvas.
        seed: the audit's seed.

    Raises:
        InputError: if the cells do not fit on the canvas with that option.
    """
    build: Any = type(task)
    canvas, change = (value, {}) if key == "canvas" else (task.canvas, {key: value})
    variant: PatchTask = build(canvas, **{**task.kwargs, **change})
    variant = variant.with_statistics(task.transform.mean, task.transform.std)
    train = training_questions(variant, _resized(train_crops, canvas), seed)
    asked = held_out_questions(variant, _resized(held_out_crops, canvas), seed)
    return measure(train, asked, variant.num_classes, seed)


def _resized(crops: Tensor, canvas: tuple[int, int]) -> Tensor:
    if tuple(crops.shape[2:]) == canvas:
        return crops
    chunks = [
        F.interpolate(chunk.float(), size=canvas, mode="bilinear").round().byte()
        for chunk in crops.split(64)
    ]
    return torch.cat(chunks)
