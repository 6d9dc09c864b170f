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
from pathlib import Path

from patchit_hf import (
    FinetuneTrainer,
    FinetuningArguments,
    PatchTaskTrainer,
    TrainingArguments,
    create_task,
    load_crops,
)
from patchit_hf.downstream import create_downstream


def pretrained(args: argparse.Namespace) -> str:
    """Learn from the crops alone; the folder is an export for timm, transformers and the Hub."""
    crops, folder = load_crops(args.dataset), args.output / "pretrained"
    how = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=args.pretrain_epochs,
        max_steps=args.pretrain_steps,
    )
    about = {"name": crops.name, "split": crops.split, "held_out_from": crops.held_out_from}
    trainer = PatchTaskTrainer(
        args.backbone,
        how,
        create_task("position"),
        crops.train,
        crops.held_out,
        data_info={**about, **crops.meta},
    )
    trainer.train()
    return str(folder)


def finetuned(init: str, args: argparse.Namespace) -> tuple[str, float]:
    """Train attributes; return the task's metric and its value on held-out people."""
    crops = load_crops(args.dataset)
    columns = args.columns.split(",") if args.columns else None
    task = create_downstream("attributes", crops.train, columns=columns)
    labelled = crops.train.shuffle(seed=0).select(range(round(args.fraction * len(crops.train))))
    folder = args.output / ("from-random" if init == "random" else "from-pretrained")
    how = FinetuningArguments(
        output_dir=str(folder),
        num_train_epochs=args.epochs,
        max_steps=args.max_steps,
        learning_rate=args.learning_rate,
        load_best_model_at_end=False,  # the last weights, not those that did best on the judges
    )
    about = {"name": crops.name, "split": crops.split, "validated_on": crops.held_out_from}
    trainer = FinetuneTrainer(
        init,
        how,
        task,
        labelled,
        crops.held_out,
        backbone=args.backbone,
        input_size=args.input_size,
        data_info={**about, **crops.meta},
    )
    return task.primary_metric, trainer.train()[f"eval_{task.primary_metric}"]


def size(text: str) -> tuple[int, ...]:
    """Read ``192x96`` as height and width."""
    return tuple(map(int, text.split("x")))


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
    parser.add_argument(
        "--input-size", type=size, default=(192, 96), help="of finetuning, height x width"
    )
    args = parser.parse_args()

    inits = {"random weights": "random", "pretrained weights": pretrained(args)}
    found = {name: finetuned(init, args) for name, init in inits.items()}
    for name, (metric, value) in found.items():
        print(f"{name:20} {metric} {value:.1%}")
    (_, random), (_, ours) = found.values()
    print(f"{'difference':20} {100 * (ours - random):+.1f} points, one seed each")


if __name__ == "__main__":
    main()
