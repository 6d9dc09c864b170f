"""Contenders side by side: cells that are finetuned once, and the table made of them."""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from patchit_hf.console import say
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.errors import InputError
from patchit_hf.files import read_json
from patchit_hf.finetune import FinetuneArguments, open_finetuner
from patchit_hf.finetuned import FinetunedModel
from patchit_hf.finetuning_args import FinetuningArguments
from patchit_hf.labelled import open_labelled
from patchit_hf.predict import predict
from patchit_hf.runs import DONE_FILE

PREDICTIONS = "test.safetensors"
RANDOM = "random"


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        what: task, data and input; ``init`` and ``fraction`` are each cell's.
        args: the budget, the same for every contender.
        contenders: values of ``--init``, by the name that the table gives them.
        fractions: shares of the labels.
        seeds: seeds.
        learning_rates: the grid that each contender chooses from, on validation.
        select_at: the fraction at which it chooses.
        reference: the contender whose distance to random weights is the whole gap, if any.
        folder: where the cells lie.
        test: opens the test split.
        samples: bootstrap samples of the intervals.
    """

    what: FinetuneArguments
    args: FinetuningArguments
    contenders: dict[str, str]
    fractions: list[float]
    seeds: list[int]
    learning_rates: list[float]
    select_at: float
    reference: str | None
    folder: Path
    test: Callable[[], tuple[Any, str]]
    samples: int = 200


@dataclass(frozen=True)
class Cell:
    """One finetuning: a contender, a share of the labels, a learning rate, a seed."""

    contender: str
    fraction: float
    learning_rate: float
    seed: int

    def folder(self, plan: Plan) -> Path:
        """Return where it lies."""
        name = re.sub(r"[^\w.-]+", "-", self.contender).strip("-")
        where = f"fraction-{self.fraction:g}/lr-{self.learning_rate:g}/seed-{self.seed}"
        return plan.folder / name / where


def run_cell(plan: Plan, cell: Cell) -> dict[str, Any]:
    """Finetune a cell, unless that is done, and return its record."""
    folder = cell.folder(plan)
    if not (folder / DONE_FILE).exists():
        say(
            f"{cell.contender}: {cell.fraction:.4g} of the labels, "
            f"learning rate {cell.learning_rate:g}, seed {cell.seed}"
        )
    what = dataclasses.replace(
        plan.what,
        init=plan.contenders[cell.contender],
        fraction=None if cell.fraction == 1 else cell.fraction,
    )
    args = dataclasses.replace(
        plan.args, learning_rate=cell.learning_rate, seed=cell.seed, output_dir=str(folder)
    )
    opened = open_finetuner(what, args)
    if not isinstance(opened, Path):
        opened.train()
    return read_json(folder / DONE_FILE)


def choose_learning_rates(plan: Plan) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the learning rate that does best on validation for each contender, and all trials."""
    trials = []
    chosen = {}
    for contender in plan.contenders:
        if len(plan.learning_rates) == 1:
            chosen[contender] = plan.learning_rates[0]
            continue
        values = {}
        for rate in plan.learning_rates:
            record = run_cell(plan, Cell(contender, plan.select_at, rate, plan.seeds[0]))
            metric = record["downstream"]["primary_metric"]
            value = record["results"].get(f"eval_{metric}")
            if value is None:
                raise InputError("a learning rate is chosen on validation, and there is none")
            values[rate] = value
            trials.append({"contender": contender, "learning_rate": rate, "validation": value})
        chosen[contender] = max(values, key=lambda rate: values[rate])
    return chosen, trials


def at_the_edge(chosen: dict[str, float], grid: list[float]) -> list[str]:
    """Return the contenders that did best at an end of the grid, and might beyond it."""
    ends = (min(grid), max(grid)) if len(grid) > 1 else ()
    return [contender for contender, rate in chosen.items() if rate in ends]


def test_cell(plan: Plan, cell: Cell, opened: dict[str, Any]) -> tuple[DownstreamTask, Any]:
    """Return the task and the cell's predictions on the test split, made once and kept."""
    folder = cell.folder(plan)
    file = folder / PREDICTIONS
    model = FinetunedModel.from_pretrained(folder)
    if not file.exists():
        key = str(model.geometry)
        if key not in opened:
            split, name = plan.test()
            args = dataclasses.replace(plan.args, fit=model.fit)
            opened[key] = open_labelled(
                split, model.task, model.geometry.canvas, args, name=name, which="all"
            )
        predictions, targets = predict(model, opened[key], model.task, model.geometry)
        kept = model.task.scored(targets)
        tensors = {"predictions": predictions[kept], "targets": targets[kept]}
        draft = file.with_name(f".{file.name}.tmp")
        save_file({k: v.contiguous() for k, v in tensors.items()}, draft)
        draft.replace(file)
    return model.task, load_file(file)


def compare(plan: Plan) -> dict[str, Any]:
    """Finetune every cell that is missing, test each once, and return the results.

    Returns:
        JSON values: ``rows`` (contender, fraction, labels, figures of each seed, mean, deviation,
        difference to random weights with its interval, share of the gap), ``learning_rates``,
        ``at_the_edge`` (contenders for which the grid may be too narrow), ``trials`` and
        ``primary_metric``.
    """
    chosen, trials = choose_learning_rates(plan)
    opened: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    metric = ""
    for fraction in sorted(plan.fractions):
        tested: dict[str, list[Tested]] = {}
        for contender in plan.contenders:
            cells = [Cell(contender, fraction, chosen[contender], seed) for seed in plan.seeds]
            records = [run_cell(plan, cell) for cell in cells]
            metric = records[0]["downstream"]["primary_metric"]
            tested[contender] = [
                Tested(*test_cell(plan, cell, opened), cell.seed) for cell in cells
            ]
            row = _row(contender, fraction, records, tested[contender], metric)
            rows.append({**row, "learning_rate": chosen[contender]})
        _against_random(rows, tested, fraction, metric, plan)
    return {
        "primary_metric": metric,
        "rows": rows,
        "learning_rates": chosen,
        "trials": trials,
        "at_the_edge": at_the_edge(chosen, plan.learning_rates),
        "selected_at": plan.select_at,
        "reference": plan.reference,
    }


class Tested:
    """One seed's predictions on the test split, and what a bootstrap draws from.

    Args:
        task: the task.
        tensors: ``predictions`` and ``targets``.
        seed: the seed.
    """

    def __init__(self, task: DownstreamTask, tensors: dict[str, Tensor], seed: int) -> None:
        predictions, targets = tensors["predictions"], tensors["targets"]
        self.seed = seed
        self.figures = task.measure(predictions, targets).summary
        self.statistic, self.count = task.resampled(predictions, targets)


def _row(
    contender: str, fraction: float, records: list[Any], tested: list[Tested], metric: str
) -> dict[str, Any]:
    values = [t.figures[metric] for t in tested]
    names = [n for n in tested[0].figures if all(n in t.figures for t in tested)]
    return {
        "contender": contender,
        "fraction": fraction,
        "labels": records[0]["data"]["train_crops"],
        "seeds": [t.seed for t in tested],
        "values": values,
        "mean": statistics.mean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "figures": {n: statistics.mean(t.figures[n] for t in tested) for n in names},
        "seconds": [record["training"]["seconds"] for record in records],
    }


def _against_random(
    rows: list[dict[str, Any]],
    tested: dict[str, list[Tested]],
    fraction: float,
    metric: str,
    plan: Plan,
) -> None:
    if RANDOM not in tested:
        return
    mine = {row["contender"]: row for row in rows if row["fraction"] == fraction}
    floor = mine[RANDOM]["mean"]
    for contender, row in mine.items():
        if contender == RANDOM:
            continue
        row["difference"] = row["mean"] - floor
        if plan.samples:
            row["interval"] = difference_interval(
                tested[contender], tested[RANDOM], metric, plan.samples
            )
        if plan.reference in mine and contender != plan.reference:
            gap = mine[plan.reference]["mean"] - floor
            row["gap_closed"] = row["difference"] / gap if gap > 0 else None


def difference_interval(
    first: list[Tested], second: list[Tested], metric: str, samples: int, seed: int = 0
) -> list[float]:
    """Return the 95 % interval of the difference of two contenders' means.

    Test rows and seeds are drawn again with replacement, the rows alike for both contenders.

    Args:
        first: seeds of the one.
        second: seeds of the other, on the same rows.
        metric: the figure.
        samples: how often to draw.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    count, found = min(t.count for t in (*first, *second)), []
    for _ in range(samples):
        rows = torch.randint(count, (count,), generator=generator)
        means = [_drawn(side, rows, metric, generator) for side in (first, second)]
        known = [value for value in means if value is not None]
        if len(known) == 2:
            found.append(known[0] - known[1])
    tails = torch.tensor(found, dtype=torch.float64).quantile(
        torch.tensor([0.025, 0.975], dtype=torch.float64)
    )
    return [float(v) for v in tails]


def _drawn(
    side: list[Tested], rows: Tensor, metric: str, generator: torch.Generator
) -> float | None:
    """Return the mean of a figure over seeds drawn again, on rows drawn again."""
    drawn = torch.randint(len(side), (len(side),), generator=generator).tolist()
    once = {i: side[i].statistic(rows).get(metric) for i in set(drawn)}
    values = [value for value in (once[i] for i in drawn) if value is not None]
    return statistics.mean(values) if values else None
