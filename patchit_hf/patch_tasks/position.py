"""Position: which cell of the crop was this patch cut from?

Source: Sudowe & Leibe, "PatchIt", BMVC 2016. A sample is one patch::

    PT-18, canvas 200x100        PT-8, canvas 200x100
    +------------------+         +------------------+
    |  0  |  1  |  2   |         |                  |
    |  3  |  4  |  5   |         |    0   |   1     |
    |  6  |  7  |  8   |         |    2   |   3     |
    |  9  | 10  | 11   |         |    4   |   5     |
    | 12  | 13  | 14   |         |    6   |   7     |
    | 15  | 16  | 17   |         |                  |
    +------------------+         +------------------+

Inputs ``[B, 3, S, S]``, targets ``[B]`` in [0, rows * cols), class = row * cols + col. Left and
right are different classes, so nothing is ever mirrored.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks.base import GridTask, PatchBatch, accuracy
from patchit_hf.patch_tasks.heads import mlp_head

PRESETS: dict[str, dict[str, int]] = {
    "pt18": {"rows": 6, "cols": 3},
    "pt8": {"rows": 4, "cols": 2},
}


class Task(GridTask):
    """Name the cell that a patch was cut from.

    Args:
        canvas: height and width of the crops, in pixels.
        head_hidden: width of the head's hidden layer, 0 for none; several, such as [512,256], for
            as many layers.
        smooth: spread the target over the neighbouring cells with a Gaussian, whose standard
            deviation starts at this many cells and falls to zero during training; 0 for hard
            targets.
        **options: see ``GridTask`` and ``PatchTransform``.

    Raises:
        InputError: for a value out of range, or a grid that the canvas cannot hold.

    Example:
        >>> import torch
        >>> from patchit_hf import create_task
        >>> from patchit_hf.common.draws import Draws
        >>> task = create_task("position", rows=6, cols=3)
        >>> crops = torch.zeros(4, 3, 200, 100, dtype=torch.uint8)
        >>> batch = task.sample(crops, Draws(seed=0, numbers=torch.arange(4)))
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4]))
        >>> task.num_classes
        18
    """

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        *,
        head_hidden: int | list[int] = 256,
        smooth: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(canvas, **options)
        if not isinstance(smooth, int | float) or not 0 <= smooth <= 10:
            raise InputError(f"smooth={smooth!r} in --task-kwargs: cells from 0 to 10")
        self.head_hidden, self.smooth = head_hidden, smooth

    def sample(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut one patch from every crop, at a random cell, with jitter.

        Args:
            crops: uint8 ``[B, 3, H, W]``.
            draws: the random numbers of the batch.

        Returns:
            Inputs float32 ``[B, 3, S, S]`` and targets int64 ``[B]``, or float32 ``[B, cells]``
            as of ``smoothed``.
        """
        crops = self.transform.mirrored(crops, draws)
        cells = draws.integers("cell", self.num_classes)
        inputs = self.transform(self.grid.cut(crops, cells, draws), draws)
        if self.smooth and draws.progress < 1:
            return PatchBatch(inputs, self.smoothed(cells, draws.progress))
        return PatchBatch(inputs, cells)

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut every cell of every crop, with jitter but without the random options.

        Returns:
            Inputs float32 ``[B * cells, 3, S, S]`` and targets int64 ``[B * cells]``.
        """
        cells = self.grid.all_cells(crops)
        patches = self.grid.cut(crops, cells, draws)
        return PatchBatch(self.transform(patches.flatten(0, 1), None), cells.flatten())

    def head(self, num_features: int) -> nn.Module:
        """Return a classifier over the cells."""
        return mlp_head(num_features, self.head_hidden, self.num_classes)

    def loss(self, output: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return cross-entropy and accuracy of logits ``[B, cells]``."""
        return {
            "loss": F.cross_entropy(output, targets),
            "accuracy": accuracy(output, self.truth(targets)),
        }

    def truth(self, targets: Tensor) -> Tensor:
        """Return the true cells, int64 ``[B]``, of hard or smoothed targets."""
        return targets if targets.ndim == 1 else targets.argmax(1)

    def smoothed(self, targets: Tensor, progress: float) -> Tensor:
        """Return soft targets: a Gaussian over the cells around each true one.

        Args:
            targets: cells ``[B]``.
            progress: fraction of the training that is done, in [0, 1).

        Returns:
            Probabilities, float32 ``[B, cells]``.

        Example:
            >>> import torch
            >>> task = Task(rows=3, cols=1, smooth=1.0)
            >>> [round(p, 2) for p in task.smoothed(torch.tensor([0]), progress=0.0)[0].tolist()]
            [0.57, 0.35, 0.08]
            >>> [round(p, 2) for p in task.smoothed(torch.tensor([0]), progress=0.9)[0].tolist()]
            [1.0, 0.0, 0.0]
        """
        cells = torch.arange(self.num_classes, device=targets.device)
        index = torch.stack([cells // self.grid.cols, cells % self.grid.cols], dim=1).float()
        distance = (index[targets][:, None] - index).square().sum(2)
        deviation = max(self.smooth * (1 - progress), 1e-3)
        return torch.softmax(-distance / (2 * deviation**2), dim=1)
