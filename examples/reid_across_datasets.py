"""Re-identification across data sets: train on the people of one, look for those of another.

Nobody of the second data set is seen in training. Every crop is looked for among all others, those
of the same person and camera left out, as Market-1501 does it. More crops are harder to search:
compare metrics of sets that are alike in size.

Example:
    python examples/reid_across_datasets.py --init runs/resnet18-position-people
    python examples/reid_across_datasets.py --train path/to/mine --test path/to/others \
        --backbone resnet18 --batch-size 64
"""

from __future__ import annotations

import argparse
from pathlib import Path

import datasets

from patchit_hf import FinetunedModel, FinetuneTrainer, FinetuningArguments, load_crops, load_people
from patchit_hf.evaluate import evaluate


def train(args: argparse.Namespace) -> FinetunedModel:
    """Train on the people of the first data set."""
    crops = load_crops(args.train)
    how = FinetuningArguments(
        output_dir=str(args.output / "model"),
        num_train_epochs=args.epochs,
        max_steps=args.max_steps,
        train_batch_size=args.batch_size,
        learning_rate=args.learning_rate,
    )
    about = {"name": crops.name, "split": crops.split, "validated_on": crops.held_out_from}
    trainer = FinetuneTrainer(
        args.init,
        how,
        "reid",
        crops.train,
        crops.held_out,
        backbone=args.backbone or ("resnet10t" if args.init == "random" else None),
        input_size=args.input_size,
        data_info={**about, **crops.meta},
    )
    trainer.train()
    return trainer.model


def search(
    model: FinetunedModel,
    dataset: str | datasets.Dataset | None,
    split: str | None,
    output: Path,
) -> str:
    """Look for everybody of a data set; also writes the embedding of each crop."""
    result = evaluate(model, dataset, split=split)
    result.save(output)
    low, high = result.intervals["map"]
    return (
        f"{result.crops} crops, mAP {result.metrics['map']:.1%} "
        f"({low:.1%} to {high:.1%}), rank 1 {result.metrics['rank1']:.1%}"
    )


def size(text: str) -> tuple[int, ...]:
    """Read ``192x96`` as height and width."""
    return tuple(map(int, text.split("x")))


def main() -> None:
    """Read the command line, train here, test here and there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--init", default="random", help="initial weights, such as a run's folder")
    parser.add_argument("--backbone", help="a model of timm's, where --init does not bring one")
    parser.add_argument("--train", help="a data set with person_id; rendered people if left out")
    parser.add_argument("--test", help="another one; other rendered people if left out")
    parser.add_argument("--test-crops", type=int, default=400, help="of those, how many crops")
    parser.add_argument("--test-split", help="its split; test, else what would be held out")
    parser.add_argument("--output", type=Path, default=Path("runs/reid-across-datasets"))
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--max-steps", type=int, default=-1, help="instead of epochs")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--input-size", type=size, help="height x width, such as 192x96")
    args = parser.parse_args()

    model = train(args)
    here = search(model, args.train, None, args.output / "here")
    print(f"held-out people here: {here}")
    there = args.test or load_people(args.test_crops, seed=1)  # nobody of the embedded people
    found = search(model, there, args.test_split if args.test else None, args.output / "there")
    print(f"people there: {found}")


if __name__ == "__main__":
    main()
