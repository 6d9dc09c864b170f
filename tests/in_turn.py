"""Run commands one after the other in this process; test_distributed starts it by a launcher.

Usage: in_turn.py FILE, with JSON as in ``[["pretrain", "--backbone", "test_vit"], ...]``.
"""

import importlib
import json
import sys
from pathlib import Path

from accelerate import Accelerator


def run(commands: list[list[str]]) -> None:
    """Run them; one that fails ends it."""
    for name, *words in commands:
        code = importlib.import_module(f"patchit_hf.{name}").main(words)
        if code != 0:
            raise SystemExit(f"{name} {' '.join(words)}: exit code {code}")


if __name__ == "__main__":
    end = Accelerator.end_training
    Accelerator.end_training = lambda self: None  # each command's; the processes go on
    run(json.loads(Path(sys.argv[1]).read_text()))
    end(Accelerator())
