"""Pretraining on a patch task: ``patchit pretrain``, or ``PatchTaskTrainer``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.pretrain.arguments import PretrainArguments as PretrainArguments
    from patchit_hf.pretrain.arguments import TrainingArguments as TrainingArguments
    from patchit_hf.pretrain.command import main as main
    from patchit_hf.pretrain.command import run as run
    from patchit_hf.pretrain.trainer import PatchTaskTrainer as PatchTaskTrainer

__getattr__, __dir__ = lazily(
    __name__,
    {
        "PatchTaskTrainer": "patchit_hf.pretrain.trainer",
        "PretrainArguments": "patchit_hf.pretrain.arguments",
        "TrainingArguments": "patchit_hf.pretrain.arguments",
        "main": "patchit_hf.pretrain.command",
        "run": "patchit_hf.pretrain.command",
    },
)
