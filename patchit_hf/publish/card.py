"""The model card: words around what the run measured, and nothing else."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from importlib.resources import files
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

# The pictures of a card and what they show. Those of single people stay in the run's folder, unless
# the people are rendered.
FIGURES = {
    "learning_curve.png": "Held-out accuracy over the training, beside chance and shortcuts",
    "confusion.png": "For each cell of the body, where the network puts its patches",
    "accuracy.png": "Share of right answers by cell of the body",
    "filters.png": "Filters of the first layer",
}
PEOPLE = {
    "patches.png": "Crops, their cells, and the patches that the network is asked about",
    "localisation.png": "Crops beside what the network makes of their patches",
}
_HUB_ID = re.compile(r"[\w-]+/[\w.-]+")
_LICENCES = re.compile(r"(apache|mit|bsd|cc|odbl|openrail|gpl|lgpl|agpl)[\w.-]*")


def render_card(record: dict[str, Any], config: dict[str, Any]) -> str:
    """Return the model card of an export.

    Args:
        record: what ``patchit.json`` holds.
        config: what ``config.json`` holds.

    Returns:
        Markdown with the Hub's metadata on top.
    """
    template = files("patchit_hf.publish").joinpath("card.md.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    pictures = FIGURES | (PEOPLE if record["data"].get("rendered") else {})
    text = environment.from_string(template).render(
        **record,
        timm_config=config,
        metadata=metadata(record).to_yaml(),
        shown={name: words for name, words in pictures.items() if name in record["figures"]},
        drawing=_drawing(record["task"]["name"]),
    )
    return text + "\n"


def metadata(record: dict[str, Any]) -> ModelCardData:
    """Return the Hub's metadata of an export.

    The licence of weights follows the data that they were learnt from: it is named where the data
    set names one that the Hub knows, and ``other`` stands for any other.

    Args:
        record: what ``patchit.json`` holds.
    """
    data, task, results = record["data"], record["task"], record["results"]
    rendered = bool(data.get("rendered"))
    stated = str(data.get("license", "")).strip().lower()
    licence = "apache-2.0" if rendered else stated if _LICENCES.fullmatch(stated) else "other"
    measured = []
    if "eval_accuracy" in results:
        measured.append(
            EvalResult(
                task_type="image-feature-extraction",
                task_name=f"Pretext task {task['name']}",
                dataset_type=data["name"],
                dataset_name=f"{data['name']}, held-out crops",
                metric_type="accuracy",
                metric_name=f"Accuracy over {task['num_classes']} classes",
                metric_value=round(results["eval_accuracy"], 4),
            )
        )
    return ModelCardData(
        library_name="timm",
        pipeline_tag="image-feature-extraction",
        license=licence,
        license_name=None if licence != "other" else "see-the-data-set",
        tags=["timm", "transformers", "patchit", "self-supervised", "person"],
        datasets=[data["name"]] if data.get("hub") and _HUB_ID.fullmatch(data["name"]) else None,
        model_name=f"{record['backbone']['name']}.patchit",
        eval_results=measured or None,
    )


def _drawing(task: str) -> str:
    """Return what the task's file says of itself: what is cut, and the classes."""
    module = import_module(f"patchit_hf.patch_tasks.{task}")
    return inspect.cleandoc(module.__doc__ or "")
