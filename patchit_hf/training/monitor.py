"""What a run tells while it trains: progress, history, alarms, and whether to stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator

from patchit_hf.common.layout import METRICS_FILE
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.pretrain.health import Clock, EarlyStopping, alarm
from patchit_hf.progress import Progress
from patchit_hf.training.loop import Means
from patchit_hf.training.run_folder import History

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Monitor:
    """Follows a run from a step on.

    Args:
        accelerator: the accelerator.
        args: how it is trained.
        task: what by.
        folder: the run's folder.
        max_steps: steps of the whole run.
        batch: samples a step.
        start: steps done before.
        seconds: seconds spent before.
        lr_at: learning rate of a step.
        held_out: number of held-out crops.

    Attributes:
        done: steps done.
        stopped: why the run stopped before its end, None if it did not.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        args: TrainingArguments,
        task: PatchTask,
        folder: Path,
        *,
        max_steps: int,
        batch: int,
        start: int,
        seconds: float,
        lr_at: Callable[[int], float],
        held_out: int,
    ) -> None:
        self.accelerator, self.args, self.task, self.lr_at = accelerator, args, task, lr_at
        self.max_steps, self.batch, self.held_out = max_steps, batch, held_out
        main = accelerator.is_main_process
        self.history = History(folder / METRICS_FILE, main, start)
        self.progress = Progress(
            max_steps, start, batch, task.chance, task.inputs_per_sample, shown=main
        )
        self.clock = Clock()
        self.stopping = EarlyStopping(args.early_stopping_patience, args.early_stopping_threshold)
        self.done, self.stopped = start, self.stopping.reason(self.history.entries)
        self.alarms: set[str] = set()
        self.since_log, self.since_evaluation = Means(), Means()
        self.before, self.started = seconds, time.perf_counter()
        self.step_started = self.started

    @property
    def step_seconds(self) -> list[float]:
        """Seconds of each of the newest steps."""
        return self.clock.steps

    @property
    def seconds(self) -> float:
        """Seconds of the run so far, those before a resume included."""
        return self.before + time.perf_counter() - self.started

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

    def end_step(self, done: int, means: Means, *, look: bool) -> None:
        """Count a step.

        Args:
            done: steps done with it.
            means: its metrics.
            look: whether to bring the figures to the screen, which waits for the device.

        Raises:
            FloatingPointError: if the loss is not finite, seen when the figures are looked at.
        """
        self.done = done
        self.since_log.merge(means)
        self.since_evaluation.merge(means)
        if look:
            values = self.since_log.result()
            if not math.isfinite(values["loss"]):
                raise FloatingPointError(
                    f"the loss is {values['loss']} after step {done}: try a lower --learning-rate "
                    f"than {self.args.learning_rate}; checkpoints in {self.args.output_dir} are "
                    "kept"
                )
            self.progress.update(done, values)
        self.clock.step(time.perf_counter() - self.step_started, self.batch)

    def record(self, evaluated: dict[str, Any]) -> None:
        """Write an evaluation down, say what it shows, and decide whether to go on."""
        trained = self.since_evaluation.result(self.accelerator)
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
        self.progress.evaluated(entry)
        line = alarm(entry, self.task.chance, self.held_out, self.done / self.max_steps)
        if line and line.split(":")[0] not in self.alarms:
            self.alarms.add(line.split(":")[0])
            self.progress.say(line)
        self.stopped = self.stopping.reason(self.history.entries)
        numbers = {
            name: value
            for name, value in entry.items()
            if name not in ("step", "samples") and isinstance(value, int | float)
        }
        self.accelerator.log(numbers, step=self.done)

    def results(self) -> dict[str, Any]:
        """Return what was measured last."""
        keys = (
            "eval_accuracy", "eval_loss", "eval_error_distance", "eval_feature_rank",
            "probe_knn", "probe_linear", "train_accuracy", "train_loss",
        )  # fmt: skip
        last = self.history.last
        measured = {key: last[key] for key in keys if key in last}
        return {**measured, "chance": self.task.chance, "steps": last.get("step", 0)}
