"""What a run says about itself: ``patchit.json``, and through it the model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.common.arguments import identity
from patchit_hf.common.provenance import command, hardware
from patchit_hf.data.bad import settle
from patchit_hf.data.stream import StreamedCrops
from patchit_hf.models.backbone import has_batch_norm
from patchit_hf.patch_tasks.base import task_name

if TYPE_CHECKING:
    from patchit_hf.models.backbone import BackboneSpec
    from patchit_hf.patch_tasks.base import PatchTask
    from patchit_hf.pretrain.arguments import TrainingArguments

if TYPE_CHECKING:
    from patchit_hf.pretrain.trainer import PatchTaskTrainer


def describe_run(trainer: PatchTaskTrainer) -> dict[str, Any]:
    """Return command, configuration, data, training and results as JSON values.

    The list of bad images in the run's folder is brought up to date.
    """
    source = trainer.source
    steps = trainer.monitor.done if trainer.monitor else 0
    held_out = [] if trainer.held_out is None else [trainer.held_out.bad]
    bad = settle(trainer.run.path, source.bad, *held_out)
    inputs = steps * trainer.share.batch * trainer.task.inputs_per_sample
    return {
        "command": command(),
        "config": trainer.run.config,
        "data": {
            **trainer.data_info,
            "fingerprint": source.fingerprint,
            "train_crops": None if isinstance(source, StreamedCrops) else len(source),
            "eval_crops": 0 if trainer.held_out is None else len(trainer.held_out),
            "on_bad_image": trainer.args.on_bad_image,
            "bad_images": bad,
            "mean": list(trainer.task.transform.mean),
            "std": list(trainer.task.transform.std),
        },
        "training": {
            "patches": inputs,
            "pixels": inputs * trainer.task.input_size[0] * trainer.task.input_size[1],
            "steps": steps,
            "stopped": trainer.monitor.stopped if trainer.monitor else None,
            "seconds": round(trainer.notes["seconds"], 1),
            "hardware": hardware(trainer.accelerator),
            "processes": trainer.world,
            "mixed_precision": trainer.accelerator.mixed_precision,
            "gradient": trainer.notes.get("gradient"),
            "batch_norm_statistics": "patches" if has_batch_norm(trainer.model) else None,
        },
        "results": trainer.results(),
        "probe": _probe(trainer),
        "audit": trainer.notes.get("audit"),
        "figures": trainer.notes.get("figures", []),
    }


def _probe(trainer: PatchTaskTrainer) -> dict[str, Any] | None:
    probe = trainer.evaluator.probe
    return None if probe is None else {"column": probe.column, "chance": probe.chance}


def run_config(
    spec: BackboneSpec, task: PatchTask, args: TrainingArguments, data_info: dict[str, Any]
) -> dict[str, Any]:
    """Return everything that decides a run's trained weights, as named values."""
    return {
        "backbone": spec.name,
        "backbone_args": spec.args,
        "task": task_name(task),
        "task_kwargs": task.kwargs,
        "canvas": list(task.canvas),
        "dataset": data_info["name"],
        "split": data_info.get("split"),
        "streaming": bool(data_info.get("streaming")),
        **identity(args),
    }


def default_output_dir(backbone: str, task: PatchTask, data: str) -> str:
    """Return ``runs/<backbone>-<task>-<data>``."""
    return str(Path("runs") / f"{backbone}-{task_name(task)}-{Path(data).name or 'data'}")
