"""Finetuning on labelled crops: ``patchit finetune``, or ``FinetuneTrainer``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.finetune.arguments import FinetuneArguments as FinetuneArguments
    from patchit_hf.finetune.arguments import FinetuningArguments as FinetuningArguments
    from patchit_hf.finetune.command import main as main
    from patchit_hf.finetune.command import run as run
    from patchit_hf.finetune.trainer import FinetuneTrainer as FinetuneTrainer

__getattr__, __dir__ = lazily(
    __name__,
    {
        "FinetuneTrainer": "patchit_hf.finetune.trainer",
        "FinetuneArguments": "patchit_hf.finetune.arguments",
        "FinetuningArguments": "patchit_hf.finetune.arguments",
        "main": "patchit_hf.finetune.command",
        "run": "patchit_hf.finetune.command",
    },
)
