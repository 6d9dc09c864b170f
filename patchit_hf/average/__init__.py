"""Average the exports of several runs that share a start: ``patchit average``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.average.arguments import AverageArguments as AverageArguments
    from patchit_hf.average.build import average as average
    from patchit_hf.average.command import main as main
    from patchit_hf.average.command import run as run

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AverageArguments": "patchit_hf.average.arguments",
        "average": "patchit_hf.average.build",
        "main": "patchit_hf.average.command",
        "run": "patchit_hf.average.command",
    },
)
