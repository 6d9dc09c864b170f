"""The audit: questions, classifiers, a verdict, and an option that closes the shortcut."""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from patchit_hf.audit.compared import found_by_cues
from patchit_hf.audit.cues import held_out_questions, training_questions
from patchit_hf.audit.measure import Score, measure
from patchit_hf.audit.remedies import flag, options, with_option
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks.base import PatchTask

logger = logging.getLogger(__name__)

TRAIN_CROPS, HELD_OUT_CROPS = 2000, 300
SHARE = 0.8  # a classifier that knows this share of what the network knows is a shortcut
KAPPA = 0.75  # from here on a classifier can tell whether a patch is of certain classes
CLEARLY = 0.1  # an option closes a shortcut if the rule is then missed by this much
HINTS = dict.fromkeys(
    ("mean_colour", "colour_histogram"), " or remove the colour (--task-kwargs standardize=true)"
)


@dataclass(frozen=True)
class Audit:
    """The scores of the classifiers, compared with the network and chance.

    Attributes:
        chance: accuracy of guessing.
        network: held-out accuracy of the network, None if there is no network yet.
        baselines: held-out accuracy by classifier.
        train_questions: number of questions that the classifiers were trained on.
        held_out_questions: number of questions that they were tested on.
        shortcut: the classifier that comes too close, or None.
        classes: the classes that it tells apart, if only some are given away.
        finding: what the classifier knows, as text.
        remedy: what closes the shortcut, as text.
        compared: what each classifier's cue reaches where the task compares all held-out crops,
            by metric and cue.
    """

    chance: float
    network: float | None
    baselines: dict[str, float]
    train_questions: int
    held_out_questions: int
    shortcut: str | None = None
    classes: tuple[int, ...] = ()
    finding: str = ""
    remedy: str = ""
    compared: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record for a run's JSON, with accuracies to four digits."""
        record = dataclasses.asdict(self) | {"classes": list(self.classes)}
        record["baselines"] = {name: round(value, 4) for name, value in self.baselines.items()}
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in record.items()}

    def lines(self) -> list[str]:
        """Return a table for the terminal: chance, each classifier, the network."""
        rows = {"chance": self.chance, **self.baselines}
        if self.network is not None:
            rows["network"] = self.network
        return [
            f"held-out accuracy of {self.held_out_questions} answers",
            *(f"  {name:<18}{value:7.1%}" for name, value in rows.items()),
            *(
                line
                for metric, values in self.compared.items()
                for line in (
                    f"{metric.replace('_', ' ')} among all held-out crops",
                    *(f"  {name:<18}{value:7.1%}" for name, value in values.items()),
                )
            ),
        ]

    def warning(self) -> str | None:
        """Return the warning about a shortcut, or None."""
        if self.shortcut is None:
            return None
        return f"WARNING shortcut: {self.shortcut} {self.finding}; {self.remedy}"


def report(audit: Audit) -> None:
    """Log the warning, if there is one."""
    line = audit.warning()
    if line is not None:
        logger.warning("%s", line)


def audit(
    task: PatchTask,
    train_crops: Tensor,
    held_out_crops: Tensor,
    *,
    network_accuracy: float | None = None,
    seed: int = 0,
) -> Audit:
    """Train the classifiers on training crops, test them on held-out ones, and judge.

    They see what the network sees: patches after the task's transform, in training with its random
    options. ``Rule`` defines what counts as a shortcut. If there is one, options are tried on the
    same crops until one closes it.

    Args:
        task: the patch task, with the mean and deviation of the data set.
        train_crops: uint8 ``[N, 3, H, W]``; 2,000 evenly spaced ones are used.
        held_out_crops: uint8 ``[M, 3, H, W]`` of other people; 300 evenly spaced ones are used.
        network_accuracy: held-out accuracy of the trained network, 0..1.
        seed: seed of the questions and the classifiers.

    Raises:
        InputError: for crops of another type or size, or an accuracy out of range.
    """
    if network_accuracy is not None and not 0 <= network_accuracy <= 1:
        raise InputError(f"network_accuracy={network_accuracy!r}: must be from 0 to 1")
    train_crops = _chosen("train_crops", train_crops, task.canvas, TRAIN_CROPS)
    every = held_out_crops
    held_out_crops = _chosen("held_out_crops", held_out_crops, task.canvas, HELD_OUT_CROPS)
    train = training_questions(task, train_crops, seed)
    asked = held_out_questions(task, held_out_crops, seed)
    scores = measure(train, asked, task.num_classes, seed)
    result = Audit(
        task.chance,
        network_accuracy,
        {name: score.accuracy for name, score in scores.items()},
        len(train.truth),
        len(asked.truth),
        compared=found_by_cues(task, every),
    )
    rule = Rule(task.chance, network_accuracy)
    if task.beside or rule.strength(scores) <= 0:  # places that nothing learns from are no way in
        return result
    name, classes, finding = rule.finding(task, scores)
    if rule.own_strength(scores) > 0:
        remedy = _remedy(task, rule, scores, train_crops, held_out_crops, seed)
    else:  # the network simply knows no more than that
        remedy = "train longer (--epochs)" + HINTS.get(name, "")
    return dataclasses.replace(
        result, shortcut=name, classes=classes, finding=finding, remedy=remedy
    )


def _chosen(name: str, crops: Tensor, canvas: tuple[int, int], most: int) -> Tensor:
    """Return at most ``most`` evenly spaced crops."""
    shape = tuple(crops.shape)
    if crops.dtype != torch.uint8 or len(shape) != 4 or shape[1:] != (3, *canvas) or not shape[0]:
        raise InputError(
            f"{name}: {crops.dtype} {list(shape)}; must be torch.uint8 [N, 3, {canvas[0]}, "
            f"{canvas[1]}] with at least one crop"
        )
    count = min(len(crops), most)
    return crops[torch.arange(count) * len(crops) // count]


@dataclass(frozen=True)
class Rule:
    """What counts as a shortcut: two rules, with standard errors over groups of crops (jackknife).

    *The whole task.* What a classifier knows beyond chance comes within two standard errors of 80 %
    of what the network knows beyond chance (or, without a network, of a perfect score), and it is
    no accident (three standard errors).

    *Some classes.* A classifier tells certain classes apart from the rest: Cohen's kappa, less two
    standard errors, is at least 0.75. The groups tried are the single classes and the clusters of
    classes that the classifier mistakes for each other: the cell with the time stamp, the padded
    column, the sides of the frame. A network that knows more hides these in its accuracy, so this
    rule does not depend on the network.

    Attributes:
        chance: accuracy of guessing.
        network: accuracy of the network, None if there is none.
    """

    chance: float
    network: float | None

    def strength(self, scores: dict[str, Score]) -> float:
        """Return by how much the better fulfilled rule is exceeded; at most 0 if neither is met."""
        return max(self.whole(scores)[1], self.part(scores)[1])

    def own_strength(self, scores: dict[str, Score]) -> float:
        """Return the same without considering the network."""
        return Rule(self.chance, None).strength(scores)

    def whole(self, scores: dict[str, Score]) -> tuple[str, float]:
        """Return the best classifier and by how much it meets the rule for the whole task."""
        name = max(scores, key=lambda key: scores[key].accuracy)
        accuracy, error = scores[name].accuracy, scores[name].error
        if accuracy - 3 * error <= self.chance:
            return name, -1.0
        known = 1 - self.chance
        if self.network is not None:
            known = max(self.network - self.chance, 0.01)
            accuracy += 2 * math.sqrt(2) * error  # the network's error is assumed to be the same
        return name, (accuracy - self.chance) / known - SHARE

    def part(self, scores: dict[str, Score]) -> tuple[str, float]:
        """Return the classifier with the largest kappa, and by how much it meets the rule."""
        name = max(scores, key=lambda key: scores[key].kappa)
        return name, scores[name].kappa - KAPPA

    def finding(
        self, task: PatchTask, scores: dict[str, Score]
    ) -> tuple[str, tuple[int, ...], str]:
        """Return the classifier, the classes if only some matter, and what it knows as text."""
        name, excess = self.whole(scores)
        if excess <= 0:
            name, _ = self.part(scores)
            classes = tuple(scores[name].group)
            return name, classes, f"alone tells {_place(task, classes)} from the others"
        words = f"alone is right in {scores[name].accuracy:.1%} of held-out questions"
        if self.network is not None:
            words += f", the network in {self.network:.1%}"
        return name, (), f"{words} (chance {self.chance:.1%})"


def _remedy(
    task: PatchTask,
    rule: Rule,
    scores: dict[str, Score],
    train_crops: Tensor,
    held_out_crops: Tensor,
    seed: int,
) -> str:
    """Try options until one closes the shortcut."""
    place = rule.part(scores)[1] > 0 >= Rule(rule.chance, None).whole(scores)[1]
    several = not place or len(scores[rule.part(scores)[0]].group) > 1
    others = {key: score for key, score in scores.items() if key != "edge_energy"}
    # A time stamp in one cell consists of edges too, but blur does not hide it.
    sharpness = several and rule.own_strength(others) <= 0
    best, least = "", rule.own_strength(scores) - CLEARLY
    for key, value in options(task, place=place, sharpness=sharpness):
        try:
            left = with_option(task, key, value, train_crops, held_out_crops, seed)
        except InputError:  # cells that far apart do not fit
            continue
        strength = rule.own_strength(left)
        if strength <= -CLEARLY:
            return f"{flag(key, value)} closes it"
        if strength < least:
            best, least = flag(key, value), strength
    if best:
        return f"{best} weakens it most; cut off what is the same in all crops"
    return "no option closes it: cut off what is the same in all crops"


def _place(task: PatchTask, group: tuple[int, ...]) -> str:
    words = ", ".join(map(str, group[:12])) + (", ..." if len(group) > 12 else "")
    words = f"class {words}" if len(group) == 1 else f"classes {words}"
    if task.boxes is None:
        return words
    boxes = task.boxes[torch.tensor(group)]
    left, top = boxes[:, :2].min(0).values.tolist()
    right, bottom = boxes[:, 2:].max(0).values.tolist()
    return f"{words} (x {left}-{right}, y {top}-{bottom} of the canvas)"
