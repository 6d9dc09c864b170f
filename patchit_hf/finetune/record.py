"""What a finetuning says about itself: ``patchit.json``, and through it the model card."""

from __future__ import annotations

from typing import Any

from patchit_hf.common.layout import FORMAT_VERSION
from patchit_hf.common.provenance import versions
from patchit_hf.finetune.arguments import FinetuningArguments
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.models.initial_weights import Initial
from patchit_hf.training.outcome import RunOutcome


def describe_finetuning(
    outcome: RunOutcome, args: FinetuningArguments, model: FinetunedModel, initial: Initial
) -> dict[str, Any]:
    """Return what ``patchit.json`` says: command, task, data, training and results.

    The list of bad images in the run's folder is brought up to date.

    Args:
        outcome: what the training left.
        args: how it was trained.
        model: the trained model.
        initial: the weights that it started from.
    """
    task, geometry, record = model.task, model.geometry, outcome.record()
    return {
        "format_version": FORMAT_VERSION,
        "backbone": {"name": initial.name, "args": initial.args},
        "downstream": {
            "task": type(task).__module__.rpartition(".")[2],
            "kwargs": task.kwargs,
            "primary_metric": task.primary_metric,
            "mean": [round(v, 6) for v in model.mean.tolist()],
            "std": [round(v, 6) for v in model.std.tolist()],
            "canvas": list(geometry.canvas),
            "window": list(geometry.window),
            "size": list(geometry.size),
            "fit": model.fit,
            "init": initial.source,
        },
        "initial_weights": None if initial.origin is None else initial.origin.to_json(),
        **record,
        "training": {
            **record["training"],
            "crops": outcome.steps * outcome.samples,
            "frozen": args.freeze,
            "seed": args.seed,
        },
        "versions": versions(),
    }
