"""What pretraining adds to the weights that people have, measured so that half a point can be seen.

    python benchmarks/claim.py --plan               every trial: question, prediction, result
    python benchmarks/claim.py --run position       one trial, on held-out persons
    python benchmarks/claim.py --run final-lite     a final one, on the test split, once
    python benchmarks/claim.py --final              all final ones, and a table for each network
    python benchmarks/claim.py --quick --jobs 2     the table for one network, in twenty minutes

15 % of the training persons (and the validation split) judge every search; they are in no
pretraining and no finetuning. Each start is finetuned on two draws of 1,600 labels, the same for
all starts, and differences are taken within draw and seed. Frozen features are judged without any
label by how well they find the same person. Only final trials open the test split and the second
data set.

Each run leaves a record in ``results/claim/`` and is not repeated; ``--commit`` commits it.
Weights stay in ``--work``. ``claim.md`` holds the plan with the results.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from claim_commands import jobs_of
from claim_data import search_folder
from claim_figures import differences, table
from claim_jobs import Bench, Job, layers
from claim_plan import COLUMNS, DATA, QUICK, STARTS, TRIALS, USUAL, Trial

from patchit_hf.common import cli
from patchit_hf.common.errors import InputError
from patchit_hf.finetune.arguments import FinetuneArguments, FinetuningArguments
from patchit_hf.pretrain.arguments import RECIPES, PretrainArguments, TrainingArguments

PLAN_FILE = Path("benchmarks/claim.md")
SEEDS, FINAL_SEEDS, DRAWS = (42,), (42, 43, 44), (0, 1)
QUICK_EPOCHS = 4


def bench_of(args: argparse.Namespace, trial: Trial, *, quick: bool = False) -> Bench:
    """Return how the runs of a trial are carried out and judged."""
    judge = "test" if trial.final else "dev"
    return Bench(
        backbone=trial.backbone,
        data=args.peta if trial.final else str(Path(args.work) / "search"),
        split="test" if trial.final else "validation",
        cameras=args.viper if trial.final else None,
        others={name: getattr(args, name) for name in DATA},
        imagenet=f"{args.weights}/{trial.backbone}.imagenet.safetensors",
        name=f"quick-{judge}" if quick else judge,
        work=Path(args.work),
        results=Path(args.results),
        size=args.size,
        labels=args.labels,
        epochs=QUICK_EPOCHS if quick and args.epochs is None else args.epochs or 10,
        steps=args.steps,
        threads=args.threads,
        commit=args.commit,
        precision=trial.precision,
    )


def seeds_of(trial: Trial) -> tuple[int, ...]:
    """Return the seeds that a trial is run with."""
    return FINAL_SEEDS if trial.final else SEEDS


def carry_out(bench: Bench, trial: Trial, starts: Sequence[str], jobs: int) -> None:
    """Run what has no record yet, several runs side by side."""
    wanted = jobs_of(bench, starts, seeds_of(trial), DRAWS, trial.columns)
    for layer in layers(wanted):
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(Job.run, layer))  # raises what a run raised


def records(bench: Bench, trial: Trial) -> list[dict[str, Any]]:
    """Return the records that there are of a trial's starts."""
    found = []
    for file in sorted(bench.results.glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        asked, finetuned = record["asked"], record["kind"] == "finetune"
        if (
            record["bench"] == (bench.name if finetuned else bench.trained_on)
            and asked["backbone"] == trial.backbone
            and asked["start"] in trial.starts
            and asked.get("column", USUAL) in (*trial.columns, USUAL)
            and asked.get("seed", seeds_of(trial)[0]) in seeds_of(trial)
        ):
            found.append(record)
    return found


def result(args: argparse.Namespace, trial: Trial, *, quick: bool = False) -> str:
    """Return table and differences of a trial as Markdown, as far as they are recorded."""
    found = records(bench_of(args, trial, quick=quick), trial)
    if not found:
        return ""
    starts = [start for start in trial.starts if any(r["asked"]["start"] == start for r in found)]
    return "\n\n".join(
        part for part in (table(found, starts), differences(found, trial.pairs)) if part
    )


def plan(args: argparse.Namespace) -> str:
    """Return every trial as Markdown: question, prediction, command, result, decision."""
    parts = [(__doc__ or "").split("\n\n")[0].replace("What", "# What", 1).rstrip(".")]
    parts.append(
        "Written by `python benchmarks/claim.py --plan > benchmarks/claim.md` from "
        "`claim_plan.py` and the records in `results/claim/`. mAP in %, differences in points, "
        "by Student's t over pairs that share seed and draw of labels."
    )
    for name, trial in TRIALS.items():
        where = "the test split" if trial.final else "held-out persons"
        parts.append(f"## {name}: `{trial.backbone}`, on {where}")
        parts.append(f"**Question.** {trial.question}")
        parts.append(f"**Prediction.** {trial.prediction}.")
        parts.append(f"**Command.** `python benchmarks/claim.py --run {name}`")
        parts.append("\n".join(f"- `{start}`: {told(start, trial)}" for start in trial.starts))
        found = result(args, trial)
        parts.append(f"**Result.**\n\n{found}" if found else "**Result.** Not run yet.")
        parts.append(f"**Decision.** {trial.decision or 'Open.'}")
    return "\n\n".join(parts) + "\n"


def final_table(args: argparse.Namespace) -> str:
    """Return one table of each network, with all that final trials have measured."""
    parts = []
    for backbone in dict.fromkeys(trial.backbone for trial in TRIALS.values() if trial.final):
        trials = [t for t in TRIALS.values() if t.final and t.backbone == backbone]
        pairs = tuple(dict.fromkeys(pair for trial in trials for pair in trial.pairs))
        whole = dataclasses.replace(trials[0], pairs=pairs, columns=tuple(COLUMNS))
        found = result(args, whole)
        parts += [f"## `{backbone}`, on the test split", found or "Not run yet."]
    return "\n\n".join(parts)


def told(name: str, trial: Trial) -> str:
    """Return what a start is, in words and options."""
    start = STARTS[name]
    if start.weights:
        options = f"--learning-rate {start.rate} {start.finetuning}".strip()
        program = f"python benchmarks/{start.trainer}" if start.trainer else "finetune"
        return f"{start.weights}, then `{program} {options}`"
    if start.average:
        return "average of " + ", ".join(f"{n} (seed {s})" for n, s in start.average)
    if not start.options:
        return "random weights" if name == "random" else "ImageNet's weights"
    program = f"python benchmarks/{start.script}" if start.script else "pretrain"
    return f"{start.parent}, then `{program} {start.pretraining(trial.backbone)}`"


def possible(start: str, backbone: str) -> str | None:
    """Return why this version of the package cannot pretrain a start; None if it can."""
    entry = STARTS[start]
    try:
        words = ["--init", "random", "--backbone", backbone, *shlex.split(entry.finetuning)]
        if not entry.trainer:
            cli.parse("", words, FinetuneArguments, FinetuningArguments, prog="finetune")
        for name in {n for n, _ in entry.average}:
            if reason := possible(name, backbone):
                return reason
        if entry.options and not entry.script:
            words = shlex.split(f"--backbone {backbone} {entry.pretraining(backbone)}")
            words += [] if entry.parent == "random" else ["--init", "weights.safetensors"]
            cli.parse(
                "", words, PretrainArguments, TrainingArguments, prog="pretrain", recipes=RECIPES
            )
            return possible(entry.parent, backbone)
    except InputError as error:
        return str(error)
    return None


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", action="store_true", help="print every trial and its result")
    parser.add_argument("--run", nargs="+", default=[], choices=TRIALS, metavar="TRIAL")
    parser.add_argument("--final", action="store_true", help="every final trial, and its table")
    parser.add_argument("--quick", action="store_true", help="table and differences, in 20 minutes")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--threads", type=int, default=1, help="threads of each run")
    parser.add_argument("--commit", action="store_true", help="commit each record as it ends")
    parser.add_argument("--peta", default="../shared/data/peta", help="crops with person_id")
    parser.add_argument("--viper", default="../shared/data/viper", help="persons of two cameras")
    parser.add_argument("--lspet", default="../shared/data/lspet", help="people with joints")
    parser.add_argument("--har", default="../shared/data/har", help="people with actions")
    parser.add_argument("--weights", default="../shared/weights", help="ImageNet's weights")
    parser.add_argument("--work", default="runs/claim", help="folder for weights")
    parser.add_argument("--results", default="benchmarks/results/claim", help="folder for records")
    parser.add_argument("--size", default="128x64", help="height x width of crops")
    parser.add_argument("--labels", type=int, default=1600, help="labelled crops of a draw")
    parser.add_argument("--epochs", type=int, help="of finetuning; 10, and 4 with --quick")
    parser.add_argument("--steps", type=int, help="of every pretraining, for a trial run")
    parser.add_argument("--backbone", help="with --quick: another network")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the plan, or run trials; returns the exit code."""
    args = arguments(argv)
    names = [name for name in TRIALS if name in args.run or (args.final and TRIALS[name].final)]
    trials = {name: TRIALS[name] for name in names}
    if args.quick:
        backbone = args.backbone or QUICK.backbone
        trials["quick"] = Trial(QUICK.question, QUICK.prediction, QUICK.pairs, backbone)
    try:
        for name, trial in trials.items():
            quick = name == "quick"
            search_folder(args.peta, Path(args.work) / "search")
            bench = bench_of(args, trial, quick=quick)
            reasons = {start: possible(start, trial.backbone) for start in trial.starts}
            for start, reason in reasons.items():
                if reason is not None:
                    if not quick:
                        raise InputError(f"{start}: {reason}")
                    sys.stderr.write(f"{start}: left out: {reason}\n")
            starts = [start for start, reason in reasons.items() if reason is None]
            carry_out(bench, trial, starts, args.jobs)
            if not args.final:
                sys.stdout.write(f"{result(args, trial, quick=quick)}\n")
        if args.final:
            sys.stdout.write(f"{final_table(args)}\n")
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if args.plan:
        sys.stdout.write(plan(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
