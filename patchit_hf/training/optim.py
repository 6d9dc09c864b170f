"""Optimisers from timm's factory, and the learning rate as a pure function of the step."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from timm.optim import Muon, create_optimizer_v2, list_optimizers
from torch import nn

from patchit_hf.common.errors import InputError, did_you_mean
from patchit_hf.training.arguments import LoopArguments, in_steps
from patchit_hf.training.orthogonal import quicken

_FUSED = {"fused": True}  # torch's fused version: one pass over the weights
OPTIONS: dict[str, dict[str, Any]] = {  # defaults that differ from timm's
    "adam": _FUSED,
    "adamw": _FUSED,
    "momentum": _FUSED,
    "muon": {"nesterov": True},
    "sgd": _FUSED,
}


def lr_at(
    step: int,
    *,
    max_steps: int,
    learning_rate: float,
    warmup_steps: int = 0,
    schedule: str = "cosine",
    steps_per_epoch: float = 0.0,
    step_epochs: float = 5.0,
    step_factor: float = 0.5,
) -> float:
    """Return the learning rate of an optimiser step.

    Args:
        step: number of the step, from 0.
        max_steps: number of steps of the whole run.
        learning_rate: the peak.
        warmup_steps: steps of linear warm-up; the first step has a rate above 0.
        schedule: ``cosine`` or ``linear`` to zero, ``constant``, or ``step``, which multiplies the
            rate by ``step_factor`` every ``step_epochs`` epochs.
        steps_per_epoch: steps per epoch, for ``step``.
        step_epochs: see ``schedule``.
        step_factor: see ``schedule``.

    Returns:
        The learning rate.

    Example:
        >>> [lr_at(step, max_steps=4, learning_rate=1.0, schedule="linear") for step in range(4)]
        [1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup_steps:
        return learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    if schedule == "cosine":
        return learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if schedule == "linear":
        return learning_rate * max(0.0, 1 - progress)
    if schedule == "step":
        return learning_rate * step_factor ** math.floor(
            step / max(1, steps_per_epoch) / step_epochs
        )
    return learning_rate


def schedule(args: LoopArguments, max_steps: int, steps_per_epoch: float) -> Callable[[int], float]:
    """Return ``lr_at`` for a run: a function from step number to learning rate."""
    return functools.partial(
        lr_at,
        max_steps=max_steps,
        learning_rate=args.peak_learning_rate,
        warmup_steps=in_steps(args.warmup_steps, max_steps),
        schedule=args.lr_scheduler_type,
        steps_per_epoch=steps_per_epoch,
        **args.lr_scheduler_kwargs,
    )


def head_first(
    args: LoopArguments, max_steps: int, epoch: float
) -> tuple[int, Callable[[int], float]]:
    """Return the steps of the head alone, and the learning rate of each step.

    After the steps of the head the schedule begins for the whole network.

    Args:
        args: learning rate, schedule and ``head_first``.
        max_steps: steps of the run.
        epoch: steps of an epoch.

    Raises:
        InputError: if no step is left for the network.
    """
    steps = in_steps(args.head_first, max_steps)
    if steps >= max_steps:
        raise InputError(
            f"--head-first {args.head_first:g}: must leave steps for the backbone, and the run "
            f"has {max_steps}"
        )
    whole = schedule(args, max_steps - steps, epoch)
    return steps, lambda step: whole(step - steps) if step >= steps else args.peak_learning_rate


def create_optimizer(
    model: nn.Module, name: str, learning_rate: float, weight_decay: float, **kwargs: Any
) -> torch.optim.Optimizer:
    """Build an optimiser for the parameters that are trained.

    Biases, norms and the parameters in the backbone's ``no_weight_decay()`` are not decayed.

    Args:
        model: the model.
        name: timm's name of the optimiser; timm's ``sgd`` has Nesterov momentum.
        learning_rate: the peak learning rate.
        weight_decay: weight decay of all other parameters.
        **kwargs: options of the optimiser, such as ``momentum``.

    Raises:
        InputError: for an unknown optimiser or option.

    Example:
        >>> optimizer = create_optimizer(nn.Linear(2, 2), "adamw", 1e-3, weight_decay=0.05)
        >>> [group["weight_decay"] for group in optimizer.param_groups]
        [0.0, 0.05]
    """
    if name.lower() not in list_optimizers():
        raise InputError(
            f"--optimizer {name!r}: timm has no such optimiser (among others: adamw, sgd, lamb, "
            f"lion, adafactor, muon){did_you_mean(name, list_optimizers())}"
        )
    kwargs = {**OPTIONS.get(name.lower(), {}), **kwargs}
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            model, opt=name, lr=learning_rate, weight_decay=weight_decay, **kwargs
        )
    except TypeError as error:
        raise InputError(
            f"--optimizer-args {kwargs}: {name!r} does not accept these options ({error})"
        ) from error
    for group in optimizer.param_groups:  # without weight decay, old timm takes frozen ones too
        group["params"] = [weight for weight in group["params"] if weight.requires_grad]
    if isinstance(optimizer, Muon):
        quicken(optimizer)
    return optimizer
