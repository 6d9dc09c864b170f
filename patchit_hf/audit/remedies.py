"""Which option takes a shortcut away: each is tried on the same crops, and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from patchit_hf.audit.cues import held_out_questions, training_questions
from patchit_hf.audit.measure import Score, measure
from patchit_hf.errors import InputError
from patchit_hf.patch_tasks.base import PatchTask

# Against brightness and tint, all colour, and sharpness. A chance of one half is no remedy: what
# half of the training patches show is learnt all the same.
CHANGES: tuple[dict[str, Any], ...] = (
    {"standardize": True},
    {"grayscale": 1.0},
    {"resample": 1.0},
)
GAP = 8  # pixels more between the pictures of a puzzle, against lines that run on in the next one
ENLARGED = 1.25  # the cells keep their size and leave the crop's edge out


def variants(task: PatchTask) -> Iterator[tuple[str, PatchTask]]:
    """Yield the tasks with one option changed, and how it is written on the command line."""
    kwargs = task.kwargs
    changes = [c for c in CHANGES if all(k in kwargs and kwargs[k] != c[k] for k in c)]
    if task.inputs_per_sample > 1:
        changes += [{key: kwargs[key] + GAP} for key in ("margin", "gap") if key in kwargs]
    canvas = (round(task.canvas[0] * ENLARGED), round(task.canvas[1] * ENLARGED))
    for size, change in [*((task.canvas, c) for c in changes), (canvas, {})]:
        try:
            variant = type(task)(size, **{**kwargs, **change})  # type: ignore[call-arg, arg-type]
        except InputError:  # cells so far apart do not fit
            continue
        variant.transform.mean, variant.transform.std = task.transform.mean, task.transform.std
        words = [f"{key}={str(value).lower()}" for key, value in change.items()]
        flag = "--task-kwargs " + " ".join(words) if words else f"--canvas {size[0]}x{size[1]}"
        yield flag, variant


def try_remedies(
    task: PatchTask,
    train_crops: Tensor,
    held_out_crops: Tensor,
    seed: int,
    strength: Callable[[dict[str, Score]], float],
) -> tuple[str, float]:
    """Return the flag that weakens a shortcut most, and the strength that is left.

    The first one that leaves nothing is taken without trying the others.

    Args:
        task: the task with the shortcut.
        train_crops: uint8 ``[N, 3, H, W]``.
        held_out_crops: uint8 ``[M, 3, H, W]``.
        seed: as in the audit.
        strength: of what is left, from what the classifiers reach; at most 0 if nothing is.
    """
    best = ("", float("inf"))
    for flag, variant in variants(task):
        train = training_questions(variant, _resized(train_crops, variant.canvas), seed)
        asked = held_out_questions(variant, _resized(held_out_crops, variant.canvas), seed)
        left = strength(measure(train, asked, variant.num_classes, seed))
        if left < best[1]:
            best = (flag, left)
        if left <= 0:
            break
    return best


def _resized(crops: Tensor, canvas: tuple[int, int]) -> Tensor:
    if tuple(crops.shape[2:]) == canvas:
        return crops
    chunks = [
        F.interpolate(chunk.float(), size=canvas, mode="bilinear").round().byte()
        for chunk in crops.split(64)
    ]
    return torch.cat(chunks)
