"""Pair: which two cells of the crop were these two patches cut from?

Source: Sudowe & Leibe, "PatchIt", BMVC 2016 (pairs of patches). A sample is an
ordered pair of patches from two different cells of one crop; both pass the same backbone::

    +-----------------+
    |     | [1] |     |     first patch: cell 1
    |     |     |     |     second patch: cell 9
    |     |     |     |     class = 1 * 17 + (9 - 1), because 9 > 1
    | [9] |     |     |
    |     |     |     |
    |     |     |     |
    +-----------------+

Inputs ``[B, 2, 3, S, S]``, targets ``[B]`` in [0, n * (n - 1)) for n cells (PT-18: 306):
class = first * (n - 1) + second - (1 if second > first).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks.base import GridTask, PatchBatch
from patchit_hf.patch_tasks.heads import mlp_head


class Task(GridTask):
    """Name the two cells that two patches were cut from.

    Args:
        canvas: height and width of the crops, in pixels.
        head_hidden: width of the head's hidden layer, 0 for none; several, such as [512,256], for
            as many layers.
        **options: see ``GridTask`` and ``PatchTransform``.

    Raises:
        InputError: for a value out of range, or a grid that the canvas cannot hold.

    Example:
        >>> import torch
        >>> from patchit_hf import create_task
        >>> from patchit_hf.common.draws import Draws
        >>> task = create_task("pair")
        >>> crops = torch.zeros(4, 3, 200, 100, dtype=torch.uint8)
        >>> batch = task.sample(crops, Draws(seed=0, numbers=torch.arange(4)))
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([4, 2, 3, 32, 32]), torch.Size([4]))
        >>> task.num_classes
        306
    """

    inputs_per_sample = 2

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        *,
        head_hidden: int | list[int] = 512,
        **options: Any,
    ) -> None:
        super().__init__(canvas, **options)
        grid = self.grid
        cells = grid.num_cells
        if cells < 2:
            raise InputError(
                f"rows={grid.rows} cols={grid.cols} in --task-kwargs: pairs need at least 2 cells"
            )
        self.num_classes, self.head_hidden = cells * (cells - 1), head_hidden

    @property
    def boxes(self) -> None:
        """None: a class is a pair of cells."""
        return None

    def sample(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut two patches from every crop, at two random cells.

        Returns:
            Inputs float32 ``[B, 2, 3, S, S]`` and targets int64 ``[B]``.
        """
        crops = self.transform.mirrored(crops, draws)
        first = draws.integers("cell", self.grid.num_cells)[:, None]
        step = draws.integers("second", self.grid.num_cells - 1)[:, None]
        cells, targets = self._pairs(first, step)
        patches = self.grid.cut(crops, cells.flatten(1), draws)
        return PatchBatch(self.transform(patches, draws), targets.flatten())

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Pair every cell with another one, drawn at random.

        Returns:
            Inputs float32 ``[B * cells, 2, 3, S, S]`` and targets int64 ``[B * cells]``.
        """
        count = self.grid.num_cells
        step = draws.integers("second", count - 1, (count,))
        cells, targets = self._pairs(self.grid.all_cells(crops), step)
        patches = self.grid.cut(crops, cells.flatten(1), draws).unflatten(1, (count, 2))
        return PatchBatch(self.transform(patches.flatten(0, 1), None), targets.flatten())

    def head(self, num_features: int) -> nn.Module:
        """Return a classifier over pairs of cells."""
        return mlp_head(num_features, self.head_hidden, self.num_classes, patches=2)

    def _pairs(self, first: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return cells ``[B, n, 2]``, the second ``1 + step`` on, and classes ``[B, n]``."""
        count = self.grid.num_cells
        second = (first + 1 + step) % count
        targets = first * (count - 1) + second - (second > first).to(torch.int64)
        return torch.stack([first, second], dim=2), targets
