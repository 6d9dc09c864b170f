"""The commands behind claim.py: weights, finetunings on draws of labels, retrievals."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from claim_jobs import AS_THEY_ARE, Bench, Job, same_for_every_seed
from claim_plan import COLUMNS, RANDOM, SQUARE, STARTS, USUAL, origin

from patchit_hf.common.layout import DONE_FILE

QUIET = "--eval-every 0 --save-every 0 --max-eval-crops 660 --no-figures --no-audit"


def jobs_of(
    bench: Bench,
    starts: Iterable[str],
    seeds: Sequence[int],
    draws: Sequence[int],
    columns: Sequence[str] = (USUAL,),
) -> list[Job]:
    """Return all runs of some starts: weights first, then finetunings and retrievals.

    Args:
        bench: how they are carried out.
        starts: names of ``claim_plan.STARTS``.
        seeds: each is that of a pretraining and of the finetunings that begin with it.
        draws: of labels, for each seed.
        columns: names of ``claim_plan.COLUMNS``.
    """
    made: dict[str, Job] = {}
    judged: list[Job] = []
    for start in starts:
        for seed in seeds:
            weights = _weights(bench, origin(start), seed, made)
            needs = [] if weights is None else [weights]
            for column in columns:
                for draw in draws[: COLUMNS[column].draws]:
                    judged.append(_finetune(bench, start, seed, draw, column, needs))
            if not STARTS[start].weights and (seed == seeds[0] or not same_for_every_seed(start)):
                judged.append(_retrieval(bench, start, seed, needs))
    return [*made.values(), *judged]


def _weights(bench: Bench, start: str, seed: int, made: dict[str, Job]) -> Job | None:
    """Return the run that makes a start's weights, after those that it begins with."""
    if start in AS_THEY_ARE:
        return None
    entry = STARTS[start]
    folder = bench.folder(start, seed)
    if entry.average:
        return _average(bench, start, folder, made)
    parent = _weights(bench, entry.parent, seed, made)
    options = entry.pretraining(bench.backbone)
    data, size = bench.data, bench.size
    if entry.data:
        data, size = bench.others[entry.data], SQUARE
    height = int(size.partition("x")[0])  # the plan's patches are those of 128x64
    options = options.replace("patch_size=20", f"patch_size={20 * height // 128}") + bench.exactly
    if bench.steps is not None:
        options += f" --max-steps {bench.steps}"
    # Random weights are what pretraining begins with, and need no word.
    init = [] if entry.parent == RANDOM else ["--init", bench.source(entry.parent, seed)[0]]
    program, quiet = "-m patchit_hf.pretrain", QUIET
    if entry.script:
        program, quiet = os.path.relpath(Path(__file__).with_name(entry.script)), ""
    words = shlex.split(
        f"{program} --backbone {bench.backbone} --canvas {size} {options} --seed {seed} {quiet}"
    )
    words += [*init, "--dataset", data, "--output-dir", str(folder)]
    asked = {
        "start": start, "backbone": bench.backbone, "seed": seed, "parent": entry.parent,
        "options": options, "size": size, "on": entry.data or bench.trained_on,
    }  # fmt: skip
    needs = [] if parent is None else [parent]
    name, done = f"pretrain-{folder.name}", folder / DONE_FILE
    job = Job(bench, "pretrain", name, asked, [words], {"": done}, folder, needs)
    return made.setdefault(folder.name, job)


def _average(bench: Bench, start: str, folder: Path, made: dict[str, Job]) -> Job:
    """Return the run that averages others."""
    found = [_weights(bench, name, number, made) for name, number in STARTS[start].average]
    needs = [job for job in found if job is not None]
    words = ["-m", "patchit_hf.average", *(str(job.output.parent) for job in needs)]
    words += ["--dataset", bench.data, "--input-size", bench.size, "--output", str(folder)]
    asked = {
        "start": start, "backbone": bench.backbone, "size": bench.size,
        "of": [list(pair) for pair in STARTS[start].average], "on": bench.trained_on,
    }  # fmt: skip
    name = f"average-{folder.name}"
    job = Job(bench, "average", name, asked, [words], {"": folder / DONE_FILE}, folder, needs)
    return made.setdefault(folder.name, job)


def _finetune(bench: Bench, start: str, seed: int, draw: int, column: str, needs: list[Job]) -> Job:
    what, entry = COLUMNS[column], STARTS[start]
    also = "" if column == USUAL else f"-{column}"
    name = f"{bench.name}-{bench.backbone}-{start}{also}-seed{seed}"
    folder = bench.work / "finetuned" / f"{name}-draw{draw}"
    data, size = bench.others.get(what.data, bench.data), what.size or bench.size
    labels = what.labels or bench.labels
    fraction = what.fraction or bench.fraction(labels)
    options = (
        f"--task {what.task} --input-size {size} --epochs {what.epochs or bench.epochs} "
        f"--optimizer muon --learning-rate {entry.rate}{bench.exactly} {entry.finetuning} "
        f"{what.options}"
    ).strip()
    part = f" --fraction {fraction!r} --subset-seed {draw}" if fraction < 1 else ""
    program = "-m patchit_hf.finetune"
    if entry.trainer:
        program = os.path.relpath(Path(__file__).with_name(entry.trainer))
    train = shlex.split(f"{program} {options}{part} --seed {seed} --eval-every 0 --save-every 0")
    train += ["--init", *bench.source(start, seed), "--dataset", data]
    asked = {
        "start": start, "backbone": bench.backbone, "seed": seed, "draw": draw,
        "labels": labels if what.fraction is None else f"{100 * what.fraction:g} %",
        "options": options, "judged_on": bench.split, "weights": [job.asked for job in needs],
    }  # fmt: skip
    if column != USUAL:
        asked["column"] = column
    commands, outputs = [[*train, "--output-dir", str(folder)]], {f"{column}_": folder / DONE_FILE}
    if bench.split != "validation":  # on which finetuning ends with an evaluation anyway
        judges = {f"{column}_": (data, bench.split)}
        if what.cameras and bench.cameras:
            judges[f"{column}_cameras_"] = (bench.cameras, "test")
        outputs = {begin: folder / f"judged-{begin}" / "metrics.json" for begin in judges}
        for begin, (where, split) in judges.items():
            words = ["-m", "patchit_hf.evaluate", str(folder), "--dataset", where, "--split", split]
            words += ["--bootstrap", "0", "--output-dir", str(outputs[begin].parent)]
            commands.append(words)
    name = f"finetune-{name}-draw{draw}"
    return Job(bench, "finetune", name, asked, commands, outputs, folder, needs)


def _retrieval(bench: Bench, start: str, seed: int, needs: list[Job]) -> Job:
    name = f"retrieval-{bench.trained_on}-{bench.backbone}-{start}-seed{seed}"
    output = bench.work / "retrieval" / f"{name}.json"
    script = os.path.relpath(Path(__file__).with_name("frozen_retrieval.py"))
    words = [script, *bench.source(start, seed)]
    words += ["--dataset", bench.data, "--split", bench.split, "--input-size", bench.size]
    words += ["--cameras", bench.cameras] if bench.cameras else []
    asked = {
        "start": start, "backbone": bench.backbone, "seed": seed, "size": bench.size,
        "judged_on": bench.split, "cameras": bench.cameras is not None,
        "weights": [job.asked for job in needs],
    }  # fmt: skip
    commands = [[*words, "--output", str(output)]]
    return Job(bench, "retrieval", name, asked, commands, {"": output}, None, needs)
