"""Speed-up of CPU training steps from `models/small_maps.py` and `training/orthogonal.py`.

The variants run in turns in one process, so that their ratios are reliable: forward and backward
pass with torch's convolutions and with ours, on patches (pretraining) and on whole crops
(finetuning), and a step of Muon with timm's orthogonalisation and with ours.

    python benchmarks/cpu_step.py --output benchmarks/results/cpu-step.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from timm.optim import create_optimizer_v2

from patchit_hf.common.provenance import command, versions
from patchit_hf.models.small_maps import SmallMapConvolutions
from patchit_hf.training.optim import create_optimizer


def seconds(work: Callable[[], object]) -> float:
    """Return the time that a function takes, in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def passes(model: Any, x: torch.Tensor, ours: bool) -> None:
    """Run a forward and a backward pass."""
    with SmallMapConvolutions() if ours else contextlib.nullcontext():
        output = model(x)
    output.square().mean().backward()


def compared(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    """Return the median seconds of each variant, and the ratio of the second to the first."""
    for work in ways.values():
        work()
    taken = [{name: seconds(work) for name, work in ways.items()} for _ in range(rounds)]
    plain, ours = ways
    return {
        **{name: round(statistics.median(t[name] for t in taken), 4) for name in ways},
        "ratio": round(statistics.median(t[ours] / t[plain] for t in taken), 4),
        "ratios": [round(t[ours] / t[plain], 4) for t in taken],
    }


def both_ways(model: Any, size: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Measure the forward and backward pass on inputs ``[B, 3, H, W]`` with both convolutions."""
    x = torch.randn(size).to(memory_format=torch.channels_last)
    return compared(
        {
            "torch": lambda: passes(model, x, ours=False),
            "patchit_hf": lambda: passes(model, x, ours=True),
        },
        rounds,
    )


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Measure one network."""
    model = timm.create_model(name, num_classes=18).to(memory_format=torch.channels_last)
    plain = create_optimizer_v2(model, "muon", lr=0.0, nesterov=True)
    ours = create_optimizer(model, "muon", 0.0, 0.0)
    return {
        "256 patches of 32x32, seconds": both_ways(model, (256, 3, 32, 32), rounds),
        "32 crops of 128x64, seconds": both_ways(model, (32, 3, 128, 64), rounds),
        "step of Muon, seconds": compared({"timm": plain.step, "patchit_hf": ours.step}, rounds),
    }


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backbones", nargs="+", default=["resnet10t", "resnet18"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    words = parser.parse_args()
    capable = torch.cpu.get_capabilities()
    result = {
        "command": command(),
        "machine": {
            "threads": torch.get_num_threads(),
            **{key: capable.get(key) for key in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")},
        },
        "versions": versions(),
        "backbones": {n: measure(n, words.rounds) for n in words.backbones},
    }
    words.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["backbones"], indent=1))


if __name__ == "__main__":
    main()
