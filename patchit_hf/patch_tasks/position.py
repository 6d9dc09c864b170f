"""Position: from which cell of the crop was this patch cut?

Source: Sudowe & Leibe, "PatchIt", BMVC 2016. One patch a sample::

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
right are classes, so nothing is ever mirrored.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchit_hf.data.draws import Draws
from patchit_hf.patch_tasks.base import PatchBatch
from patchit_hf.patch_tasks.grid import Grid, cut_patches
from patchit_hf.patch_tasks.heads import mlp_head
from patchit_hf.patch_tasks.transform import PatchTransform

PRESETS: dict[str, dict[str, int]] = {
    "pt18": {"rows": 6, "cols": 3},
    "pt8": {"rows": 4, "cols": 2},
}


class Task:
    """The position task.

    Args:
        canvas: height and width of the crops, in pixels.
        rows: rows of cells.
        cols: columns of cells.
        patch_size: side of a patch, in pixels.
        jitter: largest random offset of a patch from its cell, in pixels; see ``Grid``.
        margin: gap between cells, in pixels.
        head_hidden: width of the head's hidden layer.
        **options: see ``PatchTransform``.

    Raises:
        InputError: for a value out of range, or a grid that the canvas cannot hold.
    """

    inputs_per_sample = 1

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        *,
        rows: int = 6,
        cols: int = 3,
        patch_size: int = 32,
        jitter: int = 4,
        margin: int = 0,
        head_hidden: int = 256,
        **options: Any,
    ) -> None:
        self.canvas = canvas
        self.grid = Grid(rows, cols, patch_size, jitter, margin, canvas)
        self.head_hidden = head_hidden
        self.transform = PatchTransform(**options)
        self.num_classes = self.grid.num_cells
        self.chance = 1 / self.num_classes
        self.progress = 1.0

    @property
    def boxes(self) -> Tensor:
        """Where the cells lie, xyxy in pixels of the canvas, int64 ``[cells, 4]``."""
        return self.grid.boxes

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input, in pixels."""
        side = round(self.grid.patch_size * self.transform.input_scale)
        return side, side

    @property
    def covered(self) -> tuple[int, int]:
        """Height and width of the area that the cells cover, in pixels."""
        return self.grid.covered

    @property
    def kwargs(self) -> dict[str, Any]:
        """Every option with its value."""
        grid = self.grid
        return {
            "rows": grid.rows,
            "cols": grid.cols,
            "patch_size": grid.patch_size,
            "jitter": grid.jitter,
            "margin": grid.margin,
            "head_hidden": self.head_hidden,
            **self.transform.options,
        }

    def sample(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut one patch from every crop, at a random cell with jitter.

        Args:
            crops: uint8 ``[B, 3, H, W]``.
            draws: the batch's random numbers.

        Returns:
            Inputs float32 ``[B, 3, S, S]`` and targets int64 ``[B]``.
        """
        cells = draws.integers("cell", self.num_classes)
        patches = self._cut(crops, cells, draws)
        return PatchBatch(self.transform(patches, draws), cells)

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut every cell of every crop, with jitter but without the random options.

        Returns:
            Inputs float32 ``[B * cells, 3, S, S]`` and targets int64 ``[B * cells]``.
        """
        cells = torch.arange(self.num_classes, device=crops.device).expand(len(crops), -1)
        patches = self._cut(crops, cells, draws)
        return PatchBatch(self.transform(patches.flatten(0, 1), None), cells.flatten())

    def head(self, num_features: int) -> nn.Module:
        """Return the classifier over cells."""
        return mlp_head(num_features, self.head_hidden, self.num_classes)

    def loss(self, output: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return cross-entropy and accuracy of logits ``[B, cells]``."""
        return {
            "loss": F.cross_entropy(output, targets),
            "accuracy": (output.argmax(1) == targets).to(torch.float32).mean(),
        }

    def answers(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cells answered and the true ones, ``[B]`` each."""
        return output.argmax(1), targets

    def examples(self, batch: PatchBatch) -> Tensor:
        """Return the patches, ``[B, 1, 3, S, S]``."""
        return batch.inputs[:, None]

    def _cut(self, crops: Tensor, cells: Tensor, draws: Draws) -> Tensor:
        top, left = self.grid.corners(cells)
        shape = tuple(cells.shape[1:])
        reach_y, reach_x = self.grid.reach
        top = top + draws.integers("jitter_y", 2 * reach_y + 1, shape) - reach_y
        left = left + draws.integers("jitter_x", 2 * reach_x + 1, shape) - reach_x
        return cut_patches(crops, top, left, self.grid.patch_size)
