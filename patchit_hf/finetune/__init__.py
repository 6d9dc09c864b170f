"""Finetuning on labelled crops: ``python -m patchit_hf.finetune``, or ``FinetuneTrainer``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.finetune.arguments import FinetuneArguments as FinetuneArguments
    from patchit_hf.finetune.arguments import FinetuningArguments as FinetuningArguments
    from patchit_hf.finetune.build import open_finetuner as open_finetuner
    from patchit_hf.finetune.command import main as main
    from patchit_hf.finetune.command import run as run

__getattr__, __dir__ = lazily(
    __name__,
    {
        "FinetuneArguments": "patchit_hf.finetune.arguments",
        "FinetuningArguments": "patchit_hf.finetune.arguments",
        "main": "patchit_hf.finetune.command",
        "open_finetuner": "patchit_hf.finetune.build",
        "run": "patchit_hf.finetune.command",
    },
)
