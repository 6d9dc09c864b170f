"""Write a finetuned model as a folder that timm, transformers and the Hub read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from patchit_hf.common.markdown import Markdown, without_folders
from patchit_hf.metrics.names import long_name
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.models.initial_weights import Initial
from patchit_hf.publish.export import write_export
from patchit_hf.publish.measured import FEATURES_TAG, PIPELINE_TAGS
from patchit_hf.publish.model_card import base_model, called, render, shared
from patchit_hf.publish.timm_config import timm_config


def export_finetuned(
    folder: Path, model: FinetunedModel, initial: Initial, record: dict[str, Any]
) -> Path:
    """Export a finetuned model.

    Args:
        folder: where to; made if missing.
        model: the trained model, with its task and geometry.
        initial: how its backbone was built.
        record: what ``patchit.json`` says.

    Returns:
        The folder; see ``write_export``. ``model.safetensors`` has the backbone's classifier where
        that is the head, and ``config.json`` the names of its labels.
    """
    record = json.loads(json.dumps(record))
    config = finetuned_config(model, initial)
    config["pretrained_cfg"]["license"] = finetuned_metadata(record, {}).license
    card = render_finetuned_card(record, config)
    return write_export(folder, model.backbone, model.head, config, card, record)


def finetuned_config(model: FinetunedModel, initial: Initial) -> dict[str, Any]:
    """Return ``config.json`` of a finetuned model."""
    task, geometry = model.task, model.geometry
    backbone: Any = model.backbone
    source: dict[str, Any] = dict(backbone.pretrained_cfg)
    config = timm_config(
        backbone,
        initial.name,
        initial.args,
        tag=f"patchit_{type(task).__module__.rpartition('.')[2]}",
        input_size=geometry.size,
        fixed_size=bool(source.get("fixed_input_size", False)),
        crop_pct=max(w / c for w, c in zip(geometry.window, geometry.canvas, strict=True)),
        mean=[round(v, 6) for v in model.mean.tolist()],
        std=[round(v, 6) for v in model.std.tolist()],
        num_classes=task.num_classes,
    )
    if task.num_classes:
        config["label_names"] = task.label_names
        kind = "multi_label" if task.multi_label else "single_label"
        config["problem_type"] = f"{kind}_classification"
    return config


def render_finetuned_card(record: dict[str, Any], config: dict[str, Any]) -> str:
    """Return the model card of a finetuned model: Markdown with the Hub's metadata on top."""
    metrics = {
        name.removeprefix("eval_"): value
        for name, value in record["results"].items()
        if name.startswith("eval_")
    }
    return render(
        "finetuned.md.jinja",
        **_shared(record),
        timm_config=config,
        metadata=Markdown(finetuned_metadata(record, metrics).to_yaml()),
        figures={long_name(name): value for name, value in metrics.items()},
    )


def _shared(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as a card tells it; see ``publish.model_card.shared``."""
    data, downstream = record["data"], record["downstream"]
    return {
        **shared(record),
        "data": {**data, "name": called(data)},
        "downstream": {**downstream, "init": without_folders(downstream["init"])},
    }


def finetuned_metadata(record: dict[str, Any], figures: dict[str, float]) -> ModelCardData:
    """Return the Hub's metadata of a finetuned model."""
    task, data = record["downstream"]["task"], record["data"]
    name = called(data)
    tag = PIPELINE_TAGS.get(task, FEATURES_TAG)
    measured = [
        EvalResult(
            task_type=tag,
            task_name=task,
            dataset_type=name,
            dataset_name=f"{name}, {data.get('validated_on') or 'validation'}",
            metric_type=metric,
            metric_name=long_name(metric),
            metric_value=round(value, 4),
        )
        for metric, value in figures.items()
    ]
    rendered = bool(data.get("rendered"))
    return ModelCardData(
        library_name="timm",
        pipeline_tag=tag,
        license="apache-2.0" if rendered and record["downstream"]["init"] == "random" else "other",
        license_name=None if rendered else "see-the-data-set",
        tags=["timm", "transformers", "patchit", "person", task],
        base_model=base_model(record),
        model_name=f"{record['backbone']['name']}.patchit_{task}",
        eval_results=measured or None,
    )
