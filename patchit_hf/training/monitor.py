"""What a run tells while it trains: progress, history, warnings, and whether to stop."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from accelerate import Accelerator

from patchit_hf.common.layout import CHECKPOINTS, METRICS_FILE
from patchit_hf.common.other_programs import OtherPrograms, advice
from patchit_hf.common.progress import Progress, duration
from patchit_hf.training.arguments import LoopArguments
from patchit_hf.training.checkpoint import checkpoints
from patchit_hf.training.clock import Clock
from patchit_hf.training.loop import Means
from patchit_hf.training.run_folder import History

T = TypeVar("T")
TIMED_STEPS = 5  # after which a run says how long it will take; the first is slower
LONG = 20.0  # seconds, below which it need not say so


class Reporter:
    """What a kind of training says of itself; pretraining and finetuning override what differs.

    Attributes:
        title: what the progress bar is called.
        unit: what it counts.
        inputs: how many of these a sample is.
        metric: the key of the evaluations that decides which weights are the best; higher is
            better.
        metric_name: what a line calls this metric.
        shown: whether the main process shows its progress.
    """

    title = "training"
    unit = "crops"
    inputs = 1
    metric = "eval_accuracy"
    metric_name = "held-out accuracy"
    shown = True

    def postfix(self, values: dict[str, float]) -> str:
        """Return what stands behind the progress bar, from the means of the last steps."""
        return f"loss {values['loss']:.3f}"

    def line(self, entry: dict[str, Any]) -> str | None:
        """Return the line about an evaluation; None for none."""
        return None

    def warning(self, entry: dict[str, Any], share_done: float) -> str | None:
        """Return a line about a run that goes wrong; None if it does not.

        Args:
            entry: an evaluation.
            share_done: share of the run that is done, in [0, 1].
        """
        return None


class Monitor:
    """Follows a run from a step on.

    Args:
        accelerator: the accelerator.
        args: how the run is trained.
        folder: the run's folder.
        reporter: what is said.
        max_steps: steps of the whole run.
        batch: samples of a step.
        start: steps done before.
        seconds: seconds spent before.
        means: sums of the training's means since the last evaluation, of an earlier start.
        asked: why an earlier start was asked to end; None if it was not.
        lr_at: learning rate of a step.

    Attributes:
        done: steps done.
        asked: why the run was asked to end before its end; None if it was not.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        args: LoopArguments,
        folder: Path,
        reporter: Reporter,
        *,
        max_steps: int,
        batch: int,
        start: int,
        seconds: float,
        means: dict[str, Any] | None,
        asked: str | None,
        lr_at: Callable[[int], float],
    ) -> None:
        self.accelerator, self.args, self.reporter = accelerator, args, reporter
        self.max_steps, self.batch, self.lr_at = max_steps, batch, lr_at
        main = accelerator.is_main_process
        self.history = History(folder / METRICS_FILE, main, start)
        self.inputs = batch * reporter.inputs
        self.progress = Progress(
            reporter.title,
            max_steps * self.inputs,
            reporter.unit,
            done=start * self.inputs,
            shown=main and reporter.shown,
        )
        self.clock, self.others = Clock(), OtherPrograms()
        self.stopping = EarlyStopping(
            args.early_stopping_patience,
            args.early_stopping_threshold,
            reporter.metric,
            reporter.metric_name,
        )
        self.done, self.asked = start, asked
        self._waited = self.stopping.reason(self.history.entries)
        self.warned: set[str] = set()
        self.since_log, self.since_record = Means(), Means.restored(means, accelerator)
        self.checkpoints = folder / CHECKPOINTS
        self.before, self.started = seconds, time.perf_counter()
        self.step_started, self.estimated = self.started, False

    @property
    def stopped(self) -> str | None:
        """Why the run stopped before its end; None if it did not."""
        return self.asked or self._waited

    @property
    def step_seconds(self) -> list[float]:
        """Seconds of each of the newest steps."""
        return self.clock.steps

    @property
    def seconds(self) -> float:
        """Seconds of the run so far, those before a resume included."""
        return self.before + time.perf_counter() - self.started

    @property
    def recorded(self) -> bool:
        """Whether the newest evaluation is that of the newest step."""
        return bool(self.history.last.get("step") == self.done)

    @property
    def improved(self) -> bool:
        """Whether the newest evaluation is better than all before it."""
        values = [e.get(self.reporter.metric, -math.inf) for e in self.history.entries]
        return bool(values) and values[-1] > max(values[:-1], default=-math.inf)

    @property
    def best(self) -> dict[str, Any]:
        """The best evaluation, empty before the first."""
        key = self.reporter.metric
        return max(self.history.entries, key=lambda e: e.get(key, -math.inf), default={})

    def timed(self, parts: Iterator[T]) -> Iterator[T]:
        """Pass parts on, and count the time until each is there as waiting."""
        while True:
            asked = time.perf_counter()
            part = next(parts)
            self.clock.waiting += time.perf_counter() - asked
            yield part

    def begin_step(self) -> None:
        """Note that a step's time starts here."""
        self.step_started = time.perf_counter()

    def end_step(self, done: int, means: Means, *, show: bool) -> None:
        """Count a step.

        Args:
            done: steps done with it.
            means: its loss and metrics.
            show: whether to bring the values to the screen, which waits for the device.

        Raises:
            FloatingPointError: if the loss is not finite, seen when the values are shown.
        """
        self.progress.update((done - self.done) * self.inputs)
        self.done = done
        self.since_log.merge(means)
        self.since_record.merge(means)
        if show:
            values = self.since_log.result(self.accelerator)
            if not math.isfinite(values["loss"]):
                raise self.diverged(f"the loss is {values['loss']}")
            self.progress.update(0, self.reporter.postfix(values))
        self.clock.step(time.perf_counter() - self.step_started, self.batch)
        if len(self.clock.steps) == TIMED_STEPS and not self.estimated:
            self.estimated = True
            self._estimate()

    def _estimate(self) -> None:
        """Say how long the training will take, if that is long."""
        step = statistics.median(self.clock.steps[1:])
        left = step * (self.max_steps - self.done)
        if left >= LONG:
            self.progress.say(
                f"about {duration(left)} for {self.max_steps - self.done:,} steps more "
                f"({step:.2f} s a step), evaluations not counted"
            )
            if line := self._beside():
                self.progress.say(line)

    def _beside(self) -> str | None:
        """Return what other programs mean for a run of one process on a CPU."""
        if self.accelerator.device.type != "cpu" or self.accelerator.num_processes > 1:
            return None
        return advice(self.others.cores(), psutil.cpu_count() or 1, torch.get_num_threads())

    def diverged(self, what: str) -> FloatingPointError:
        """Return the error of a run whose numbers are not finite any more.

        Args:
            what: which numbers, as a clause.
        """
        remedy = f"try a lower --learning-rate than {self.args.learning_rate:g}"
        if self.accelerator.mixed_precision == "fp16":
            remedy += ", or --mixed-precision bf16"
        kept = checkpoints(self.checkpoints)
        state = "there is no checkpoint yet"
        if kept:
            state = (
                f"the last checkpoint is {kept[0]}, from which the same command goes on; with a "
                "lower rate, add --change learning_rate"
            )
        return FloatingPointError(f"{what} after step {self.done}: {remedy}; {state}")

    def record(self, evaluated: dict[str, Any]) -> None:
        """Write an evaluation down, say what it shows, and decide whether to go on.

        Args:
            evaluated: its values, with ``eval_`` or the like before each name.

        Raises:
            FloatingPointError: if its loss or its features are not finite.
        """
        for name in ("eval_loss", "eval_feature_rank"):
            if not math.isfinite(evaluated.get(name, 0.0)):
                raise self.diverged(f"{name} is {evaluated[name]}")
        trained = self.since_record.result(self.accelerator)
        entry: dict[str, Any] = {
            "step": self.done,
            "samples": self.done * self.batch,
            "learning_rate": self.lr_at(self.done - 1),
            **{f"train_{name}": value for name, value in trained.items()},
            **evaluated,
            **self.clock.result(),
            "seconds": round(self.seconds, 1),
        }
        self.history.add(entry)
        line = self.reporter.line(entry)
        if line:
            self.progress.say(line)
        line = self.reporter.warning(entry, self.done / self.max_steps)
        if line and line.split(":")[0] not in self.warned:
            self.warned.add(line.split(":")[0])
            self.progress.say(line)
        self._waited = self.stopping.reason(self.history.entries)
        numbers = {
            name: value
            for name, value in entry.items()
            if name not in ("step", "samples") and isinstance(value, int | float)
        }
        self.accelerator.log(numbers, step=self.done)

    def close(self) -> None:
        """Leave the progress bar as it is."""
        self.progress.close()


@dataclass
class EarlyStopping:
    """Says when to stop: after too many evaluations without a better one.

    A function of the run's evaluations, so that a resumed run and every process decide alike.

    Attributes:
        patience: evaluations without improvement; 0 for never.
        threshold: by how much a better evaluation has to be better.
        metric: the key that is compared; evaluations without it do not count.
        name: what the reason calls it.

    Example:
        >>> stopping = EarlyStopping(patience=2)
        >>> stopping.reason([{"eval_accuracy": 0.5}, {"eval_accuracy": 0.4}])
        >>> stopping.reason([{"eval_accuracy": value} for value in (0.5, 0.4, 0.3)])
        'no better held-out accuracy than 50.0% in 2 evaluations'
    """

    patience: int
    threshold: float = 0.0
    metric: str = Reporter.metric
    name: str = Reporter.metric_name

    def reason(self, entries: list[dict[str, Any]]) -> str | None:
        """Return why to stop now, None to go on."""
        best, waited = -math.inf, 0
        for entry in entries:
            if self.metric not in entry:
                continue
            if entry[self.metric] > best + self.threshold:
                best, waited = entry[self.metric], 0
            else:
                waited += 1
        if self.patience == 0 or waited < self.patience:
            return None
        return f"no better {self.name} than {best:.1%} in {waited} evaluations"
