"""Health of a run, without a label: does it learn, and does it learn more than a constant?"""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from patchit_hf.metrics.pretext import place_metrics, rank_me, spread
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.training.monitor import Reporter

FEATURES = 2048  # inputs whose features the rank is computed from
COLLAPSED_RANK = 1.5
COLLAPSED_SPREAD = 1e-3
PATIENT_SHARE = 0.2  # of the run, before which being at chance is no alarm


class Answers:
    """The predictions of an evaluation, and the features that they were made from.

    Args:
        task: the patch task.
        device: where predictions are counted.
    """

    def __init__(self, task: PatchTask, device: torch.device) -> None:
        self.task = task
        self.confusion = torch.zeros(
            task.num_classes, task.num_classes, dtype=torch.int64, device=device
        )
        self.features: list[Tensor] = []
        self.collected: list[Tensor] = []
        self.kept = 0

    def add(self, output: Any, targets: Tensor) -> None:
        """Count the predictions of a batch, and collect what the task compares over all crops."""
        truth, answers = self.task.truth(targets), self.task.answers(output)
        count = self.task.num_classes
        pairs = (truth * count + answers).bincount(minlength=count * count)
        self.confusion += pairs.view(count, count)
        collected = self.task.collected(output, targets)
        if collected is not None:
            self.collected.append(collected.detach().cpu())

    def keep(self, features: Tensor) -> None:
        """Keep the pooled features ``[B, C, H, W]`` of a batch until there are enough."""
        if self.kept < FEATURES:
            self.features.append(features.detach().float().mean((2, 3))[: FEATURES - self.kept])
            self.kept += len(self.features[-1])

    def result(self, accelerator: Accelerator) -> dict[str, Any]:
        """Return the health metrics; predictions are those of all processes.

        Returns:
            ``error_distance``: mean distance between the predicted and the true cell, in sides of
            the smallest cell, correct predictions included; ``row_accuracy`` and
            ``column_accuracy``: accuracy by the true cell's row and column (these three only where
            classes are cells); ``feature_rank``, see ``rank_me``; ``feature_spread``: standard
            deviation of the features over inputs, relative to their size. Features are those of
            the main process.
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


def warning(
    entry: dict[str, Any],
    chance: float,
    crops: int,
    share_done: float,
    metric: str = "eval_accuracy",
    name: str = "held-out accuracy",
) -> str | None:
    """Return a line about a run that goes wrong, None if it does not.

    Args:
        entry: an evaluation.
        chance: accuracy of guessing.
        crops: held-out crops asked.
        share_done: share of the run that is done, 0..1.
        metric: key of the accuracy.
        name: what the line calls it.
    """
    rank, spread_ = (entry.get(f"eval_feature_{name}", math.inf) for name in ("rank", "spread"))
    if not rank > COLLAPSED_RANK or not spread_ > COLLAPSED_SPREAD:
        return (
            f"WARNING collapse: the features of all patches are nearly the same (rank {rank:.1f}, "
            f"spread {spread_:.1g}); try a lower --learning-rate or another --optimizer"
        )
    accuracy = entry.get(metric)
    if accuracy is None or share_done < PATIENT_SHARE:
        return None
    error = (chance * (1 - chance) / max(crops, 1)) ** 0.5
    if accuracy < chance + 3 * error:
        return (
            f"WARNING chance: after {share_done:.0%} of the run the {name} is {accuracy:.1%}, no "
            f"better than guessing ({chance:.1%}); look at figures/patches.png, and try another "
            "--learning-rate"
        )
    return None


class PretrainReporter(Reporter):
    """What pretraining says of itself: accuracy against chance, and the health of the features.

    Where the places are asked beside the training, the accuracy is how often a part finds its own
    person.

    Args:
        task: the patch task.
        held_out: number of held-out crops.
    """

    unit = "patches"

    def __init__(self, task: PatchTask, held_out: int) -> None:
        self.chance, self.inputs, self.held_out = task.chance, task.inputs_per_sample, held_out
        self.beside = task.beside
        if self.beside:
            self.metric, self.metric_name = "eval_retrieval_accuracy", "share of own persons found"

    def postfix(self, values: dict[str, float]) -> str:
        """Return the accuracy of the last steps beside chance."""
        if self.beside and "identity_accuracy" in values:
            return f"own crop named {values['identity_accuracy']:.1%}"
        if self.beside or "accuracy" not in values:
            return super().postfix(values)
        return f"accuracy {values['accuracy']:.1%} (chance {self.chance:.1%})"

    def line(self, entry: dict[str, Any]) -> str | None:
        """Return the line about an evaluation."""
        if "eval_accuracy" not in entry:
            return None
        found = ""
        if "eval_retrieval_accuracy" in entry:
            found = f"own person found {entry['eval_retrieval_accuracy']:.1%}"
        if self.beside:
            line = (
                f"step {entry['step']}: {found} (chance {1 / max(self.held_out, 1):.1%}), loss "
                f"{entry['eval_loss']:.3f}, places {entry['eval_accuracy']:.1%} (not learnt from)"
            )
        else:
            line = (
                f"step {entry['step']}: held-out accuracy {entry['eval_accuracy']:.1%} "
                f"({entry['eval_accuracy'] / self.chance:.1f} x chance), "
                f"loss {entry['eval_loss']:.3f}"
            )
            if "eval_error_distance" in entry:
                line += f", error {entry['eval_error_distance']:.2f} cells"
        if "eval_feature_rank" in entry:
            line += f", feature rank {entry['eval_feature_rank']:.0f}"
        if found and not self.beside:
            line += f", {found}"
        if "data_share" in entry:
            line += f", {entry['data_share']:.0%} of the time waiting for data"
        if "probe_knn" in entry:
            line += f"; probe: kNN {entry['probe_knn']:.1%}, linear {entry['probe_linear']:.1%}"
        return line

    def warning(self, entry: dict[str, Any], share_done: float) -> str | None:
        """Return a line about features that collapse or an accuracy no better than chance."""
        chance = 1 / max(self.held_out, 1) if self.beside else self.chance
        return warning(entry, chance, self.held_out, share_done, self.metric, self.metric_name)
