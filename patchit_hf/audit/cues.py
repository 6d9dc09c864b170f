"""What the audit's classifiers see of a patch: its colours, its edges or its border.

Patches are the network's inputs, after the task's transform.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from patchit_hf.common.draws import EVAL_SEED, Draws
from patchit_hf.patch_tasks.base import PatchTask

SIDE = 32  # maximum side of the images, in pixels
BINS = 16
QUESTIONS = 4000  # number of training questions, and of held-out ones
USES = 16  # maximum uses of a training crop
GROUPS = 100  # groups of held-out crops, the unit of standard errors


def mean_colour(x: Tensor) -> Tensor:
    """Return the mean of each channel: ``[M, 3, H, W]`` to ``[M, 3]``.

    Example:
        >>> mean_colour(torch.full((1, 3, 8, 8), 0.5))
        tensor([[0.5000, 0.5000, 0.5000]])
    """
    return x.mean((2, 3))


def colour_histogram(x: Tensor) -> Tensor:
    """Return the fraction of pixels in each of 16 bins from -2.5 to 2.5: ``[M, 3 * 16]``."""
    bins = ((x + 2.5) * (BINS / 5)).floor().clamp(0, BINS - 1).long().flatten(2)
    counts = torch.zeros(len(x), 3, BINS, device=x.device)
    counts.scatter_add_(2, bins, torch.ones_like(bins, dtype=counts.dtype))
    return counts.flatten(1) / bins.shape[2]


def edge_energy(x: Tensor) -> Tensor:
    """Return the logarithm of the mean absolute difference of neighbours: ``[M, 3 * 2 * 4]``.

    Horizontally and vertically, at three scales, in each quarter of the image.
    """
    grey, energies = x.mean(1, keepdim=True), []
    for scale in (1, 2, 4):
        y = F.avg_pool2d(grey, scale)
        for across in (y.diff(dim=3), y.diff(dim=2)):
            energies.append(F.adaptive_avg_pool2d(across.abs(), 2).flatten(1))
    return torch.cat(energies, 1).add(0.01).log()


def border_pixels(x: Tensor) -> Tensor:
    """Return four colours along each side, and how much each side varies: ``[M, 5 * 4 * 3]``."""
    strips = _strips(x)
    colours = [F.adaptive_avg_pool1d(strip, 4).flatten(1) for strip in strips]
    return torch.cat(colours + [strip.std(2) for strip in strips], 1)


CUES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean_colour": mean_colour,
    "colour_histogram": colour_histogram,
    "edge_energy": edge_energy,
    "border_pixels": border_pixels,
}


def cues(patches: Tensor) -> dict[str, Tensor]:
    """Return what each classifier sees of questions ``[N, K, 3, H, W]``: ``[N, F]`` each.

    If a question has several patches, the classifiers see the features of all of them. The border
    pixels then also tell how well each patch's right side continues in another one's left side, and
    its lower side in another one's upper side.
    """
    count, several = patches.shape[:2]
    x = patches.flatten(0, 1).float()
    size = [min(max(side, 8), SIDE) for side in x.shape[2:]]
    if list(x.shape[2:]) != size:
        x = F.interpolate(x, size=size, mode="area")
    seen = {name: look(x).view(count, -1) for name, look in CUES.items()}
    if several > 1:
        top, bottom, left, right = (s.unflatten(0, (count, several)) for s in _strips(x))
        seams = [
            (ends[:, :, None] - starts[:, None]).abs().mean((3, 4))
            for ends, starts in ((right, left), (bottom, top))
        ]
        seen["border_pixels"] = torch.cat(
            [seen["border_pixels"], *(seam.flatten(1) for seam in seams)], 1
        )
    # The remainder of a mean that the transform removed is rounding error, not a feature.
    return {name: feature.round(decimals=4) for name, feature in seen.items()}


def _strips(x: Tensor) -> list[Tensor]:
    """Return the outermost sixteenth of each side, ``[M, 3, length]``: top, bottom, left, right."""
    high, wide = max(1, x.shape[2] // 16), max(1, x.shape[3] // 16)
    return [
        x[:, :, :high].mean(2),
        x[:, :, -high:].mean(2),
        x[..., :wide].mean(3),
        x[..., -wide:].mean(3),
    ]


class Questions(NamedTuple):
    """What each classifier sees of N questions.

    Attributes:
        seen: features by classifier, ``[N, F]``.
        truth: right answers, int64 ``[N]``.
        starts: index of the first question of each group of crops.
    """

    seen: dict[str, NDArray[Any]]
    truth: NDArray[Any]
    starts: list[int]


def training_questions(task: PatchTask, crops: Tensor, seed: int) -> Questions:
    """Cut training samples, with random options, until there are enough questions.

    Args:
        task: the task.
        crops: uint8 ``[N, 3, H, W]``; each is used at most 16 times.
        seed: seed of order and cuts.
    """
    rows = torch.randperm(len(crops), generator=torch.Generator().manual_seed(seed))
    parts: list[tuple[dict[str, Tensor], Tensor]] = []
    count, wanted = 0, 1
    for turn in range(USES):
        for part in rows.split(128):
            if count < wanted:
                numbers = part + turn * len(crops)
                batch = task.sample(crops[part], Draws(seed, numbers, crops.device))
                patches = task.examples(batch)
                parts.append((cues(patches), task.truth(batch.targets)))
                count, wanted = count + len(patches), _enough(patches)
    return _joined(parts)


def held_out_questions(task: PatchTask, crops: Tensor, seed: int) -> Questions:
    """Ask the evaluation's questions about a few crops at a time, and keep an equal share of each.

    Args:
        task: the task.
        crops: uint8 ``[N, 3, H, W]``.
        seed: seed of the choice.
    """
    chance = torch.Generator().manual_seed(seed)
    groups = torch.arange(len(crops)).split(math.ceil(len(crops) / GROUPS))
    parts: list[tuple[dict[str, Tensor], Tensor]] = []
    for rows in groups:
        batch = task.sample_all(crops[rows], Draws(EVAL_SEED, rows, crops.device))
        patches, truth = task.examples(batch), task.truth(batch.targets)
        share = math.ceil(_enough(patches) / len(groups))
        kept = torch.randperm(len(truth), generator=chance)[:share].to(crops.device)
        parts.append((cues(patches[kept]), truth[kept]))
    return _joined(parts)


def _enough(patches: Tensor) -> int:
    """Return how many questions to ask: fewer if each has many patches."""
    return min(QUESTIONS, 4 * QUESTIONS // patches.shape[1])


def _joined(parts: list[tuple[dict[str, Tensor], Tensor]]) -> Questions:
    seen = {name: torch.cat([part[name] for part, _ in parts]).cpu().numpy() for name in CUES}
    starts = [0]
    for _, truth in parts[:-1]:
        starts.append(starts[-1] + len(truth))
    return Questions(seen, torch.cat([truth for _, truth in parts]).cpu().numpy(), starts)
