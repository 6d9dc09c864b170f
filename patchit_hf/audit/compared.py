"""How far colours or edges alone get where a task compares all held-out crops with each other."""

from __future__ import annotations

import torch
from torch import Tensor

from patchit_hf.audit.cues import CUES, cues
from patchit_hf.common.draws import EVAL_SEED, Draws
from patchit_hf.patch_tasks.base import PatchTask


def found_by_cues(task: PatchTask, crops: Tensor) -> dict[str, dict[str, float]]:
    """Return the task's metrics over all crops, with a cue in place of the network's embeddings.

    Args:
        task: the patch task, with the mean and deviation of the data set.
        crops: uint8 ``[N, 3, H, W]``, all held-out crops, as an evaluation compares them.

    Returns:
        Values by metric and cue; empty for a task that does not compare crops.

    Example:
        >>> from patchit_hf import create_task
        >>> red_green_blue = 200 * torch.eye(3, dtype=torch.uint8)[:, :, None, None]
        >>> crops = red_green_blue.repeat(1, 1, 50, 25)
        >>> task = create_task("octaves", (50, 25), part_cells=[2, 2])
        >>> found_by_cues(task, crops)["retrieval_accuracy"]["mean_colour"]
        1.0
    """
    seen: dict[str, list[Tensor]] = {name: [] for name in CUES}
    targets = []
    for rows in torch.arange(len(crops)).split(32):
        batch = task.sample_all(crops[rows], Draws(EVAL_SEED, rows, crops.device))
        images = task.compared(batch)
        if images is None:
            return {}
        targets.append(batch.targets)
        for name, feature in cues(images.flatten(0, 1)[:, None]).items():
            seen[name].append(feature.unflatten(0, images.shape[:2]))
    found: dict[str, dict[str, float]] = {}
    for name, parts in seen.items():
        features = torch.cat(parts)
        std, mean = torch.std_mean(features, dim=(0, 1), correction=0)
        collected = task.collected(
            {"embedding": (features - mean) / (std + 1e-4)}, torch.cat(targets)
        )
        if collected is not None:
            for metric, value in task.over_all(collected).items():
                found.setdefault(metric, {})[name] = value
    return found
