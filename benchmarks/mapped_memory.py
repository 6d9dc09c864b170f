"""CPU-seconds of a network's features where freed memory stays, against the C library's own way.

Each measurement is a process of its own, because glibc remembers what it has freed; both ways take
turns, and the smallest of five passes of one thread counts.

    python benchmarks/mapped_memory.py --output benchmarks/results/mapped-memory.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from patchit_hf.common.provenance import command, versions

WORK = """
import contextlib, sys, time, timm, torch
from patchit_hf.common.freed_memory import freed_memory_kept

name, crops, kept = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "kept"
torch.set_num_threads(1)
model = timm.create_model(name, num_classes=0).to(memory_format=torch.channels_last).eval()
inputs = torch.randn(crops, 3, 128, 64).contiguous(memory_format=torch.channels_last)
with freed_memory_kept() if kept else contextlib.nullcontext(), torch.inference_mode():
    taken = []
    for _ in range(7):
        began = time.process_time()
        model(inputs)
        taken.append(time.process_time() - began)
print(min(taken[2:]))
"""


def seconds(name: str, crops: int, way: str) -> float:
    """Return the CPU-seconds of a pass in a process of its own."""
    words = [sys.executable, "-c", WORK, name, str(crops), way]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return float(subprocess.check_output(words, text=True, env=environment))


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--backbones", nargs="+", default=["resnet18", "mobilenetv2_100", "convnext_atto"]
    )
    parser.add_argument("--crops", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path)
    words = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    for name in words.backbones:
        for crops in words.crops:
            ratios = [
                round(seconds(name, crops, "plain") / seconds(name, crops, "kept"), 2)
                for _ in range(words.rounds)
            ]
            found.setdefault(name, {})[str(crops)] = ratios
            print(name, crops, ratios, flush=True)
    result = {"command": command(), "versions": versions(), "plain over kept": found}
    if words.output:
        words.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
