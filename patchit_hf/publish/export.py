"""Write a trained backbone as a folder that timm, transformers and the Hub read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from patchit_hf.common.files import adding_to, save_weights, write_json
from patchit_hf.common.layout import (
    BACKBONE_FILE,
    CARD_FILE,
    CONFIG_FILE,
    DONE_FILE,
    FORMAT_VERSION,
    HEAD_FILE,
)
from patchit_hf.common.provenance import versions
from patchit_hf.models.backbone import BackboneSpec, feature_map, num_features
from patchit_hf.models.features import DIVISOR, crop_size, divisor
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask, task_name
from patchit_hf.publish.card import render_card


def export_run(
    folder: str | Path, model: PatchTaskModel, task: PatchTask, record: dict[str, Any]
) -> Path:
    """Write the export; ``patchit.json`` comes last and says that the rest is whole.

    Args:
        folder: where to; made if missing.
        model: the trained model.
        task: the task that it was trained by.
        record: command, data, training and results, as JSON values.

    Returns:
        The folder, with ``model.safetensors`` (the backbone), ``config.json`` (timm's),
        ``head.safetensors`` (the pretext head), ``README.md`` (the card) and ``patchit.json``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = timm_config(model.backbone, model.spec, task, record)
    full = {
        "format_version": FORMAT_VERSION,
        "backbone": {"name": model.spec.name, "args": model.spec.args},
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
    with adding_to(folder) as draft:
        save_weights(model.backbone, draft / BACKBONE_FILE)
        save_weights(model.head, draft / HEAD_FILE)
        write_json(draft / CONFIG_FILE, config)
        (draft / CARD_FILE).write_text(render_card(full, config), encoding="utf-8")
    write_json(folder / DONE_FILE, full)
    return folder


def timm_config(
    backbone: Any, spec: BackboneSpec, task: PatchTask, record: dict[str, Any]
) -> dict[str, Any]:
    """Return ``config.json``: how timm and transformers build the network and feed it.

    Nothing is inherited from timm's default weights. The input is the part of the canvas that
    patches are cut from, at the scale at which the network saw them; a network of a fixed size
    names the size that it was trained at.
    """
    source: dict[str, Any] = dict(backbone.pretrained_cfg)
    cfg: dict[str, Any] = {
        "tag": f"patchit_{_slug(record['data']['name'])}",
        "custom_load": False,
        "input_size": [3, *task.input_size],
        "fixed_input_size": spec.fixed_size,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": record["data"]["mean"],
        "std": record["data"]["std"],
        "num_classes": 0,
        "pool_size": None,
        "first_conv": source.get("first_conv"),
        "classifier": source.get("classifier"),
        "license": "other",
    }
    if not spec.fixed_size:
        size, crop_pct = export_size(task, divisor(backbone))
        cfg |= {"input_size": [3, *size], "crop_pct": crop_pct}
        cfg["pool_size"] = _pool_size(backbone, size)
    cfg = {key: value for key, value in cfg.items() if value is not None}
    config: dict[str, Any] = {
        "architecture": spec.name,
        "num_classes": 0,
        "num_features": num_features(backbone),
        "model_args": {k: v for k, v in spec.args.items() if not k.endswith("_rate")},
        "pretrained_cfg": cfg,
    }
    pool = spec.args.get("global_pool") or source.get("global_pool") or pool_type(backbone)
    if pool:
        config["global_pool"] = pool
    return config


def export_size(task: PatchTask, divisor: int = DIVISOR) -> tuple[tuple[int, int], float]:
    """Return the input size of a network of any size, and timm's crop_pct.

    PT-18 on 200x100 covers 192x96, which timm cuts from the centre of a squashed 200x100 canvas:
    ``crop_pct`` 0.96.
    """
    share = max(c / full for c, full in zip(task.covered, task.canvas, strict=True))
    return crop_size(task, divisor), round(share, 4)


def _pool_size(backbone: Any, size: tuple[int, int]) -> list[int] | None:
    if backbone.pretrained_cfg.get("pool_size") is None:
        return None
    device = next(backbone.parameters()).device
    training = backbone.training
    backbone.eval()
    with torch.no_grad():
        shape = feature_map(backbone, torch.zeros(1, 3, *size, device=device)).shape
    backbone.train(training)
    return list(shape[-2:])


def pool_type(backbone: Any) -> str | None:
    """Return how a timm model pools, None where it does not say."""
    pool = getattr(backbone, "global_pool", None)
    if isinstance(pool, str):
        return pool
    pool = getattr(pool, "pool_type", None) or getattr(
        getattr(getattr(backbone, "head", None), "global_pool", None), "pool_type", None
    )
    return pool if isinstance(pool, str) else None


def _slug(name: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in Path(name).name).split()
    return "_".join(words).lower() or "data"
