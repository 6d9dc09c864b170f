"""Pretrain without labels, then finetune attributes: against random weights, with one budget.

Both contenders see the same labels, in the same order, equally varied, for as many steps, and are
judged as they are after the last one, on people that neither has seen. ``patchit_hf.compare`` does
the same with seeds and a learning rate of each contender's own.

Example:
    python examples/pretrain_then_finetune.py
    python examples/pretrain_then_finetune.py --dataset path/to/crops --fraction 0.1 \
        --columns hat,backpack
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from patchit_hf.finetune import command as finetune
from patchit_hf.pretrain import command as pretrain


def pretrained(args: argparse.Namespace) -> Path:
    """Learn from the crops alone; the folder is an export for timm, transformers and the Hub."""
    folder = args.output / "pretrained"
    words = ["--backbone", args.backbone, "--epochs", str(args.pretrain_epochs)]
    words += ["--max-steps", str(args.pretrain_steps), "--output-dir", str(folder)]
    if args.dataset:
        words += ["--dataset", args.dataset]
    if pretrain.main(words):
        sys.exit("the pretraining failed")
    return folder


def finetuned(init: str, args: argparse.Namespace) -> tuple[str, float]:
    """Train attributes from initial weights; the task's figure and its value on held-out people."""
    folder = args.output / ("from-random" if init == "random" else "from-pretrained")
    words = ["--task", "attributes", "--init", init, "--backbone", args.backbone]
    words += ["--fraction", str(args.fraction), "--input-size", args.input_size]
    words += ["--epochs", str(args.epochs), "--max-steps", str(args.max_steps)]
    words += ["--learning-rate", str(args.learning_rate), "--output-dir", str(folder)]
    words += ["--no-keep-best"]  # the last weights, not those that did best on the judges
    if args.dataset:
        words += ["--dataset", args.dataset]
    if args.columns:
        words += ["--task-kwargs", f"columns={args.columns}"]
    if finetune.main(words):
        sys.exit(f"finetuning from {init} failed")
    record = json.loads((folder / "patchit.json").read_text())
    metric = record["downstream"]["primary_metric"]
    return metric, record["results"][f"eval_{metric}"]


def main() -> None:
    """Read the command line, train twice, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dataset", help="crops with attributes; rendered people if left out")
    parser.add_argument("--columns", help="the attributes, such as hat,backpack; all if left out")
    parser.add_argument("--backbone", default="resnet10t")
    parser.add_argument("--output", type=Path, default=Path("runs/pretrain-then-finetune"))
    parser.add_argument("--pretrain-epochs", type=float, default=20)
    parser.add_argument("--pretrain-steps", type=int, default=-1, help="instead of epochs")
    parser.add_argument("--fraction", type=float, default=0.2, help="share of the labels")
    parser.add_argument("--epochs", type=float, default=10, help="of finetuning, for both")
    parser.add_argument("--max-steps", type=int, default=-1, help="of finetuning, instead")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of finetuning")
    parser.add_argument("--input-size", default="192x96", help="of finetuning, height x width")
    args = parser.parse_args()

    inits = {"random weights": "random", "pretrained weights": str(pretrained(args))}
    found = {name: finetuned(init, args) for name, init in inits.items()}
    for name, (metric, value) in found.items():
        print(f"{name:20} {metric} {value:.1%}")
    (_, random), (_, ours) = found.values()
    print(f"{'difference':20} {100 * (ours - random):+.1f} points, one seed each")


if __name__ == "__main__":
    main()
