"""What a run says about itself: ``patchit.json``, and through it the model card."""

from __future__ import annotations

from typing import Any

from patchit_hf.common.arguments import identity
from patchit_hf.models.backbone import has_batch_norm
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask, task_name
from patchit_hf.pretrain.arguments import TrainingArguments, default_folder
from patchit_hf.pretrain.probe import OnlineProbe
from patchit_hf.training.outcome import RunOutcome


def describe_run(
    outcome: RunOutcome, task: PatchTask, model: PatchTaskModel, probe: OnlineProbe | None
) -> dict[str, Any]:
    """Return command, configuration, data, training and results as JSON values.

    The list of bad images in the run's folder is brought up to date.

    Args:
        outcome: what the training left.
        task: the patch task.
        model: the trained model.
        probe: the probe on labels, if there was one.
    """
    record, notes = outcome.record(), outcome.notes
    inputs = outcome.steps * outcome.samples * task.inputs_per_sample
    training = {
        "patches": inputs,
        "pixels": inputs * task.input_size[0] * task.input_size[1],
        **record["training"],
        "gradient": notes.get("gradient"),
        "batch_norm_statistics": "patches" if has_batch_norm(model) else None,
    }
    return {
        **record,
        "data": {
            **record["data"],
            "mean": list(task.transform.mean),
            "std": list(task.transform.std),
        },
        "initial_weights": None if model.origin is None else model.origin.to_json(),
        "initial_seed": None if model.origin or not model.drawn else model.drawn[0],
        "statistics_of": "crops" if model.statistics is None else "initial weights",
        "training": training,
        "probe": None if probe is None else {"column": probe.column, "chance": probe.chance},
        "audit": notes.get("audit"),
        "figures": notes.get("figures", []),
    }


def run_config(
    model: PatchTaskModel, task: PatchTask, args: TrainingArguments, data_info: dict[str, Any]
) -> dict[str, Any]:
    """Return everything that decides a run's trained weights, as named values.

    What is as it was before there was a choice is left out, so that earlier runs continue.
    """
    spec, origin = model.spec, model.origin
    start = {} if origin is None else {"init": origin.init, "initial_weights": origin.fingerprint}
    return {
        "backbone": spec.name,
        "backbone_args": spec.args,
        **start,
        "task": task_name(task),
        "task_kwargs": task.kwargs,
        "canvas": list(task.canvas),
        "dataset": data_info["name"],
        "split": data_info.get("split"),
        "streaming": bool(data_info.get("streaming")),
        **identity(args),
    }


def default_output_dir(
    model: PatchTaskModel, task: PatchTask, data: str, recipe: str | None = None
) -> str:
    """Return ``runs/<backbone>-<task>-<data>``, with ``-from-<init>`` unless that is random.

    Args:
        model: with its network's name and its initial weights.
        task: the patch task.
        data: name of the data set.
        recipe: is named instead of the task, if there is one.
    """
    init = "random" if model.origin is None else model.origin.init
    return default_folder(model.spec.name, recipe or task_name(task), data, init)
