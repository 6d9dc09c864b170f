"""Recognise actions: finetune, evaluate on people who were not seen, and use the result with timm.

Example:
    python examples/action.py --init runs/resnet18-position-people
    python examples/action.py --dataset path/to/crops --column label --backbone resnet18
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
import torch

from patchit_hf import FinetuneTrainer, FinetuningArguments, load_crops
from patchit_hf.downstream import create_downstream
from patchit_hf.evaluate import evaluate


def finetuned(args: argparse.Namespace) -> Path:
    """Finetune; the folder is an export for timm, transformers and the Hub."""
    crops = load_crops(args.dataset)
    how = FinetuningArguments(
        output_dir=str(args.output),
        num_train_epochs=args.epochs,
        max_steps=args.max_steps,
        learning_rate=args.learning_rate,
    )
    about = {"name": crops.name, "split": crops.split, "validated_on": crops.held_out_from}
    trainer = FinetuneTrainer(
        args.init,
        how,
        create_downstream("action", crops.train, column=args.column),
        crops.train,
        crops.held_out,
        backbone=args.backbone or ("resnet10t" if args.init == "random" else None),
        input_size=args.input_size,
        data_info={**about, **crops.meta},
    )
    trainer.train()
    return args.output


def answers(folder: Path, images: list) -> list[tuple[str, float]]:
    """Return the answer to each image and how sure it is, with nothing but timm."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
    names = model.pretrained_cfg["label_names"]
    with torch.inference_mode():
        inputs = torch.stack([transform(image.convert("RGB")) for image in images])
        sure, best = model(inputs).softmax(1).max(1)
    return [(names[i], p) for i, p in zip(best.tolist(), sure.tolist(), strict=True)]


def size(text: str) -> tuple[int, ...]:
    """Read ``192x96`` as height and width."""
    return tuple(map(int, text.split("x")))


def main() -> None:
    """Read the command line, train, and show what was learnt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--init", default="random", help="initial weights, such as a run's folder")
    parser.add_argument("--backbone", help="a model of timm's, where --init does not bring one")
    parser.add_argument("--dataset", help="labelled crops; rendered people if left out")
    parser.add_argument("--column", default="action", help="the label")
    parser.add_argument("--output", type=Path, default=Path("runs/action"))
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--max-steps", type=int, default=-1, help="instead of epochs")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--input-size", type=size, help="height x width, such as 192x96")
    parser.add_argument("--show", type=int, default=5, help="crops whose answers are printed")
    args = parser.parse_args()

    folder = finetuned(args)
    result = evaluate(folder, args.dataset)
    result.save(folder / "evaluation")
    for name, value in result.metrics.items():
        low, high = result.intervals[name]
        print(f"{name:18} {value:6.1%}  ({low:.1%} to {high:.1%})")
    for row in result.table:
        cells = (f"{k} {v:.1%}" for k, v in row.items() if isinstance(v, float))
        print(f"{row['class']:18} {row['count']:6}  {', '.join(cells)}")
    some = load_crops(args.dataset).held_out.select(range(args.show))
    truth = some.features[args.column]
    for row, (answer, sure) in zip(some, answers(folder, some["image"]), strict=True):
        label = row[args.column]
        name = truth.int2str(label) if hasattr(truth, "int2str") else label
        print(f"{name!s:12} seen as {answer} ({sure:.0%} sure)")


if __name__ == "__main__":
    main()
