"""Context: on which side of the first patch does the second one lie?

Source: Doersch, Gupta & Efros, "Unsupervised Visual Representation Learning by Context
Prediction", ICCV 2015. A patch and one of its eight neighbours, with a gap between them and an
offset of each, so that no line or gradient runs across the border::

    +---+   +---+   +---+
    | 0 |   | 1 |   | 2 |      The whole layout of 3x3 lies at a random place of the crop, so that
    +---+   +---+   +---+      the patch in the middle says nothing about the answer: all its
    | 3 |   | x |   | 4 |      neighbours are there. That is why the patches are small (24 px on a
    +---+   +---+   +---+      canvas of 100 columns).
    | 5 |   | 6 |   | 7 |
    +---+   +---+   +---+

Inputs ``[B, 2, 3, S, S]`` (middle, neighbour), targets ``[B]`` in [0, 8).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks.base import PatchBatch, PatchTask
from patchit_hf.patch_tasks.grid import Grid, cut_patches
from patchit_hf.patch_tasks.heads import mlp_head

SIDES = 8


class Task(PatchTask):
    """The context task.

    Args:
        canvas: height and width of the crops, in pixels.
        patch_size: side of a patch, in pixels.
        gap: distance between neighbouring patches before jitter, in pixels.
        jitter: largest random offset of each patch, in pixels; the layout keeps this distance
            from the border of the canvas, so that it is the same everywhere.
        head_hidden: width of the head's hidden layer.
        **options: see ``PatchTransform``.

    Raises:
        InputError: for a value out of range, or a layout that the canvas cannot hold.
    """

    inputs_per_sample = 2

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        *,
        patch_size: int = 24,
        gap: int = 8,
        jitter: int = 3,
        head_hidden: int = 256,
        **options: Any,
    ) -> None:
        if not isinstance(gap, int) or gap < 0:
            raise InputError(f"gap={gap!r} in --task-kwargs: must be a whole number of at least 0")
        one = Grid(1, 1, patch_size, jitter, 0, canvas)
        super().__init__(canvas, one, SIDES, options)
        self.gap, self.head_hidden = gap, head_hidden
        self.jitter = jitter  # as asked: the layout makes room for it
        need = 3 * patch_size + 2 * gap + 2 * jitter
        if need > min(canvas):
            raise InputError(
                f"patch_size={patch_size} gap={gap} jitter={jitter} in --task-kwargs: 3x3 patches "
                f"need {need}x{need} px, more than the canvas {canvas[0]}x{canvas[1]}"
            )

    @property
    def covered(self) -> tuple[int, int]:
        """The whole canvas, in pixels."""
        return self.canvas

    def sample(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut a patch and one of its neighbours from every crop.

        Returns:
            Inputs float32 ``[B, 2, 3, S, S]`` and targets int64 ``[B]``.
        """
        sides = draws.integers("side", SIDES)
        patches = self._cut(crops, sides[:, None], draws)[:, 0]
        return PatchBatch(self.transform(patches, draws), sides)

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Ask for each of the eight neighbours, each time at another place of the crop.

        Returns:
            Inputs float32 ``[B * 8, 2, 3, S, S]`` and targets int64 ``[B * 8]``.
        """
        sides = torch.arange(SIDES, device=crops.device).expand(len(crops), -1)
        patches = self._cut(crops, sides, draws).flatten(0, 1)
        return PatchBatch(self.transform(patches, None), sides.flatten())

    def head(self, num_features: int) -> nn.Module:
        """Return the classifier over the eight sides."""
        return mlp_head(num_features, self.head_hidden, SIDES, pictures=2)

    def _cut(self, crops: Tensor, sides: Tensor, draws: Draws) -> Tensor:
        """Cut pairs, uint8 ``[B, n, 2, 3, S, S]``, for sides ``[B, n]``."""
        size, count = self.grid.patch_size, sides.shape[1]
        pitch, spare = size + self.gap, 2 * self.jitter + 1
        place = sides + (sides >= 4).to(torch.int64)
        corners = []
        for axis, (name, steps) in enumerate((("y", place // 3), ("x", place % 3))):
            room = self.canvas[axis] - 3 * size - 2 * self.gap - 2 * self.jitter + 1
            first = draws.integers(f"layout_{name}", room, (count,))
            offsets = draws.integers(f"jitter_{name}", spare, (count, 2))
            both = torch.stack([torch.ones_like(steps), steps], dim=2) * pitch
            corners.append((first[:, :, None] + both + offsets).flatten(1))
        patches = cut_patches(crops, corners[0], corners[1], size)
        return patches.view(len(crops), count, 2, *patches.shape[2:])
