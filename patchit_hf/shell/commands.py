"""The commands of ``patchit``, in the order in which they are used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: what is typed.
        summary: what it does, in a line.
        module: where it is; the module has ``main``, and ``DESCRIPTION``, ``ARGUMENTS`` (the
            dataclasses of its flags) and, if some of their fields are no flags, ``WITHOUT``.
    """

    name: str
    summary: str
    module: str

    def load(self) -> Any:
        """Import the command."""
        return import_module(self.module)


COMMANDS = (
    Command("crops", "cut boxes of people out of images or videos", "patchit_hf.crops.command"),
    Command("audit", "see how far shortcuts get in a patch task", "patchit_hf.audit.command"),
    Command("bench", "see what limits a pretraining, and its time", "patchit_hf.bench.command"),
    Command("pretrain", "pretrain a backbone on crops, no labels", "patchit_hf.pretrain.command"),
    Command("finetune", "train a backbone on labelled crops", "patchit_hf.finetune.command"),
    Command("evaluate", "judge a model on a labelled split", "patchit_hf.evaluate.command"),
    Command("predict", "let a finetuned model look at images", "patchit_hf.predict.command"),
    Command("embed", "write features of images", "patchit_hf.predict.embed_command"),
    Command("compare", "compare initial weights on your labels", "patchit_hf.compare.command"),
    Command("average", "average backbones that share a start", "patchit_hf.average.command"),
    Command("figures", "draw the figures of a run", "patchit_hf.figures.command"),
    Command("card", "write the model card of a run", "patchit_hf.publish.card"),
    Command("push", "push a run's folder to the Hub", "patchit_hf.publish.hub"),
    Command("tasks", "list the tasks and their options", "patchit_hf.shell.tasks"),
    Command("completion", "complete commands and flags", "patchit_hf.shell.completion"),
)
BY_NAME = {command.name: command for command in COMMANDS}
