"""Finetune, let the model label the other crops, and finetune again: a contender of claim.py.

    python benchmarks/self_training.py --task attributes --init path/to/weights.safetensors \
        --backbone mobilenetv2_100 --dataset path/to/crops --fraction 0.2 --subset-seed 0 \
        --again 5 --output-dir runs/self-training

It is what one can do with unlabelled crops instead of pretraining on them (Lee, "Pseudo-label",
ICML workshop 2013). The options are those of ``python -m patchit_hf.finetune``; the first model
keeps them as they are. The second begins with the same initial weights and sees all training crops
for ``--again`` epochs: with their labels where the draw has them, and elsewhere with the first
model's answers, of which those that are not ``--sure`` stay unknown.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import torch

from patchit_hf import FinetunedModel
from patchit_hf.common.errors import InputError
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.data.source import open_split
from patchit_hf.finetune.labelled import open_labelled, subset

UNKNOWN = -1


def answered(model: FinetunedModel, crops: datasets.Dataset, sure: float) -> dict[str, list[int]]:
    """Return the model's answer for each yes-or-no column: 1, 0, or ``UNKNOWN``.

    Args:
        model: finetuned for attributes.
        crops: the crops.
        sure: probability that an answer needs, from 0.5 to below 1.
    """
    found = model.predict(crops)
    return {
        name: [answer(result.probabilities[name], sure) for result in found]
        for name in found[0].probabilities
    }


def answer(probability: float, sure: float) -> int:
    """Return what a probability says.

    Example:
        >>> answer(0.96, 0.9), answer(0.04, 0.9), answer(0.6, 0.9), answer(0.6, 0.5)
        (1, 0, -1, 1)
    """
    if probability >= sure:
        return 1
    return 0 if probability <= 1 - sure else UNKNOWN


def relabelled(
    crops: datasets.Dataset, answers: dict[str, list[int]], known: set[int]
) -> datasets.Dataset:
    """Return crops with the answers as labels, except in the rows that have labels.

    Args:
        crops: with all labels, of which only those of ``known`` are used.
        answers: a number for each crop, by column.
        known: rows with labels.

    Raises:
        InputError: for a column with more answers than yes and no.
    """
    for name, values in answers.items():
        if name not in crops.column_names:
            raise InputError(
                f"self-training: {name!r} is one answer of several; choose yes-or-no columns by "
                "--task-kwargs columns=[NAME,...]"
            )
        labels = crops[name][:]
        chosen = [int(labels[row]) if row in known else value for row, value in enumerate(values)]
        crops = crops.remove_columns(name).add_column(name, chosen)
    return crops


def labelled_rows(
    model: FinetunedModel, crops: datasets.Dataset, args: argparse.Namespace
) -> set[int]:
    """Return the rows whose labels the draw has."""
    task, canvas = model.task, model.geometry.canvas
    opened = open_labelled(crops, task, canvas, DecodeArguments(), name=args.dataset)
    return set(subset(opened, task, args.fraction, None, args.subset_seed).rows.tolist())


def finetune(*words: str) -> None:
    """Run a finetuning.

    Raises:
        InputError: if it fails; it has said why.
    """
    done = subprocess.run([sys.executable, "-m", "patchit_hf.finetune", *words])
    if done.returncode:
        raise InputError("self-training: a finetuning failed")


def run(args: argparse.Namespace, options: list[str]) -> None:
    """Finetune twice."""
    first = Path(f"{args.output_dir}-first")
    draw = ["--fraction", str(args.fraction), "--subset-seed", str(args.subset_seed)]
    given = ["--dataset", args.dataset, *draw, "--epochs", str(args.epochs)]
    finetune(*options, *given, "--output-dir", str(first))
    model, crops = FinetunedModel.from_pretrained(first), open_split(args.dataset, "train")[0]
    known = labelled_rows(model, crops, args)
    labels = Path(f"{args.output_dir}-labels")
    shutil.rmtree(labels, ignore_errors=True)
    labels.mkdir(parents=True)
    with torch.inference_mode():
        answers = answered(model, crops, args.sure)
    relabelled(crops, answers, known).to_parquet(labels / "train.parquet")
    open_split(args.dataset, "validation")[0].to_parquet(labels / "validation.parquet")
    given = ["--dataset", str(labels), "--epochs", str(args.again)]
    finetune(*options, *given, "--output-dir", str(args.output_dir))


def main() -> int:
    """Run as the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True, help="crops with a training split")
    parser.add_argument("--fraction", type=float, required=True, help="share with labels")
    parser.add_argument("--subset-seed", type=int, default=0, help="of the draw of labels")
    parser.add_argument("--epochs", type=float, default=10, help="of the first model")
    parser.add_argument("--again", type=float, default=5, help="epochs of the second")
    parser.add_argument("--sure", type=float, default=0.5, help="probability an answer needs")
    parser.add_argument("--output-dir", type=Path, required=True)
    args, options = parser.parse_known_args()
    datasets.disable_progress_bars()
    try:
        if not 0.5 <= args.sure < 1:
            raise InputError(f"--sure {args.sure:g}: must be from 0.5 to below 1")
        run(args, options)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
