"""Re-identification across data sets: train on the people of one, look for those of another.

Nobody of the second data set is seen in training. Every crop is looked for among all others, those
of the same person and camera left out, as Market-1501 does it. More crops are harder to search:
compare figures of sets that are alike in size. Further flags are those of ``patchit_hf.finetune``.

Example:
    python examples/reid_across_datasets.py --init runs/resnet18-position-people
    python examples/reid_across_datasets.py --train path/to/mine --test path/to/others \
        --backbone resnet18 --batch-size 64
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from datasets import DatasetDict

from patchit_hf import load_people
from patchit_hf.evaluate import command as evaluate
from patchit_hf.finetune import command as finetune


def other_people(folder: Path, crops: int) -> str:
    """Draw people who are not among the embedded ones, and save them as a data set."""
    if not folder.exists():
        DatasetDict({"test": load_people(crops, seed=1)}).save_to_disk(str(folder))
    return str(folder)


def train(args: argparse.Namespace, more: list[str]) -> Path:
    """Train on the people of the first data set."""
    if not any(word.startswith(("--init", "--backbone")) for word in more):
        more = [*more, "--backbone", "resnet10t"]
    folder: Path = args.output / "model"
    data = ["--dataset", args.train] if args.train else []
    if finetune.main(["--task", "reid", "--output-dir", str(folder), *data, *more]):
        sys.exit("the training failed")
    return folder


def search(model: Path, dataset: str | None, split: str | None, output: Path) -> str:
    """Look for everybody of a data set; also writes the embedding of each crop."""
    words = [str(model), "--output-dir", str(output)]
    words += ["--dataset", dataset] if dataset else []
    words += ["--split", split] if split else []
    if evaluate.main(words):
        sys.exit("the evaluation failed")
    record = json.loads((output / "metrics.json").read_text())
    mean, first = record["figures"]["map"], record["figures"]["rank1"]
    return (
        f"{record['crops']} crops, mAP {mean['value']:.1%} "
        f"({mean['low']:.1%} to {mean['high']:.1%}), rank 1 {first['value']:.1%}"
    )


def main() -> None:
    """Read the command line, train here, test here and there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--train", help="a data set with person_id; rendered people if left out")
    parser.add_argument("--test", help="another one; other rendered people if left out")
    parser.add_argument("--test-crops", type=int, default=400, help="of those, how many crops")
    parser.add_argument("--test-split", help="its split; test, else what would be held out")
    parser.add_argument("--output", type=Path, default=Path("runs/reid-across-datasets"))
    args, more = parser.parse_known_args()

    model = train(args, more)
    there = args.test or other_people(args.output / "other-people", args.test_crops)
    here = search(model, args.train, None, args.output / "here")
    print(f"held-out people here: {here}")
    found = search(model, there, args.test_split, args.output / "there")
    print(f"people there: {found}")


if __name__ == "__main__":
    main()
