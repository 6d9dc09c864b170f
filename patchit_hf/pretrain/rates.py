"""Parameters of a head that are trained at a learning rate of their own."""

from __future__ import annotations

from typing import Any

from timm.optim import param_groups_weight_decay

from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.training.arguments import LoopArguments


def with_own_rates(
    model: PatchTaskModel, task: PatchTask, args: LoopArguments
) -> PatchTaskModel | list[dict[str, Any]]:
    """Return what the optimiser trains: groups of parameters, or the model where all are alike.

    Args:
        model: the model.
        task: names the parameters that it trains apart; see ``PatchTask.trained_apart``.
        args: learning rate and weight decay of the others.
    """
    rates = task.trained_apart(model.head)
    if not rates:
        return model
    named = dict(model.head.named_parameters())
    apart = {id(named[name]) for name in rates}
    groups: list[dict[str, Any]] = param_groups_weight_decay(model, args.weight_decay)
    for group in groups:
        group["params"] = [p for p in group["params"] if id(p) not in apart]
    own = [
        {
            "params": [named[name]],
            "weight_decay": 0.0,
            "lr_scale": rate / args.learning_rate,
            "use_fallback": True,  # timm's Muon trains it by AdamW
        }
        for name, rate in rates.items()
    ]
    return [group for group in groups if group["params"]] + own
