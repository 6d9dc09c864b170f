"""Context: where does the second patch lie, seen from the first?

Source: Doersch, Gupta & Efros, "Unsupervised Visual Representation Learning by Context
Prediction", ICCV 2015. A sample is a patch and one of its eight neighbours. A gap and a random
offset of each patch keep lines and gradients from running across the border::

    +---+   +---+   +---+
    | 0 |   | 1 |   | 2 |      The whole 3x3 layout is placed at random in the crop and always fits
    +---+   +---+   +---+      inside it, so the middle patch alone says nothing about the answer.
    | 3 |   | x |   | 4 |      That is why patches are small: 24 px on a canvas 100 px wide.
    +---+   +---+   +---+
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
from patchit_hf.patch_tasks.options import whole

SIDES = 8


class Task(PatchTask):
    """Say on which of eight sides of a patch its neighbour lies.

    Args:
        canvas: height and width of the crops, in pixels.
        patch_size: side of a patch, in pixels.
        gap: distance between neighbouring patches before jitter, in pixels.
        jitter: largest random offset of each patch, in pixels; the layout stays this far from the
            border of the canvas, so that every patch has the full jitter.
        head_hidden: width of the head's hidden layer, 0 for none; several, such as [512,256], for
            as many layers.
        **options: see ``PatchTransform``.

    Raises:
        InputError: for a value out of range, or a layout that the canvas cannot hold.

    Example:
        >>> import torch
        >>> from patchit_hf import create_task
        >>> from patchit_hf.common.draws import Draws
        >>> task = create_task("context")
        >>> crops = torch.zeros(4, 3, 200, 100, dtype=torch.uint8)
        >>> batch = task.sample(crops, Draws(seed=0, numbers=torch.arange(4)))
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([4, 2, 3, 24, 24]), torch.Size([4]))
        >>> task.num_classes
        8
    """

    inputs_per_sample = 2

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        *,
        patch_size: int = 24,
        gap: int = 8,
        jitter: int = 3,
        head_hidden: int | list[int] = 256,
        **options: Any,
    ) -> None:
        if not isinstance(gap, int) or gap < 0:
            raise InputError(f"gap={gap!r} in --task-kwargs: must be a whole number of at least 0")
        one = Grid(1, 1, whole("patch_size", patch_size, 4), jitter, 0, canvas)
        super().__init__(canvas, one, SIDES, options)
        self.gap, self.head_hidden = gap, head_hidden
        self.jitter = jitter  # the whole of it: the layout leaves room
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
        crops = self.transform.mirrored(crops, draws)
        sides = draws.integers("side", SIDES)
        patches = self._cut(crops, sides[:, None], draws)[:, 0]
        return PatchBatch(self.transform(patches, draws), sides)

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut each of the eight neighbours once, each time elsewhere in the crop.

        Returns:
            Inputs float32 ``[B * 8, 2, 3, S, S]`` and targets int64 ``[B * 8]``.
        """
        sides = torch.arange(SIDES, device=crops.device).expand(len(crops), -1)
        patches = self._cut(crops, sides, draws).flatten(0, 1)
        return PatchBatch(self.transform(patches, None), sides.flatten())

    def head(self, num_features: int) -> nn.Module:
        """Return a classifier over the eight sides."""
        return mlp_head(num_features, self.head_hidden, SIDES, patches=2)

    def _cut(self, crops: Tensor, sides: Tensor, draws: Draws) -> Tensor:
        """Cut pairs, uint8 ``[B, n, 2, 3, S, S]``, for sides ``[B, n]``."""
        size, count = self.grid.size[0], sides.shape[1]
        pitch, spare = size + self.gap, 2 * self.jitter + 1
        index = sides + (sides >= 4).to(torch.int64)
        corners = []
        for axis, (name, steps) in enumerate((("y", index // 3), ("x", index % 3))):
            room = self.canvas[axis] - 3 * size - 2 * self.gap - 2 * self.jitter + 1
            first = draws.integers(f"layout_{name}", room, (count,))
            offsets = draws.integers(f"jitter_{name}", spare, (count, 2))
            both = torch.stack([torch.ones_like(steps), steps], dim=2) * pitch
            corners.append((first[:, :, None] + both + offsets).flatten(1))
        patches = cut_patches(crops, corners[0], corners[1], size)
        return patches.view(len(crops), count, 2, *patches.shape[2:])
