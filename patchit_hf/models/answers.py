"""A patch task's questions about one crop, and the network's answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
