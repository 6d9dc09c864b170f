"""What the optimiser trains: a backbone, a head, and parts of the head at a rate of their own."""

from __future__ import annotations

from typing import Any

from timm.optim import param_groups_weight_decay
from torch import nn

from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.pretrain.arguments import TrainingArguments


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
