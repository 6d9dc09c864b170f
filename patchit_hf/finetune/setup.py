"""What is settled before a finetuning's first step."""

from __future__ import annotations

import dataclasses

import torch

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.downstream.augment import Augmentation, Geometry, centre
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.finetune.arguments import FinetuningArguments
from patchit_hf.finetune.labelled import Labelled
from patchit_hf.models.embed import STATISTICS_CROPS as STATISTICS_CROPS
from patchit_hf.models.embed import sampled as sampled
from patchit_hf.models.finetuned_model import FinetunedModel


def crop_statistics(
    data: Labelled, geometry: Geometry
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return per-channel mean and deviation in [0, 1] of what the inputs show."""
    total, squares, count = torch.zeros(3).double(), torch.zeros(3).double(), 0
    for crops, _ in data.select(sampled(len(data), STATISTICS_CROPS)).batches(100):
        x = centre(crops, geometry)[0].double()
        total += x.sum((0, 2, 3))
        squares += x.square().sum((0, 2, 3))
        count += x[:, 0].numel()
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(1e-4).sqrt()
    return tuple(round(v, 6) for v in mean.tolist()), tuple(round(v, 6) for v in std.tolist())


def augmentation_of(task: DownstreamTask, args: FinetuningArguments) -> Augmentation:
    """Return how the task's crops vary, with what ``--augment`` says otherwise.

    Raises:
        InputError: for an unknown option, or a value out of range.
    """
    names = [f.name for f in dataclasses.fields(Augmentation)]
    for key in args.augment:
        if key not in names:
            raise InputError(f"--augment: there is no option {key!r} (options: {', '.join(names)})")
    return dataclasses.replace(task.augmentation, **args.augment)


def try_once(model: FinetunedModel, geometry: Geometry, name: str) -> None:
    """Run the model once, so that what it cannot see is said before anything is written.

    Raises:
        InputError: if it fails.
    """
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(2, 3, *geometry.size))
    except Exception as error:  # a network may fail in any way on a size it was not made for
        height, width = geometry.size
        raise InputError(
            f"--input-size {height}x{width}: {name} cannot see such inputs: {one_line(error)}"
        ) from error


def freeze_unused(model: FinetunedModel, geometry: Geometry) -> None:
    """Switch off gradients of parameters that the output does not depend on."""
    model.eval()
    output = model(torch.zeros(2, 3, *geometry.size))
    parts = output.values() if isinstance(output, dict) else [output]
    torch.stack([part.float().sum() for part in parts]).sum().backward()
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None
