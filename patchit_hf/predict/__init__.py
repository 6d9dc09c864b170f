"""Finetuned models and frozen backbones at work: ``patchit predict`` and ``patchit embed``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.predict.answers import Answer as Answer
    from patchit_hf.predict.answers import Answers as Answers
    from patchit_hf.predict.arguments import EmbedArguments as EmbedArguments
    from patchit_hf.predict.arguments import PredictArguments as PredictArguments
    from patchit_hf.predict.command import main as main
    from patchit_hf.predict.command import run as run
    from patchit_hf.predict.embeddings import Embeddings as Embeddings
    from patchit_hf.predict.embeddings import embed as embed
    from patchit_hf.predict.predictions import predict as predict

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Answer": "patchit_hf.predict.answers",
        "Answers": "patchit_hf.predict.answers",
        "EmbedArguments": "patchit_hf.predict.arguments",
        "Embeddings": "patchit_hf.predict.embeddings",
        "PredictArguments": "patchit_hf.predict.arguments",
        "embed": "patchit_hf.predict.embeddings",
        "main": "patchit_hf.predict.command",
        "predict": "patchit_hf.predict.predictions",
        "run": "patchit_hf.predict.command",
    },
)
