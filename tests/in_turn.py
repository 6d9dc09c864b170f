"""Run commands one after the other in one process, which may be one of several."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from accelerate import Accelerator


def run(commands: list[list[str]]) -> None:
    """Run ``[["pretrain", "--backbone", "test_vit"], ...]``; a command that fails ends it."""
    for name, *words in commands:
        code = importlib.import_module(f"patchit_hf.{name}").main(words)
        if code != 0:
            raise SystemExit(f"{name} {' '.join(words)}: exit code {code}")


def main(words: list[str]) -> int:
    """Run the commands of a file of JSON in a process that ends with them."""
    end = Accelerator.end_training
    Accelerator.end_training = lambda self: None  # each command's; the processes go on
    run(json.loads(Path(words[0]).read_text()))
    end(Accelerator())
    return 0
