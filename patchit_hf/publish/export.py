"""Write a trained model as a folder that timm, transformers and the Hub read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from patchit_hf.common.files import adding_to, save_weights, write_json, write_text
from patchit_hf.common.layout import (
    BACKBONE_FILE,
    CARD_FILE,
    CONFIG_FILE,
    DONE_FILE,
    EARLIER_HEAD_FILE,
    FORMAT_VERSION,
    HEAD_FILE,
)
from patchit_hf.common.provenance import versions
from patchit_hf.models.features import DIVISOR, crop_size, divisor
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask, task_name
from patchit_hf.publish.model_card import metadata, render_card
from patchit_hf.publish.timm_config import map_size, timm_config


def write_export(
    folder: Path,
    backbone: nn.Module,
    head: nn.Module | None,
    config: dict[str, Any],
    card: str,
    record: dict[str, Any],
) -> Path:
    """Write an export; ``patchit.json`` comes last and says that the rest is whole.

    Args:
        folder: where to; made if missing.
        backbone: its weights become ``model.safetensors``.
        head: its weights become ``head/model.safetensors``; None for none.
        config: ``config.json``, as timm reads it.
        card: ``README.md``.
        record: ``patchit.json``.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with adding_to(folder) as draft:
        save_weights(backbone, draft / BACKBONE_FILE)
        if head is not None:
            (draft / HEAD_FILE).parent.mkdir()
            save_weights(head, draft / HEAD_FILE)
        write_json(draft / CONFIG_FILE, config)
        write_text(draft / CARD_FILE, card)
    (folder / EARLIER_HEAD_FILE).unlink(missing_ok=True)
    write_json(folder / DONE_FILE, record)
    return folder


def export_run(
    folder: str | Path, model: PatchTaskModel, task: PatchTask, record: dict[str, Any]
) -> Path:
    """Export a pretrained backbone with its pretext head.

    Args:
        folder: where to; made if missing.
        model: the trained model.
        task: the task that it was trained by.
        record: command, data, training and results, as JSON values.

    Returns:
        The folder; see ``write_export``.
    """
    full = {
        "format_version": FORMAT_VERSION,
        "backbone": model.spec.to_json(),
        "task": {
            "name": task_name(task),
            "kwargs": task.kwargs,
            "canvas": list(task.canvas),
            "num_classes": task.num_classes,
            "input_size": list(task.input_size),
        },
        **json.loads(json.dumps(record)),
        "versions": versions(),
    }
    config = pretrained_config(model, task, full["data"])
    config["pretrained_cfg"]["license"] = metadata(full).license
    card = render_card(full, config)
    head = task.exported(model.head)
    return write_export(Path(folder), model.backbone, head, config, card, full)


def pretrained_config(
    model: PatchTaskModel, task: PatchTask, data: dict[str, Any]
) -> dict[str, Any]:
    """Return ``config.json`` of a pretrained backbone.

    The input is the part of the canvas that patches are cut from, at the scale at which the network
    saw them; a network of a fixed size names the size that it was trained at. The interpolation is
    that of the initial weights.

    Args:
        model: the trained model.
        task: the task that it was trained by.
        data: the name of the data, with mean and deviation of its crops.
    """
    backbone, spec = model.backbone, model.spec
    size, crop_pct, pool_size = task.input_size, 1.0, None
    if not spec.fixed_size:
        size, crop_pct = export_size(task, divisor(backbone))
        pool_size = map_size(backbone, size)
    return timm_config(
        backbone,
        spec.name,
        spec.args,
        tag=f"patchit_{_slug(data['name'])}",
        input_size=size,
        fixed_size=spec.fixed_size,
        crop_pct=crop_pct,
        mean=data["mean"],
        std=data["std"],
        pool_size=pool_size,
        interpolation=_interpolation(model),
    )


def export_size(task: PatchTask, divisor: int = DIVISOR) -> tuple[tuple[int, int], float]:
    """Return the input size of a network of any size, and timm's crop_pct.

    PT-18 on 200x100 covers 192x96, which timm cuts from the centre of a squashed 200x100 canvas:
    ``crop_pct`` 0.96.
    """
    share = max(c / full for c, full in zip(task.covered, task.canvas, strict=True))
    return crop_size(task, divisor), round(share, 4)


def _interpolation(model: PatchTaskModel) -> str:
    """Return how images are resized: as the initial weights expect, where they say so."""
    cfg: Any = getattr(model.backbone, "pretrained_cfg", None) or {}
    return str(cfg.get("interpolation") or "bicubic") if model.origin is not None else "bicubic"


def _slug(name: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in Path(name).name).split()
    return "_".join(words).lower() or "data"
