"""Where a training step on a CPU spends its time, against its matrix products alone.

For each network and size of input: a step of one batch (forward, backward, Muon) in CPU-seconds of
the process, and the same of nothing but the products that its convolutions and linear layers amount
to (one forward, two backward, with the positions of the maps as rows; taps on padding count, a
depthwise kernel is left out). Both take turns. ``ratio`` is network (forward and backward) over
products; ``mapped`` is the same passes over ours where the C library maps memory anew in each step;
the shares are those of torch's profiler, by kind of operation, of forward and backward. With
``--compile``, ``compiled`` are the passes after ``torch.compile`` over those without.

    export OMP_NUM_THREADS=1
    python benchmarks/step_profile.py --output benchmarks/results/step-profile.json
    python benchmarks/step_profile.py --compile --sizes 32 --output benchmarks/results/compiled.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchit_hf import create_task
from patchit_hf.common.freed_memory import freed_memory_kept
from patchit_hf.common.provenance import command, versions
from patchit_hf.models.build import build_model
from patchit_hf.training.optim import create_optimizer

BACKBONES = ("resnet18", "resnet50", "mobilenetv2_100", "convnext_atto", "vit_tiny_patch16_224")
KINDS = {  # of an operation, by what its name contains; the first one counts
    "products": ("conv", "mkldnn", "mm", "linear", "attention", "thnn"),
    "norm": ("norm",),
    "activation": ("relu", "gelu", "hardtanh", "silu", "threshold", "clamp", "sigmoid"),
    "pooling": ("pool",),
    "copies": ("copy", "contiguous", "clone", "cat", "_to_", "reorder", "fill", "zero", "empty",
               "stack"),
    "sums": ("add", "mul", "sum", "div", "mean", "sub"),
}  # fmt: skip
PATCHES = {32: (32, 1), 40: (20, 2), 64: (32, 2)}  # pixels cut, and how far they are enlarged
CELLS = 18
Product = tuple[int, int, int]


def products_of(model: nn.Module, inputs: Tensor) -> list[Product]:
    """Return rows, inner size and columns of the matrix product of each layer."""
    found: list[Product] = []

    def seen(layer: Any, _: Any, output: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            found.append(
                (output.numel() // layer.out_features, layer.in_features, layer.out_features)
            )
        elif layer.groups == 1:
            out = layer.out_channels
            found.append((output.numel() // out, layer.weight[0].numel(), out))

    kinds = (nn.Conv2d, nn.Linear)
    hooks = [m.register_forward_hook(seen) for m in model.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    return found


def multiplied(shapes: list[Product]) -> Callable[[], object]:
    """Return a function that does each product and the two of its backward pass."""
    ready = {
        (m, k, n): (torch.randn(m, k), torch.randn(k, n), torch.randn(m, n)) for m, k, n in shapes
    }

    def work() -> None:
        for shape in shapes:
            x, w, y = ready[shape]
            torch.mm(x, w)
            torch.mm(y, w.t())
            torch.mm(x.t(), y)

    return work


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU-seconds that a function takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def shares(work: Callable[[], object]) -> dict[str, float]:
    """Return the share of each kind of operation, in % of the time in operations."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    spent: defaultdict[str, float] = defaultdict(float)
    for row in profile.key_averages():
        name = row.key.lower()
        kind = next((k for k, words in KINDS.items() if any(w in name for w in words)), "rest")
        spent[kind] += row.self_cpu_time_total
    total = sum(spent.values())
    return {kind: round(100 * part / total, 1) for kind, part in sorted(spent.items())}


def measure(name: str, size: int, batch: int, rounds: int, compiling: bool) -> dict[str, Any]:
    """Measure one network on inputs of one size."""
    patch, scale = PATCHES[size]
    task = create_task("position", (192, 96), patch_size=patch, input_scale=scale)
    model: Any = build_model(name, task, 0).to(memory_format=torch.channels_last).train()
    optimizer: Any = create_optimizer(model, "muon", 1e-5, 0.05)
    inputs = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, CELLS, (batch,))

    def passes() -> None:
        F.cross_entropy(model(inputs), targets).backward()

    ways = {
        "passes": passes,
        "optimizer": optimizer.step,
        "products": multiplied(products_of(model, inputs)),
    }
    with freed_memory_kept():
        for work in ways.values():
            work()
        taken = [{way: cpu_seconds(work) for way, work in ways.items()} for _ in range(rounds)]
        faster = compiled(model, inputs, targets, passes, rounds) if compiling else {}
        spent = shares(passes)
    least = {way: min(turn[way] for turn in taken) for way in ways}
    ratios = [turn["passes"] / turn["products"] for turn in taken]
    return {
        "batch": batch,
        **{f"{way}, ms": round(1000 * seconds, 1) for way, seconds in least.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "mapped": in_turns(passes, rounds),
        **faster,
        "optimizer, % of a step": round(
            100 * least["optimizer"] / (least["optimizer"] + least["passes"]), 1
        ),
        "shares, %": spent,
    }


def in_turns(passes: Callable[[], object], rounds: int) -> float:
    """Return the time of passes whose memory is mapped anew, over that of the others."""
    ratios = []
    for _ in range(rounds):
        passes()
        plain = cpu_seconds(passes)
        with freed_memory_kept():
            passes()
            ratios.append(plain / cpu_seconds(passes))
    return round(statistics.median(ratios), 2)


def compiled(
    model: Any, inputs: Tensor, targets: Tensor, passes: Callable[[], object], rounds: int
) -> dict[str, float]:
    """Return the time of compiled passes over that of the others, and the first one's seconds."""
    fast = torch.compile(model)

    def work() -> None:
        F.cross_entropy(fast(inputs), targets).backward()

    began = time.perf_counter()
    work()
    first = time.perf_counter() - began
    work()
    ratios = [cpu_seconds(work) / cpu_seconds(passes) for _ in range(rounds)]
    return {"compiled": round(statistics.median(ratios), 2), "first compiled step, s": round(first)}


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--sizes", nargs="+", type=int, choices=PATCHES, default=list(PATCHES))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--output", type=Path)
    words = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for name in words.backbones:
        for size in words.sizes:
            row = measure(name, size, words.batch, words.rounds, words.compile)
            found.setdefault(name, {})[str(size)] = row
            print(name, size, json.dumps(row), flush=True)
    result = {
        "command": command(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "backbones": found,
    }
    if words.output:
        words.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
