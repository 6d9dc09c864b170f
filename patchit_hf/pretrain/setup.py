"""Steps before a pretraining opens its data: the model, the task and the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from patchit_hf.common.arguments import stated
from patchit_hf.common.errors import InputError
from patchit_hf.common.layout import CHECKPOINTS
from patchit_hf.models.build import build_model
from patchit_hf.models.given_model import unwrapped
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks import create_task, list_tasks
from patchit_hf.patch_tasks.base import PatchTask, task_name
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.pretrain.record import default_output_dir, run_config
from patchit_hf.training.checkpoint import checkpoints
from patchit_hf.training.run_folder import RunFolder


def model_for(model: nn.Module | str, task: PatchTask, args: TrainingArguments) -> PatchTaskModel:
    """Return the model that is trained, built where only its network or its name is given.

    Raises:
        InputError: for what is no model, or one that does not fit the task.
    """
    if isinstance(model, str):
        return build_model(model, task, args.seed)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model: a {type(model).__name__}; must be a timm model, the name of one, or a "
            "PatchTaskModel"
        )
    inner = unwrapped(model)
    if not isinstance(inner, PatchTaskModel):
        return build_model(None, task, args.seed, init=inner)
    inner.check_task(task)
    folder = Path(args.output_dir or "")
    if inner.trained_in != folder.absolute() or not checkpoints(folder / CHECKPOINTS):
        inner.settle_origin()  # a run that goes on takes the weights of its checkpoint
    return inner.float()


def named_task(task: PatchTask | str) -> PatchTask:
    """Return a task that may be given by its name.

    Raises:
        InputError: for what is no task.
    """
    if isinstance(task, str):
        return create_task(task)
    if not isinstance(task, PatchTask):
        raise InputError(
            f"task: a {type(task).__name__}; must be a PatchTask, see create_task, or the name of "
            f"one ({', '.join(list_tasks())})"
        )
    return task


def open_run(
    model: PatchTaskModel, task: PatchTask, args: TrainingArguments, info: dict[str, Any]
) -> RunFolder:
    """Return the run's folder, with what decides its weights and the arguments that repeat it."""
    folder = args.output_dir or default_output_dir(model, task, str(info["name"]))
    known = {
        "backbone": model.spec.name,
        "task": task_name(task),
        "task-kwargs": task.kwargs,
        "canvas": "{}x{}".format(*task.canvas),
    }
    arguments = {**known, **stated(args), "output-dir": folder}
    config = run_config(model, task, args, info)
    return RunFolder(folder, config, arguments, "patchit pretrain", args.change)
