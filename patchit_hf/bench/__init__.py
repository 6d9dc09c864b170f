"""What limits a pretraining on this machine, and what to change: ``patchit bench``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.bench.command import main as main
    from patchit_hf.bench.command import run as run
    from patchit_hf.bench.measure import bench as bench
    from patchit_hf.bench.report import Report as Report

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Report": "patchit_hf.bench.report",
        "bench": "patchit_hf.bench.measure",
        "main": "patchit_hf.bench.command",
        "run": "patchit_hf.bench.command",
    },
)
