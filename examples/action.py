"""Recognise actions: finetune, judge on people who were not seen, and use the result with timm.

Further flags are those of ``patchit_hf.finetune``.

Example:
    python examples/action.py --init runs/resnet18-position-people
    python examples/action.py --dataset path/to/crops --column label --backbone resnet18
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import timm
import torch

from patchit_hf import load_crops
from patchit_hf.evaluate import command as evaluate
from patchit_hf.finetune import command as finetune


def train_and_judge(args: argparse.Namespace, more: list[str]) -> Path:
    """Finetune and evaluate; return where it is written what the model is worth."""
    if not any(word.startswith(("--init", "--backbone")) for word in more):
        more = [*more, "--backbone", "resnet10t"]
    data = ["--dataset", args.dataset] if args.dataset else []
    words = ["--task", "action", "--task-kwargs", f"column={args.column}", *data, *more]
    if finetune.main([*words, "--output-dir", str(args.output)]):
        sys.exit("the training failed")
    judged: Path = args.output / "evaluation"
    if evaluate.main([str(args.output), "--output-dir", str(judged), *data]):
        sys.exit("the evaluation failed")
    return judged


def answers(folder: Path, pictures: list) -> list[tuple[str, float]]:
    """Return the answer to each picture and how sure it is, with nothing but timm."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
    names = model.pretrained_cfg["label_names"]
    with torch.inference_mode():
        inputs = torch.stack([transform(picture.convert("RGB")) for picture in pictures])
        sure, best = model(inputs).softmax(1).max(1)
    return [(names[i], p) for i, p in zip(best.tolist(), sure.tolist(), strict=True)]


def main() -> None:
    """Read the command line, train, and show what was learnt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dataset", help="labelled crops; rendered people if left out")
    parser.add_argument("--column", default="action", help="the label")
    parser.add_argument("--output", type=Path, default=Path("runs/action"))
    parser.add_argument("--show", type=int, default=5, help="crops whose answers are printed")
    args, more = parser.parse_known_args()

    record = json.loads((train_and_judge(args, more) / "metrics.json").read_text())
    for name, figure in record["figures"].items():
        print(f"{name:18} {figure['value']:6.1%}  ({figure['low']:.1%} to {figure['high']:.1%})")
    for row in record["table"]:
        cells = (f"{k} {v:.1%}" for k, v in row.items() if isinstance(v, float))
        print(f"{row['class']:18} {row['count']:6}  {', '.join(cells)}")
    some = load_crops(args.dataset).held_out.select(range(args.show))
    truth = some.features[args.column]
    for row, (answer, sure) in zip(some, answers(args.output, some["image"]), strict=True):
        label = row[args.column]
        name = truth.int2str(label) if hasattr(truth, "int2str") else label
        print(f"{name!s:12} seen as {answer} ({sure:.0%} sure)")


if __name__ == "__main__":
    main()
