"""What a finetuning says about itself in ``patchit.json`` and its model card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from patchit_hf.common.layout import FORMAT_VERSION
from patchit_hf.common.provenance import command, hardware, versions
from patchit_hf.data.bad import settle

if TYPE_CHECKING:
    from patchit_hf.finetune.trainer import Finetuner


def describe_finetuning(finetuner: Finetuner) -> dict[str, Any]:
    """Return what ``patchit.json`` says: command, task, data, training and results.

    The list of bad images in the run's folder is brought up to date.
    """
    task, geometry, initial = finetuner.task, finetuner.geometry, finetuner.initial
    follower = finetuner.follower
    parts = [p.store.bad for p in (finetuner.data, finetuner.validation) if p is not None]
    steps = follower.done if follower else 0
    return {
        "format_version": FORMAT_VERSION,
        "backbone": {"name": initial.name, "args": initial.args},
        "downstream": {
            "task": type(task).__module__.rpartition(".")[2],
            "kwargs": task.kwargs,
            "primary_metric": task.primary_metric,
            "mean": [round(v, 6) for v in finetuner.model.mean.tolist()],
            "std": [round(v, 6) for v in finetuner.model.std.tolist()],
            "canvas": list(geometry.canvas),
            "window": list(geometry.window),
            "size": list(geometry.size),
            "fit": finetuner.args.fit,
            "init": initial.source,
        },
        "command": command(),
        "config": finetuner.run.config,
        "data": {
            **finetuner.data_info,
            "fingerprint": finetuner.data.store.fingerprint,
            "train_crops": len(finetuner.data),
            "eval_crops": len(finetuner.validation) if finetuner.validation else 0,
            "on_bad_image": finetuner.args.on_bad_image,
            "bad_images": settle(finetuner.run.path, *parts),
        },
        "training": {
            "steps": steps,
            "crops": steps * finetuner.share.batch,
            "seconds": round(finetuner.seconds, 1),
            "stopped": follower.stopped if follower else None,
            "hardware": hardware(finetuner.accelerator),
            "processes": finetuner.accelerator.num_processes,
            "mixed_precision": finetuner.accelerator.mixed_precision,
            "frozen": finetuner.args.freeze,
            "seed": finetuner.args.seed,
        },
        "results": finetuner.results(),
        "versions": versions(),
    }
