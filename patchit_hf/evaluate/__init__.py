"""Evaluate a model on a labelled split: ``patchit evaluate``, or ``evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.evaluate.arguments import EvaluateArguments as EvaluateArguments
    from patchit_hf.evaluate.command import main as main
    from patchit_hf.evaluate.command import run as run
    from patchit_hf.evaluate.evaluation import evaluate as evaluate
    from patchit_hf.evaluate.scores import Evaluation as Evaluation

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Evaluation": "patchit_hf.evaluate.scores",
        "EvaluateArguments": "patchit_hf.evaluate.arguments",
        "evaluate": "patchit_hf.evaluate.evaluation",
        "main": "patchit_hf.evaluate.command",
        "run": "patchit_hf.evaluate.command",
    },
)
