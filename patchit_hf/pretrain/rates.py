"""Learning rates of a backbone, a head, and what of the head is trained at a rate of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.optim import param_groups_weight_decay
from torch import nn

from patchit_hf.common.errors import InputError
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.training.arguments import in_steps
from patchit_hf.training.optim import schedule


def parameter_groups(model: PatchTaskModel, task: PatchTask, args: TrainingArguments) -> Any:
    """Return what the optimiser trains: groups of parameters, or the model where all are alike.

    Args:
        model: the model.
        task: names the parameters that it trains apart; see ``PatchTask.trained_apart``.
        args: learning rate and weight decay of the others.
    """
    trained = model.parameter_groups(args.weight_decay, args.layer_decay)
    rates = task.trained_apart(model.head)
    if not rates:
        return trained
    if isinstance(trained, nn.Module):
        trained = param_groups_weight_decay(trained, args.weight_decay)
    named = dict(model.head.named_parameters())
    apart = {id(named[name]) for name in rates}
    for group in trained:
        group["params"] = [p for p in group["params"] if id(p) not in apart]
    own = [
        {
            "params": [named[name]],
            "weight_decay": 0.0,
            "lr_scale": rate / args.peak_learning_rate,
            "use_fallback": True,  # timm's Muon trains it by AdamW
        }
        for name, rate in rates.items()
    ]
    return [group for group in trained if group["params"]] + own


def head_first(
    args: TrainingArguments, max_steps: int, epoch: float
) -> tuple[int, Callable[[int], float]]:
    """Return the steps of the head alone, and the learning rate of each step.

    Behind the steps of the head the schedule begins for the whole network.

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
