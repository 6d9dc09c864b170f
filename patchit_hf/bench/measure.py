"""A trainer that is stopped again and again, so that all else is measured between its steps."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from patchit_hf.bench.bare import Turn, now
from patchit_hf.bench.changes import Change, bare_of, changes
from patchit_hf.bench.report import Report
from patchit_hf.common.draws import Draws, crop_rows
from patchit_hf.common.other_programs import used_by_others
from patchit_hf.common.progress import Progress
from patchit_hf.common.provenance import hardware, versions
from patchit_hf.data.choices import parse_canvas
from patchit_hf.data.lazy import LazyCrops, load_row
from patchit_hf.data.source import Crops, load_crops
from patchit_hf.data.training_set import Source, num_crops
from patchit_hf.models.build import build_model
from patchit_hf.patch_tasks import create_task
from patchit_hf.patch_tasks.base import task_name
from patchit_hf.pretrain.arguments import PretrainArguments, TrainingArguments
from patchit_hf.pretrain.batches import crop_batches
from patchit_hf.pretrain.evaluator import inputs_per_crop
from patchit_hf.pretrain.trainer import PatchTaskTrainer
from patchit_hf.training.arguments import in_steps
from patchit_hf.training.monitor import Monitor

Work = Callable[[float], Turn]
SHORT = 0.3  # of a turn's seconds, for what has no backward pass
OFF: dict[str, Any] = {  # what a run does beside training
    "eval_steps": 0, "save_steps": 0, "probe_column": None, "audit": False, "figures": False,
    "head_first": 0.0,
}  # fmt: skip


class EnoughError(Exception):
    """Ends the training that is measured."""


class Turns:
    """A callback: after some seconds of training, everything else has its turn.

    Args:
        work: what else is measured, by name.
        seconds: of each turn.
        rounds: that count; the first one is a warm-up and does not.
        progress: is told of each turn.

    Attributes:
        taken: turns of each, by name, and those of the ``trainer``.
        waited: seconds in which the trainer waited for inputs, in each of its turns.
        others: cores that other programs used.
    """

    def __init__(
        self, work: dict[str, Work], seconds: float, rounds: int, progress: Progress
    ) -> None:
        self.work, self.seconds, self.rounds, self.progress = work, seconds, rounds, progress
        self.taken: dict[str, list[Turn]] = {name: [] for name in ("trainer", *work)}
        self.waited: list[float] = []
        self.others = 0.0
        self._steps, self._began, self._asked, self._used = 0, 0.0, 0.0, used_by_others()
        self._first = time.perf_counter()

    def on_step(self, trainer: PatchTaskTrainer, step: int) -> None:
        """Count a step; at the end of the trainer's turn, give all else theirs."""
        device, clock = trainer.accelerator.device, cast(Monitor, trainer.monitor).clock
        trainer.watch = None  # of the gradients: a run does so in its first steps only
        self._steps += 1
        if time.perf_counter() - self._began < self.seconds and self._steps > 1:
            return
        ended = now(device)
        if self._began:
            items = self._steps * trainer.share.batch * trainer.task.inputs_per_sample
            self.taken["trainer"].append(Turn(items, ended - self._began))
            self.waited.append(clock.waiting - self._asked)
            self.progress.update()
            for name, work in self.work.items():
                self.taken[name].append(work(self.seconds))
                self.progress.update()
        if len(self.waited) > self.rounds:
            spent = time.perf_counter() - self._first
            self.others = (used_by_others() - self._used) / spent
            raise EnoughError
        self._steps, self._began, self._asked = 0, now(device), clock.waiting


def bench(
    what: PretrainArguments, args: TrainingArguments, seconds: float = 2.0, rounds: int = 3
) -> Report:
    """Measure what limits a planned run.

    Args:
        what: network, data and task.
        args: of the planned run.
        seconds: of each turn.
        rounds: in which everything has a turn.

    Raises:
        InputError: for bad input.
    """
    with tempfile.TemporaryDirectory() as folder:
        with Progress("preparing"):
            trainer, planned = _trainer(what, args, folder)
        with contextlib.ExitStack() as loaders:
            work, found = _work(trainer, loaders)
            total = (rounds + 1) * (len(work) + 1)
            with Progress("measuring", total, "turns") as progress:
                turns = Turns(work, seconds, rounds, progress)
                trainer.callbacks.given = (turns,)
                try:
                    trainer.train()
                except EnoughError:
                    pass
        return _report(trainer, planned, turns, found)


def _trainer(
    what: PretrainArguments, args: TrainingArguments, folder: str
) -> tuple[PatchTaskTrainer, int]:
    """Return a trainer that goes on until it is stopped, and the steps of the planned run."""
    task = create_task(what.task, parse_canvas(what.canvas), **what.task_kwargs)
    model = build_model(what.named_backbone, task, args.seed, what.backbone_kwargs, init=what.init)
    crops: Crops = load_crops(
        what.dataset,
        split=what.split,
        image_column=args.image_column,
        streaming=what.streaming,
        allow_urls=args.allow_urls,
    )
    args = dataclasses.replace(args, output_dir=f"{folder}/run", **OFF)
    trainer = PatchTaskTrainer(
        model, args, task, crops.train, crops.held_out, data_info={"name": crops.name}
    )
    trainer.reporter.shown = False
    planned, trainer.max_steps = trainer.max_steps, 10**9
    trainer.args = dataclasses.replace(trainer.args, keep_initial=0.0, logging_steps=10**9)
    return trainer, planned


def _work(
    trainer: PatchTaskTrainer, loaders: contextlib.ExitStack
) -> tuple[dict[str, Work], list[Change]]:
    """Return what is measured beside the trainer, by name, and the changes among it."""
    device, seed = trainer.accelerator.device, trainer.args.seed
    batches = _batches(trainer, trainer.data.source, loaders)
    crops = next(batches)
    size, numbers = num_crops(trainer.data.source), torch.arange(len(crops))
    rows = crop_rows(seed, numbers, size) if size else None
    draws = Draws(seed, numbers, device, 0.0, rows)
    batch = trainer.task.sample(crops, draws)
    inputs = len(batch.inputs.flatten(0, -4))
    found = changes(trainer, batch, crops, draws)
    work: dict[str, Work] = {
        "bare loop": bare_of(trainer, batch).turn,
        "cutting": _repeated(lambda: trainer.task.sample(crops, draws), inputs, device),
        "loader": _repeated(lambda: next(batches), len(crops), device),
    }
    if (decode := _decoder(trainer)) is not None:
        work["decoder"] = _repeated(decode, 1, device)
    if isinstance(trainer.data.source, LazyCrops):
        work[MORE_WORKERS] = _repeated(_more_workers(trainer, loaders), len(crops), device)
    return {**work, **{change.what: change.loop.turn for change in found}}, found


MORE_WORKERS = "loader with twice the workers"


def _batches(
    trainer: PatchTaskTrainer, source: Source, loaders: contextlib.ExitStack
) -> Iterator[Tensor]:
    """Return batches of crops, whose worker processes end with ``loaders``."""
    device = trainer.accelerator.device
    batches = crop_batches(source, trainer.share, trainer.args.seed, 0, device)
    loaders.callback(cast(Any, batches).close)
    return batches


def _more_workers(trainer: PatchTaskTrainer, loaders: contextlib.ExitStack) -> Callable[[], Tensor]:
    lazy: Any = trainer.data.source
    more = LazyCrops(
        lazy.rows, lazy.canvas, lazy.fit, 2 * max(1, lazy.workers), lazy.fingerprint, lazy.bad,
        lazy.index,
    )  # fmt: skip
    batches = _batches(trainer, more, loaders)
    return lambda: next(batches)


def _decoder(trainer: PatchTaskTrainer) -> Callable[[], object] | None:
    """Return a function that decodes one image after the other; None for a stream."""
    images, args = getattr(trainer.data.source, "rows", None), trainer.args
    if images is None or not len(images):
        return None
    numbers = iter(range(10**9))
    return lambda: load_row(
        images, next(numbers) % len(images), trainer.task.canvas, args.fit, "data set"
    )


def _repeated(work: Callable[[], object], items: int, device: torch.device) -> Work:
    def turn(seconds: float) -> Turn:
        done, began = 0, now(device)
        while (taken := time.perf_counter() - began) < SHORT * seconds or not done:
            work()
            done += items
        return Turn(done, now(device) - began if device.type == "cuda" else taken)

    return turn


def _report(trainer: PatchTaskTrainer, planned: int, turns: Turns, found: list[Change]) -> Report:
    args, accelerator, share = trainer.args, trainer.accelerator, trainer.share
    asked, every = len(trainer.data.held_out or ()), in_steps(0.2, planned)
    return Report(
        backbone=trainer.model.spec.name,
        task=task_name(trainer.task),
        data=str(trainer.data_info["name"]),
        hardware=hardware(accelerator),
        precision=str(accelerator.mixed_precision),
        optim=args.optim,
        inputs=share.batch * trainer.task.inputs_per_sample,
        crops=share.batch,
        turns={name: taken[1:] for name, taken in turns.taken.items()},  # without the warm-up
        waited=turns.waited[1:],
        others=turns.others,
        changes={change.what: change.trains_otherwise for change in found},
        steps=planned,
        asked=asked * inputs_per_crop(trainer.task) * (1 + planned // every) if asked else 0,
        threads=torch.get_num_threads() if accelerator.device.type == "cpu" else None,
        versions=versions(),
    )
