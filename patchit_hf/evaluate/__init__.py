"""Evaluate a model on a labelled split: ``python -m patchit_hf.evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.evaluate.arguments import EvaluateArguments as EvaluateArguments
    from patchit_hf.evaluate.command import main as main
    from patchit_hf.evaluate.command import run as run

__getattr__, __dir__ = lazily(
    __name__,
    {
        "EvaluateArguments": "patchit_hf.evaluate.arguments",
        "main": "patchit_hf.evaluate.command",
        "run": "patchit_hf.evaluate.command",
    },
)
