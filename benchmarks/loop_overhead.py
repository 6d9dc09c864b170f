"""Speed of the trainer relative to a bare loop on ready-made inputs, as a ratio of patches/s.

The bare loop has model, loss, backward pass and optimiser, and nothing else: no crops, no cutting,
no normalisation, no clipping, no records. Both run in turns in one process. Only the ratio of each
pair counts, not the absolute speed.

    python benchmarks/loop_overhead.py --output benchmarks/results/loop_overhead.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task, load_people
from patchit_hf.common.provenance import hardware, versions
from patchit_hf.models.build import build_model
from patchit_hf.training.optim import create_optimizer


def bare(backbone: str, args: TrainingArguments, device: torch.device) -> float:
    """Return the patches per second of the bare loop."""
    model = build_model(backbone, create_task("position"), 0).to(
        device, memory_format=torch.channels_last
    )
    rate = args.settled(random=True).peak_learning_rate
    optimizer = create_optimizer(model, args.optim, rate, args.weight_decay)
    inputs = torch.randn(args.train_batch_size, 3, 32, 32, device=device)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, 18, (args.train_batch_size,), device=device)
    started = time.perf_counter()
    for _ in range(args.max_steps):
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return args.max_steps * args.train_batch_size / (time.perf_counter() - started)


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True)
    words = parser.parse_args()
    people, task = load_people(512), create_task("position")
    rounds = []
    for _ in range(words.rounds + 1):  # the first round is warm-up
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(output_dir=f"{folder}/run", max_steps=words.steps)
            trainer = PatchTaskTrainer(words.backbone, args, task, people)
            trainer.train()
            ours = words.steps * args.train_batch_size / trainer.notes["seconds"]
        rounds.append(
            {"ours": ours, "bare": bare(words.backbone, args, trainer.accelerator.device)}
        )
    ratios = [r["ours"] / r["bare"] for r in rounds[1:]]
    result = {
        "command": f"python benchmarks/loop_overhead.py --backbone {words.backbone} "
        f"--steps {words.steps} --rounds {words.rounds} --output {words.output}",
        "ratio_ours_to_bare": {
            "median": round(statistics.median(ratios), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
        },
        "rounds": len(ratios),
        "hardware": hardware(trainer.accelerator),
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "versions": versions(),
    }
    words.output.parent.mkdir(parents=True, exist_ok=True)
    words.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["ratio_ours_to_bare"]))


if __name__ == "__main__":
    main()
