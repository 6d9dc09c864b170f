"""A patch task's questions about one crop, and the network's answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from patchit_hf.common.draws import EVAL_SEED, Draws
from patchit_hf.common.errors import InputError
from patchit_hf.data.images import ImageInput, Images
from patchit_hf.patch_tasks.base import PatchTask

ROUNDS_AT_ONCE = 4  # of questions about a crop, whose patches are one batch


@dataclass(frozen=True)
class PatchAnswers:
    """What the network says about the patches of one crop; all of it on the CPU.

    Attributes:
        crop: as the training sees it, uint8 ``[3, H, W]`` on the canvas.
        patches: the patches of the first round, ``[q, S, S, 3]`` in [0, 1]; of questions about
            several patches, the first.
        truth: the right answers, int64 ``[rounds, q]``.
        answered: the network's answers, int64 ``[rounds, q]``.
        boxes: the box on the canvas that each class names, xyxy in pixels, int64 ``[C, 4]``; None
            if classes do not name boxes.
        num_classes: number of classes.
        chance: accuracy of guessing.
    """

    crop: Tensor
    patches: Tensor
    truth: Tensor
    answered: Tensor
    boxes: Tensor | None
    num_classes: int
    chance: float

    @property
    def accuracy(self) -> float:
        """Share of right answers over all rounds."""
        return float((self.truth == self.answered).float().mean())

    @property
    def confusion(self) -> Tensor:
        """Counts int64 ``[C, C]``: rows are the right classes, columns the answered ones."""
        counts = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)
        places = (self.truth.flatten(), self.answered.flatten())
        return counts.index_put_(places, torch.tensor(1), accumulate=True)


def ask(model: Any, task: PatchTask, image: ImageInput, rounds: int) -> PatchAnswers:
    """Ask a task's questions about one image; see ``PatchTaskModel.ask``.

    Args:
        model: the ``PatchTaskModel`` that answers; its mode is left as it was.
        task: the task.
        image: one image.
        rounds: how often it is cut into patches.

    Raises:
        InputError: for an image that cannot be used, several of them, or no round.
    """
    images = Images(image)
    if not images.single:
        raise InputError(f"image: {len(images)} images; ask about one at a time")
    if rounds < 1:
        raise InputError(f"rounds {rounds!r}: must be a whole number of at least 1")
    (crop,) = next(images.batches(task.canvas, model.fit, 1))
    device, training = next(model.parameters()).device, model.training
    patches: list[Tensor] = []
    truth, answered = [], []
    model.eval()
    with torch.inference_mode():
        for numbers in torch.arange(rounds).split(ROUNDS_AT_ONCE):
            crops = crop.to(device).expand(len(numbers), -1, -1, -1)
            batch = task.sample_all(crops, Draws(EVAL_SEED, numbers, device))
            answered.append(task.answers(model(batch.inputs)).view(len(numbers), -1).cpu())
            truth.append(task.truth(batch.targets).view(len(numbers), -1).cpu())
            if not patches:
                first = task.examples(batch)[: truth[0].shape[1], 0]
                patches.append(task.transform.colours(first))
    model.train(training)
    return PatchAnswers(
        crop,
        patches[0],
        torch.cat(truth),
        torch.cat(answered),
        None if task.boxes is None else task.boxes.cpu(),
        task.num_classes,
        task.chance,
    )
