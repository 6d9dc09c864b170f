"""Steps before finetuning begins: statistics, augmentation, a trial, freezing, the folder."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import nn

from patchit_hf.common.arguments import identity, stated
from patchit_hf.common.errors import InputError, one_line
from patchit_hf.downstream import create_downstream
from patchit_hf.downstream.augment import Augmentation, Geometry, centre
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.finetune.arguments import FinetuningArguments
from patchit_hf.finetune.labelled import Labelled
from patchit_hf.models.embed import STATISTICS_CROPS as STATISTICS_CROPS
from patchit_hf.models.embed import sampled as sampled
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.models.initial_weights import Initial, open_initial
from patchit_hf.training.run_folder import RunFolder

DEFAULT_SIZE = (192, 96)  # of inputs, height and width in pixels


def open_start(
    init: str | Path | nn.Module | Initial,
    task: str | DownstreamTask,
    train: datasets.Dataset,
    backbone: str | None = None,
    backbone_kwargs: dict[str, Any] | None = None,
    input_size: tuple[int, int] | None = None,
    seed: int = 0,
    task_kwargs: dict[str, Any] | None = None,
) -> tuple[DownstreamTask, Initial, Geometry]:
    """Open what a finetuning starts from, before any image is read.

    Args:
        init: the initial weights, as ``--init`` names them, or opened already.
        task: the downstream task, or its name.
        train: the training split, which a task given by name reads its columns from.
        backbone: a timm model, where ``init`` does not bring one.
        backbone_kwargs: further arguments of the timm model.
        input_size: height and width of the inputs, in pixels; None for the default.
        seed: seed of what is random in the weights.
        task_kwargs: options of a task given by name.

    Raises:
        InputError: for missing columns or weights.
    """
    if isinstance(task, str):
        task = create_downstream(task, train, **(task_kwargs or {}))
    if not isinstance(init, Initial):
        init = open_initial(
            init if isinstance(init, nn.Module) else str(init),
            backbone,
            task.num_classes,
            seed=seed,
            input_size=input_size or DEFAULT_SIZE,
            backbone_kwargs=backbone_kwargs,
        )
    return task, init, Geometry.of(input_size or init.input_size or DEFAULT_SIZE)


def crop_statistics(
    data: Labelled, geometry: Geometry
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return per-channel mean and standard deviation, in [0, 1], of the inputs."""
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
    """Return the task's augmentation, changed as ``--augment`` says.

    Raises:
        InputError: for an unknown option, or a value out of range.
    """
    names = [f.name for f in dataclasses.fields(Augmentation)]
    for key in args.augment:
        if key not in names:
            raise InputError(f"--augment: unknown option {key!r} (options: {', '.join(names)})")
    return dataclasses.replace(task.augmentation, **args.augment)


def try_once(model: FinetunedModel, geometry: Geometry, name: str) -> None:
    """Run the model once, so that an unsuitable input size is reported before anything is written.

    Raises:
        InputError: if it fails.
    """
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(2, 3, *geometry.size))
    except Exception as error:  # a network may fail in any way on an unsuitable size
        height, width = geometry.size
        raise InputError(
            f"--input-size {height}x{width}: {name} cannot process such inputs: {one_line(error)}"
        ) from error


def freeze_unused(model: FinetunedModel, geometry: Geometry) -> None:
    """Freeze the parameters that do not affect the output."""
    model.eval()
    output = model(torch.zeros(2, 3, *geometry.size))
    parts = output.values() if isinstance(output, dict) else [output]
    torch.stack([part.float().sum() for part in parts]).sum().backward()
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None


def open_run(
    initial: Initial, task: DownstreamTask, args: FinetuningArguments, info: dict[str, Any]
) -> RunFolder:
    """Return the run's folder, with what decides its weights and the arguments that repeat it."""
    source, name = initial.source, type(task).__module__.rpartition(".")[2]
    words = (name, Path(str(info["name"])).name, initial.name, Path(source).stem)
    folder = args.output_dir or os.path.join("runs", re.sub("[: ]", "-", "-".join(words)))
    config = {
        "task": name,
        "task_kwargs": task.kwargs,
        "init": source,
        "backbone": initial.name,
        "backbone_args": initial.args,
        "dataset": info["name"],
        "split": info["split"],
        **identity(args),
    }
    known = {"task": name, "task-kwargs": task.kwargs, "init": source, "backbone": initial.name}
    arguments = {**known, **stated(args), "output-dir": folder}
    return RunFolder(folder, config, arguments, "patchit finetune", args.change)
