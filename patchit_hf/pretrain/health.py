"""Health of a run, without a label: does it learn, and does it learn more than a constant?"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from patchit_hf.metrics.pretext import place_metrics, rank_me, spread
from patchit_hf.patch_tasks.base import PatchTask

FEATURES = 2048  # pictures whose features the rank is computed from
COLLAPSED_RANK = 1.5
COLLAPSED_SPREAD = 1e-3
PATIENT_SHARE = 0.2  # of the run, before which being at chance is no alarm


class Answers:
    """What the network answered in an evaluation, and the features it answered from.

    Args:
        task: the task.
        device: where to count.
    """

    def __init__(self, task: PatchTask, device: torch.device) -> None:
        self.task = task
        self.confusion = torch.zeros(
            task.num_classes, task.num_classes, dtype=torch.int64, device=device
        )
        self.features: list[Tensor] = []
        self.kept = 0

    def add(self, output: Any, targets: Tensor) -> None:
        """Count the answers of a batch."""
        truth, answers = self.task.truth(targets), self.task.answers(output)
        count = self.task.num_classes
        pairs = (truth * count + answers).bincount(minlength=count * count)
        self.confusion += pairs.view(count, count)

    def keep(self, features: Tensor) -> None:
        """Keep the pooled features ``[B, C, H, W]`` of a batch until there are enough."""
        if self.kept < FEATURES:
            self.features.append(features.detach().float().mean((2, 3))[: FEATURES - self.kept])
            self.kept += len(self.features[-1])

    def result(self, accelerator: Accelerator) -> dict[str, Any]:
        """Return the health figures; the counts are those of all processes.

        Returns:
            ``error_distance``: mean distance between the answered and the true place, in sides of
            the smallest cell, right answers included; ``row_accuracy`` and ``column_accuracy``:
            share of right answers by the true cell's row and column (these three only where classes
            are places); ``feature_rank``, see ``rank_me``; ``feature_spread``: deviation of the
            features over pictures, relative to their size. Features are the main process's.
        """
        self.confusion = accelerator.reduce(self.confusion, reduction="sum")
        values: dict[str, Any] = {}
        boxes = self.task.boxes
        if boxes is not None:
            values |= place_metrics(self.confusion.cpu(), boxes)
        features = torch.cat(self.features)
        values["feature_rank"] = round(rank_me(features), 2)
        values["feature_spread"] = round(spread(features), 6)
        return values


def alarm(entry: dict[str, Any], chance: float, crops: int, share_done: float) -> str | None:
    """Return a line about a run that goes wrong, None if it is in order.

    Args:
        entry: an evaluation.
        chance: accuracy of guessing.
        crops: held-out crops asked.
        share_done: share of the run that is done, 0..1.
    """
    rank, spread_ = (entry.get(f"eval_feature_{name}", math.inf) for name in ("rank", "spread"))
    if not rank > COLLAPSED_RANK or not spread_ > COLLAPSED_SPREAD:
        return (
            f"WARNING collapse: the features of all patches are nearly the same (rank {rank:.1f}, "
            f"spread {spread_:.1g}); try a lower --learning-rate or another --optimizer"
        )
    accuracy = entry.get("eval_accuracy")
    if accuracy is None or share_done < PATIENT_SHARE:
        return None
    error = (chance * (1 - chance) / max(crops, 1)) ** 0.5
    if accuracy < chance + 3 * error:
        return (
            f"WARNING chance: after {share_done:.0%} of the run the held-out accuracy is "
            f"{accuracy:.1%}, no better than guessing ({chance:.1%}); look at figures/patches.png, "
            "and try another --learning-rate"
        )
    return None


@dataclass
class EarlyStopping:
    """Says when to stop: too long without a better held-out accuracy, or collapsed.

    A function of the run's evaluations, so that a resumed run and every process decide alike.

    Attributes:
        patience: evaluations without improvement; 0 for never.
        threshold: what counts as an improvement of the accuracy.
    """

    patience: int
    threshold: float = 0.0

    def reason(self, entries: list[dict[str, Any]]) -> str | None:
        """Return why to stop now, None to go on."""
        if self.patience == 0 or not entries:
            return None
        best, waited = float("-inf"), 0
        for entry in entries:
            accuracy = entry.get("eval_accuracy", float("-inf"))
            if accuracy > best + self.threshold:
                best, waited = accuracy, 0
            else:
                waited += 1
        if waited >= self.patience:
            return f"no better held-out accuracy than {best:.1%} in {waited} evaluations"
        return None


@dataclass
class Clock:
    """Where the time of a run goes, in seconds of this process.

    Attributes:
        training: in steps, waiting included.
        waiting: for crops to be read, moved and cut.
        steps: seconds of each step since the start, the newest ones.
    """

    training: float = 0.0
    waiting: float = 0.0
    samples: int = 0
    steps: list[float] = field(default_factory=list)

    def step(self, seconds: float, samples: int) -> None:
        """Count a step."""
        self.training += seconds
        self.samples += samples
        self.steps = [*self.steps[-63:], seconds]

    def result(self) -> dict[str, float]:
        """Return throughput and the share of the time that went into data, and start again."""
        values = {}
        if self.samples:
            values = {
                "samples_per_second": round(self.samples / max(self.training, 1e-9), 1),
                "data_share": round(self.waiting / max(self.training, 1e-9), 4),
            }
        self.training, self.waiting, self.samples = 0.0, 0.0, 0
        return values
