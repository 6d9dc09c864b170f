"""The model card: words around what the run measured, and nothing else."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import jinja2


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
    return environment.from_string(template).render(**record, timm_config=config) + "\n"
