"""Seconds from the command to the end of its first training step, beside those of importing torch.

The command is ``patchit pretrain --backbone resnet18`` on the embedded people, whose prepared crops
are read from the cache. Both are run in turns, each in a process of its own.

    python benchmarks/first_step.py --output benchmarks/results/first-step.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from patchit_hf.common.provenance import command, versions

TORCH = "import time, torch; print(time.time(), time.process_time())"
FIRST = """
import os, sys, time
from patchit_hf.common.waiting import wait_briefly
wait_briefly()  # as a command does, before torch is there
from patchit_hf.training import loop

def add(self, values, count):  # called with the first step's loss
    values["loss"].item()
    print(time.time(), time.process_time(), flush=True)
    os._exit(0)

loop.Means.add = add
from patchit_hf.pretrain.command import main
sys.exit(main(sys.argv[1:]))
"""


def seconds(code: str, *words: str) -> tuple[float, float]:
    """Return wall and CPU-seconds until a program prints the time."""
    began = time.time()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    ended, cpu = map(float, done.stdout.split())
    return ended - began, cpu


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    words = parser.parse_args()
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(words.rounds + 1):
            out = f"{folder}/{turn}"
            first = seconds(FIRST, "--backbone", words.backbone, "--output-dir", out)
            taken.append((*seconds(TORCH), *first))
    rows = taken[1:]  # the first one fills the caches
    names = ("torch, wall", "torch, CPU", "first step, wall", "first step, CPU")
    found = {
        name: round(statistics.median(row[number] for row in rows), 2)
        for number, name in enumerate(names)
    }
    beyond = [row[2] - row[0] for row in rows]
    result = {
        "command": command(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions(),
        "seconds": found,
        "beyond torch, wall": [round(value, 2) for value in beyond],
    }
    print(json.dumps(result, indent=1))
    if words.output:
        words.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
