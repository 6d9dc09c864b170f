"""Several initial weights with one budget: ``patchit compare``, or ``compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.compare.arguments import CompareArguments as CompareArguments
    from patchit_hf.compare.command import main as main
    from patchit_hf.compare.command import run as run
    from patchit_hf.compare.comparison import Comparison as Comparison
    from patchit_hf.compare.comparison import compare as compare

__getattr__, __dir__ = lazily(
    __name__,
    {
        "CompareArguments": "patchit_hf.compare.arguments",
        "Comparison": "patchit_hf.compare.comparison",
        "compare": "patchit_hf.compare.comparison",
        "main": "patchit_hf.compare.command",
        "run": "patchit_hf.compare.command",
    },
)
