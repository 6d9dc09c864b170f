"""Write a finetuned model as a folder that timm, transformers and the Hub read."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from patchit_hf.common.files import adding_to, save_weights, write_json
from patchit_hf.common.layout import (
    BACKBONE_FILE,
    CARD_FILE,
    CONFIG_FILE,
    DONE_FILE,
    HEAD_FILE,
)
from patchit_hf.finetune.record import describe_finetuning
from patchit_hf.metrics.names import long_name
from patchit_hf.publish.export import pool_type

if TYPE_CHECKING:
    from patchit_hf.finetune.trainer import Finetuner

PIPELINE_TAGS = {"attributes": "image-classification", "action": "image-classification"}


def export_finetuned(folder: Path, finetuner: Finetuner) -> Path:
    """Write the model; ``patchit.json`` comes last and says that the rest is whole.

    Args:
        folder: where to; made if missing.
        finetuner: with the trained model.

    Returns:
        The folder: ``model.safetensors`` (backbone, with its classifier where that is the head),
        ``config.json`` (timm's, with label names), ``head.safetensors`` (the task's own head, if it
        has one), ``README.md`` and ``patchit.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record, config = describe_finetuning(finetuner), finetuned_config(finetuner)
    record = json.loads(json.dumps(record))
    model = finetuner.model
    with adding_to(folder) as draft:
        save_weights(model.backbone, draft / BACKBONE_FILE)
        if model.head is not None:
            save_weights(model.head, draft / HEAD_FILE)
        write_json(draft / CONFIG_FILE, config)
        (draft / CARD_FILE).write_text(render_finetuned_card(record, config), encoding="utf-8")
    write_json(folder / DONE_FILE, record)
    return folder


def finetuned_config(finetuner: Finetuner) -> dict[str, Any]:
    """Return ``config.json``: how timm and transformers build the network and feed it."""
    task, geometry, initial = finetuner.task, finetuner.geometry, finetuner.initial
    backbone: Any = finetuner.model.backbone
    source: dict[str, Any] = dict(backbone.pretrained_cfg)
    share = max(w / c for w, c in zip(geometry.window, geometry.canvas, strict=True))
    cfg = {
        "tag": f"patchit_{type(task).__module__.rpartition('.')[2]}",
        "custom_load": False,
        "input_size": [3, *geometry.size],
        "fixed_input_size": bool(source.get("fixed_input_size", False)),
        "interpolation": "bicubic",
        "crop_pct": round(share, 4),
        "crop_mode": "squash",
        "mean": [round(v, 6) for v in finetuner.model.mean.tolist()],
        "std": [round(v, 6) for v in finetuner.model.std.tolist()],
        "num_classes": task.num_classes,
        "first_conv": source.get("first_conv"),
        "classifier": source.get("classifier"),
        "license": "other",
    }
    config: dict[str, Any] = {
        "architecture": initial.name,
        "num_classes": task.num_classes,
        "num_features": int(backbone.num_features),
        "model_args": {k: v for k, v in initial.args.items() if not k.endswith("_rate")},
        "pretrained_cfg": {key: value for key, value in cfg.items() if value is not None},
    }
    pool = initial.args.get("global_pool") or source.get("global_pool") or pool_type(backbone)
    if pool:
        config["global_pool"] = pool
    if task.num_classes:
        config["label_names"] = task.label_names
        kind = "multi_label" if task.multi_label else "single_label"
        config["problem_type"] = f"{kind}_classification"
    return config


def render_finetuned_card(record: dict[str, Any], config: dict[str, Any]) -> str:
    """Return the model card of a finetuned model: Markdown with the Hub's metadata on top."""
    template = files("patchit_hf.publish").joinpath("finetuned.md.jinja")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    figures = {
        name.removeprefix("eval_"): value
        for name, value in record["results"].items()
        if name.startswith("eval_")
    }
    text = environment.from_string(template.read_text(encoding="utf-8")).render(
        **record,
        timm_config=config,
        metadata=finetuned_metadata(record, figures).to_yaml(),
        figures={long_name(name): value for name, value in figures.items()},
    )
    return text + "\n"


def finetuned_metadata(record: dict[str, Any], figures: dict[str, float]) -> ModelCardData:
    """Return the Hub's metadata of a finetuned model."""
    task, data = record["downstream"]["task"], record["data"]
    tag = PIPELINE_TAGS.get(task, "image-feature-extraction")
    measured = [
        EvalResult(
            task_type=tag,
            task_name=task,
            dataset_type=data["name"],
            dataset_name=f"{data['name']}, {data.get('validated_on') or 'validation'}",
            metric_type=name,
            metric_name=long_name(name),
            metric_value=round(value, 4),
        )
        for name, value in figures.items()
    ]
    rendered = bool(data.get("rendered"))
    return ModelCardData(
        library_name="timm",
        pipeline_tag=tag,
        license="apache-2.0" if rendered and record["downstream"]["init"] == "random" else "other",
        license_name=None if rendered else "see-the-data-set",
        tags=["timm", "transformers", "patchit", "person", task],
        model_name=f"{record['backbone']['name']}.patchit_{task}",
        eval_results=measured or None,
    )
