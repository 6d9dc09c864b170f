"""What a run says about itself: ``patchit.json``, and through it the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from patchit_hf.data.bad import settle
from patchit_hf.data.stream import StreamedCrops
from patchit_hf.environment import command, hardware
from patchit_hf.modeling import has_batch_norm

if TYPE_CHECKING:
    from patchit_hf.trainer import PatchTaskTrainer


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
