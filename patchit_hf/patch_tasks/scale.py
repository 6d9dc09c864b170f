"""Scale: which cell was this patch cut from, and how much of the person does it show?

Patches have several sizes, from a small detail to half a person. Each size has its own grid on the
canvas, and all patches are resized to one patch size. A class is a size and a cell. Sizes 32, 48
and 96 on a 200x100 canvas::

    6x3 = 18 details     4x2 = 8 parts       2x1 = 2 halves
    +-----------+        +-----------+       +-----------+
    | 0 | 1 | 2 |        |  18 | 19  |       |           |
    | 3 | 4 | 5 |        |  20 | 21  |       |    26     |
    |    ...    |        |  22 | 23  |       |-----------|
    |    ...    |        |  24 | 25  |       |    27     |
    |15 | 16| 17|        |           |       |           |
    +-----------+        +-----------+       +-----------+

Every class is drawn equally often. Inputs ``[B, 3, S, S]``, targets ``[B]`` in [0, 28).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks.base import PatchBatch, PatchTask, accuracy
from patchit_hf.patch_tasks.grid import Grid, cut_patches
from patchit_hf.patch_tasks.heads import mlp_head
from patchit_hf.patch_tasks.options import whole


class Task(PatchTask):
    """Name the size and the cell of a patch.

    Args:
        canvas: height and width of the crops, in pixels.
        sizes: sides of the squares to cut, in pixels; each has the largest grid that fits on the
            canvas.
        patch_size: side that they are resized to, in pixels.
        jitter: largest random offset, in pixels; see ``Grid``.
        head_hidden: width of the head's hidden layer, 0 for none; several, such as [512,256], for
            as many layers.
        **options: see ``PatchTransform``.

    Raises:
        InputError: for a value out of range, or a size that the canvas cannot hold.

    Example:
        >>> import torch
        >>> from patchit_hf import create_task
        >>> from patchit_hf.common.draws import Draws
        >>> task = create_task("scale", sizes=[32, 48, 96])
        >>> crops = torch.zeros(4, 3, 200, 100, dtype=torch.uint8)
        >>> batch = task.sample(crops, Draws(seed=0, numbers=torch.arange(4)))
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4]))
        >>> task.num_classes
        28
    """

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        *,
        sizes: Sequence[int] = (32, 48, 96),
        patch_size: int = 32,
        jitter: int = 4,
        head_hidden: int | list[int] = 256,
        **options: Any,
    ) -> None:
        wholes = isinstance(sizes, list | tuple) and all(isinstance(s, int) for s in sizes)
        if not wholes or len(set(sizes)) != len(sizes) or not sizes or min(sizes) < 4:
            raise InputError(
                f"sizes={sizes!r} in --task-kwargs: different whole numbers of at least 4, "
                "such as [32,48,96]"
            )
        self.grids = [
            Grid(max(1, canvas[0] // s), max(1, canvas[1] // s), s, jitter, 0, canvas)
            for s in sizes
        ]
        resized = Grid(1, 1, whole("patch_size", patch_size, 4), jitter, 0, canvas)
        super().__init__(canvas, resized, sum(g.num_cells for g in self.grids), options)
        self.sizes, self.head_hidden = list(sizes), head_hidden

    @property
    def boxes(self) -> Tensor:
        """The cells of all sizes, as xyxy in pixels of the canvas, int64 ``[classes, 4]``."""
        return torch.cat([grid.boxes for grid in self.grids])

    @property
    def covered(self) -> tuple[int, int]:
        """Height and width of the area that the grids cover together, in pixels."""
        heights, widths = zip(*(grid.covered for grid in self.grids), strict=True)
        return max(heights), max(widths)

    def sample(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut one patch of a random size from every crop.

        Returns:
            Inputs float32 ``[B, 3, S, S]`` and targets int64 ``[B]``.
        """
        crops = self.transform.mirrored(crops, draws)
        targets = draws.integers("class", self.num_classes)
        patches = self._cut(crops, targets[:, None], draws)[:, 0]
        return PatchBatch(self.transform(patches, draws), targets)

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut every cell of every size from every crop.

        Returns:
            Inputs float32 ``[B * classes, 3, S, S]`` and targets int64 ``[B * classes]``.
        """
        targets = torch.arange(self.num_classes, device=crops.device).expand(len(crops), -1)
        patches = self._cut(crops, targets, draws).flatten(0, 1)
        return PatchBatch(self.transform(patches, None), targets.flatten())

    def head(self, num_features: int) -> nn.Module:
        """Return a classifier over the cells of all sizes."""
        return mlp_head(num_features, self.head_hidden, self.num_classes)

    def loss(self, output: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return cross-entropy, accuracy, and ``scale_accuracy``, that of the size alone."""
        sizes = torch.cat(
            [torch.full((grid.num_cells,), i) for i, grid in enumerate(self.grids)]
        ).to(targets.device)
        right = sizes[output.argmax(1)] == sizes[targets]
        return {
            "loss": F.cross_entropy(output, targets),
            "accuracy": accuracy(output, targets),
            "scale_accuracy": right.to(torch.float32).mean(),
        }

    def _cut(self, crops: Tensor, targets: Tensor, draws: Draws) -> Tensor:
        """Cut and resize patches, uint8 ``[B, n, 3, S, S]``, of classes ``[B, n]``."""
        side, shape = self.grid.size[0], tuple(targets.shape[1:])
        chance = [draws.uniform(f"jitter_{axis}", shape) for axis in "yx"]
        out = crops.new_empty((targets.numel(), crops.shape[1], side, side))
        rows = torch.arange(len(crops), device=crops.device)[:, None].expand_as(targets)
        first = 0
        for grid in self.grids:
            cells = targets - first
            chosen = ((cells >= 0) & (cells < grid.num_cells)).flatten().nonzero()[:, 0]
            first += grid.num_cells
            top, left = (
                corner.flatten()[chosen] + _jitter(u.flatten()[chosen], reach)
                for corner, u, reach in zip(grid.corners(cells), chance, grid.reach, strict=True)
            )
            patches = cut_patches(crops[rows.flatten()[chosen]], top, left, grid.size)
            out[chosen] = _resize(patches, side)
        return out.view(*targets.shape, *out.shape[1:])


def _jitter(chance: Tensor, reach: int) -> Tensor:
    """Return offsets from -reach to reach for numbers in [0, 1)."""
    return (chance * (2 * reach + 1)).to(torch.int64) - reach


def _resize(patches: Tensor, side: int) -> Tensor:
    """Resize uint8 ``[N, 3, s, s]`` to ``[N, 3, side, side]``."""
    if patches.shape[-1] == side or len(patches) == 0:
        return patches if len(patches) else patches.new_empty((0, patches.shape[1], side, side))
    resized = F.interpolate(
        patches.to(torch.float32), size=(side, side), mode="bilinear", antialias=True
    )
    return resized.round().clamp(0, 255).to(torch.uint8)
