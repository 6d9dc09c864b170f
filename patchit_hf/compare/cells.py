"""Contenders side by side: cells that are finetuned once, and the table made from them."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from patchit_hf.common.console import say
from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json, replacing
from patchit_hf.common.layout import DONE_FILE
from patchit_hf.compare.plan import Plan
from patchit_hf.compare.rows import Tested, add_differences, row_of
from patchit_hf.data.source import load_crops
from patchit_hf.downstream import task_class
from patchit_hf.downstream.augment import Geometry
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.finetune.arguments import FinetuneArguments
from patchit_hf.finetune.build import build_trainer, open_start_of
from patchit_hf.finetune.labelled import Labelled, open_labelled
from patchit_hf.finetune.predict import predict
from patchit_hf.metrics.names import short_name
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.training.accelerator import device

PREDICTIONS = "test.safetensors"


@dataclass(frozen=True)
class Cell:
    """One finetuning run: a contender, a fraction of the labels, a learning rate, a seed."""

    contender: str
    fraction: float
    learning_rate: float
    seed: int

    def folder(self, plan: Plan) -> Path:
        """Return the cell's folder."""
        name = re.sub(r"[^\w.-]+", "-", self.contender).strip("-")
        where = f"fraction-{self.fraction:g}/lr-{self.learning_rate:g}/seed-{self.seed}"
        return plan.folder / name / where

    def finished(self, plan: Plan) -> bool:
        """Return whether the cell has results."""
        return (self.folder(plan) / DONE_FILE).exists()

    def size(self, plan: Plan) -> tuple[int, int]:
        """Return height and width of the inputs of a finished cell, in pixels."""
        height, width = read_json(self.folder(plan) / DONE_FILE)["downstream"]["size"]
        return height, width

    def asked_size(self, plan: Plan) -> str | None:
        """Return the input size that a finished cell was asked for, as ``--input-size`` has it."""
        size: str | None = read_json(self.folder(plan) / DONE_FILE)["config"].get("input_size")
        return size

    def what(self, plan: Plan) -> FinetuneArguments:
        """Return the arguments that say what is finetuned."""
        init = plan.contenders[self.contender]
        size = plan.what.input_size or plan.sizes.get(self.contender)
        what = dataclasses.replace(plan.what, init=init, input_size=size)
        if self.fraction == 1:
            return dataclasses.replace(what, subset_seed=None)
        return dataclasses.replace(what, fraction=self.fraction)


def open_ahead(plan: Plan) -> tuple[Plan, dict[str, Labelled]]:
    """Open the initial weights that are not trained yet, and the test split as they will see it.

    Missing or damaged data is thus reported before hours of training, not after.

    Returns:
        The plan with one input size for all contenders, and the test crops by geometry.

    Raises:
        InputError: for missing weights, columns or images, for exports of several input sizes, or
            if learning rates are to be chosen and there is no validation split.
    """
    first = [
        Cell(contender, plan.select_at, plan.learning_rates[0], plan.seeds[0])
        for contender in plan.contenders
    ]
    fresh = [cell for cell in first if not cell.finished(plan)]
    opened: dict[str, Labelled] = {}
    known = {cell.contender: cell.asked_size(plan) for cell in first if cell not in fresh}
    plan = dataclasses.replace(plan, sizes={name: size for name, size in known.items() if size})
    if not fresh:
        return plan, opened
    crops = load_crops(
        plan.what.dataset,
        split=plan.what.split,
        image_column=plan.args.image_column,
        allow_urls=plan.args.allow_urls,
        people_in_names=task_class(plan.what.task).people_in_names,
    )
    if crops.held_out is None and len(plan.learning_rates) > 1:
        raise InputError(
            f"{crops.name}: --learning-rates are chosen on validation, but no crops are held out"
        )
    starts = {
        cell.contender: open_start_of(cell.what(plan), crops.train, cell.seed) for cell in fresh
    }
    sizes = {
        cell.contender: starts[cell.contender][1].input_size if cell in fresh else cell.size(plan)
        for cell in first
    }
    size = one_size(sizes) if plan.what.input_size is None else None
    if size is not None and None in sizes.values():
        height, width = size
        say(f"inputs of {height}x{width} for all, which exports among them were made for")
        others = {name: f"{height}x{width}" for name, own in sizes.items() if own is None}
        plan = dataclasses.replace(plan, sizes={**plan.sizes, **others})
    for task, _, geometry in starts.values():
        geometry = geometry if size is None else Geometry.of(size)
        test_crops(plan, task, geometry, plan.args.fit, opened)
    return plan, opened


def one_size(sizes: dict[str, tuple[int, int] | None]) -> tuple[int, int] | None:
    """Return the input size that contenders bring; None if none brings one.

    Args:
        sizes: height and width in pixels that each was made for, or was finetuned with already.

    Raises:
        InputError: if they bring several: more pixels would be an advantage.

    Example:
        >>> one_size({"random": None, "mine": (128, 64)})
        (128, 64)
    """
    brought = {name: size for name, size in sizes.items() if size is not None}
    if len({*brought.values()}) > 1:
        told = ", ".join(f"{name} {height}x{width}" for name, (height, width) in brought.items())
        raise InputError(
            f"--init: made for inputs of several sizes ({told}); give --input-size, the same for "
            "all"
        )
    return next(iter(brought.values()), None)


def run_cell(plan: Plan, cell: Cell) -> dict[str, Any]:
    """Finetune a cell unless that is done, and return its record."""
    folder = cell.folder(plan)
    if not cell.finished(plan):
        say(
            f"{cell.contender}: {cell.fraction:.4g} of the labels, "
            f"learning rate {cell.learning_rate:g}, seed {cell.seed}"
        )
    args = dataclasses.replace(
        plan.args, learning_rate=cell.learning_rate, seed=cell.seed, output_dir=str(folder)
    )
    opened = build_trainer(cell.what(plan), args)
    if not isinstance(opened, Path):
        opened.train()
    return read_json(folder / DONE_FILE)


def choose_learning_rates(plan: Plan) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return each contender's best learning rate on validation, and all trials."""
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
                raise InputError(
                    f"--learning-rates: they are chosen by {short_name(metric)} on validation, "
                    "but it cannot be computed there"
                )
            values[rate] = value
            trials.append({"contender": contender, "learning_rate": rate, "validation": value})
        chosen[contender] = max(values, key=lambda rate: values[rate])
    return chosen, trials


def at_the_edge(chosen: dict[str, float], grid: list[float]) -> list[str]:
    """Return the contenders whose best rate is at an end of the grid, so perhaps beyond it."""
    ends = (min(grid), max(grid)) if len(grid) > 1 else ()
    return [contender for contender, rate in chosen.items() if rate in ends]


def test_crops(
    plan: Plan, task: DownstreamTask, geometry: Geometry, fit: str, opened: dict[str, Labelled]
) -> Labelled:
    """Return the test split for a geometry, from ``opened`` if it is there."""
    key = str(geometry)
    if key not in opened:
        split, name = plan.test()
        args = dataclasses.replace(plan.args, fit=fit)
        opened[key] = open_labelled(split, task, geometry.canvas, args, name=name, which="all")
    return opened[key]


def test_cell(
    plan: Plan, cell: Cell, opened: dict[str, Labelled]
) -> tuple[DownstreamTask, dict[str, Tensor]]:
    """Return the task and the cell's predictions on the test split, computed once and kept."""
    folder = cell.folder(plan)
    file = folder / PREDICTIONS
    model = FinetunedModel.from_pretrained(folder)
    if not file.exists():
        model.to(device())
        crops = test_crops(plan, model.task, model.geometry, model.fit, opened)
        predictions, targets = predict(model, crops, model.task, model.geometry)
        kept = model.task.scored(targets)
        tensors = {"predictions": predictions[kept], "targets": targets[kept]}
        with replacing(file) as draft:
            save_file({k: v.contiguous() for k, v in tensors.items()}, draft)
    return model.task, load_file(file)


def run_plan(plan: Plan) -> dict[str, Any]:
    """Finetune every missing cell, test each once, and return the results.

    Returns:
        JSON values: ``rows`` (contender, fraction, labels, metrics of each seed, mean, deviation,
            difference to ``against`` with its interval, share of the gap, hardware),
            ``initial_weights`` (fingerprints, None for random ones), ``input_size``,
            ``learning_rates``, ``at_the_edge`` (contenders for which the grid may be too narrow),
            ``trials`` and ``primary_metric``.
    """
    plan, opened = open_ahead(plan)
    chosen, trials = choose_learning_rates(plan)
    rows: list[dict[str, Any]] = []
    weights: dict[str, str | None] = {}
    metric, size = "", [0, 0]
    for fraction in sorted(plan.fractions):
        tested: dict[str, list[Tested]] = {}
        found: dict[str, dict[str, Any]] = {}
        for contender in plan.contenders:
            cells = [Cell(contender, fraction, chosen[contender], seed) for seed in plan.seeds]
            records = [run_cell(plan, cell) for cell in cells]
            metric = records[0]["downstream"]["primary_metric"]
            size = records[0]["downstream"]["size"]
            weights[contender] = (records[0].get("initial_weights") or {}).get("fingerprint")
            tested[contender] = [
                Tested(*test_cell(plan, cell, opened), cell.seed) for cell in cells
            ]
            row = row_of(contender, fraction, records, tested[contender], metric)
            found[contender] = {**row, "learning_rate": chosen[contender]}
        add_differences(found, tested, metric, plan.against, plan.reference, plan.samples)
        rows += found.values()
    return {
        "primary_metric": metric,
        "rows": rows,
        "initial_weights": weights,
        "input_size": size,
        "learning_rates": chosen,
        "trials": trials,
        "at_the_edge": at_the_edge(chosen, plan.learning_rates),
        "selected_at": plan.select_at,
        "reference": plan.reference,
        "against": plan.against,
    }
