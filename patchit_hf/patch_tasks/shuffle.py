"""Shuffle: the tiles of this crop were rearranged; which cell is each from?

The dense form of the position task. All tiles of a crop, cut with jitter, are put back together in
a random order as one image, and every location of the network's output names the cell that the
tile beneath it came from::

    the crop            what the network sees       what it answers, at every location
    +-----------+       +-----------+               13  2 17
    | 0 | 1 | 2 |       |13 | 2 |17 |                4  8  0
    | 3 | 4 | 5 |       | 4 | 8 | 0 |                ...
    |    ...    |       |    ...    |
    +-----------+       +-----------+

One pass over an image about the size of the canvas gives rows * cols answers and trains every
kernel weight of the deep stages, and its batch statistics are close to those of whole crops. Inputs
``[B, 3, rows * S, cols * S]``, targets ``[B, rows, cols]``: the cell that each tile came from.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchit_hf.common.draws import Draws
from patchit_hf.patch_tasks.base import GridTask, PatchBatch, accuracy
from patchit_hf.patch_tasks.heads import dense_head


class Task(GridTask):
    """Name the cell of every tile of a shuffled crop.

    Args:
        canvas: height and width of the crops, in pixels.
        head_hidden: width of the head's hidden layer, 0 for none; several, such as [512,256], for
            as many layers.
        **options: see ``GridTask``, and ``PatchTransform``, which sees each tile on its own.
            The margin is cut away: tiles touch in the new image.

    Raises:
        InputError: for a value out of range, or a grid that the canvas cannot hold.

    Example:
        >>> import torch
        >>> from patchit_hf import create_task
        >>> from patchit_hf.common.draws import Draws
        >>> task = create_task("shuffle")
        >>> crops = torch.zeros(4, 3, 200, 100, dtype=torch.uint8)
        >>> batch = task.sample(crops, Draws(seed=0, numbers=torch.arange(4)))
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([4, 3, 192, 96]), torch.Size([4, 6, 3]))
        >>> task.num_classes
        18
    """

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        *,
        head_hidden: int | list[int] = 256,
        **options: Any,
    ) -> None:
        super().__init__(canvas, **options)
        self.head_hidden = head_hidden

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the image of all tiles, in pixels."""
        height, width = super().input_size
        return self.grid.rows * height, self.grid.cols * width

    def sample(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Shuffle the tiles of every crop.

        Returns:
            Inputs float32 ``[B, 3, rows * S, cols * S]`` and targets int64 ``[B, rows, cols]``.
        """
        crops = self.transform.mirrored(crops, draws)
        return self._shuffle(crops, draws, draws)

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Shuffle the tiles of every crop once, without the random options of the transform.

        Returns:
            As ``sample``.
        """
        return self._shuffle(crops, draws, None)

    def head(self, num_features: int) -> nn.Module:
        """Return a classifier over the cells, at every location."""
        return dense_head(num_features, self.head_hidden, self.num_classes)

    def loss(self, output: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return cross-entropy and accuracy over all locations.

        Args:
            output: logits ``[B, cells, H', W']``; a location answers for the tile at its centre.
            targets: ``[B, rows, cols]``.
        """
        for axis, size in enumerate(output.shape[2:], start=1):
            tiles = targets.shape[axis]
            middle = (torch.arange(size, device=targets.device) * 2 + 1) * tiles // (2 * size)
            targets = targets.index_select(axis, middle)
        return {"loss": F.cross_entropy(output, targets), "accuracy": accuracy(output, targets)}

    def truth(self, targets: Tensor) -> Tensor:
        """Return the true cells of all tiles, ``[B * rows * cols]``."""
        return targets.flatten()

    def answers(self, output: Tensor) -> Tensor:
        """Return the answer for each tile, averaged over its locations, ``[B * rows * cols]``."""
        tiles = F.adaptive_avg_pool2d(output.float(), (self.grid.rows, self.grid.cols))
        return tiles.argmax(1).flatten()

    def examples(self, batch: PatchBatch) -> Tensor:
        """Return the tiles, ``[B * rows * cols, 1, 3, S, S]``."""
        height, width = super().input_size
        tiles = batch.inputs.unfold(2, height, height).unfold(3, width, width)
        return tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)[:, None]

    def _shuffle(self, crops: Tensor, draws: Draws, options: Draws | None) -> PatchBatch:
        grid = self.grid
        order = draws.permutations("order", self.num_classes)
        tiles = self.transform(grid.cut(crops, order, draws), options)
        rows = tiles.unflatten(1, (grid.rows, grid.cols)).permute(0, 3, 1, 4, 2, 5)
        image = rows.flatten(4, 5).flatten(2, 3)
        return PatchBatch(image, order.view(-1, grid.rows, grid.cols))
