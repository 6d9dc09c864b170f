"""Jigsaw: in what order were these tiles shuffled?

Source: Noroozi & Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw
Puzzles", ECCV 2016. The tiles of a coarse grid are put into one of a fixed set of orders. Each
passes the backbone on its own, and the head sees the features of all of them::

    the crop      what the network sees, in the order (5, 0, 7, 2, 1, 6, 3, 4)
    | 0 | 1 |
    | 2 | 3 |     [5] [0] [7] [2] [1] [6] [3] [4]   ->  index of the order in the set
    | 4 | 5 |
    | 6 | 7 |

Inputs ``[B, n, 3, S, S]`` for n tiles, targets ``[B]`` in [0, permutations).
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import permutations as all_orders
from typing import Any

import torch
from torch import Tensor, nn

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks.base import GridTask, PatchBatch
from patchit_hf.patch_tasks.heads import mlp_head

QUESTIONS = 4  # puzzles per held-out crop
POOL = 4000  # candidates that the orders are chosen from


class Task(GridTask):
    """Say in which of a fixed set of orders the tiles of a crop are.

    Args:
        canvas: height and width of the crops, in pixels.
        permutations: number of orders to choose from.
        tile_features: width of the layer that each tile passes before the tiles are joined.
        head_hidden: width of the head's hidden layer, 0 for none; several, such as [512,256], for
            as many layers.
        **options: see ``GridTask`` and ``PatchTransform``; the defaults here are ``rows=4``,
            ``cols=2`` and ``standardize=True``.

    Raises:
        InputError: for a value out of range, or a grid that the canvas cannot hold.

    Example:
        >>> import torch
        >>> from patchit_hf import create_task
        >>> from patchit_hf.common.draws import Draws
        >>> task = create_task("jigsaw")
        >>> crops = torch.zeros(4, 3, 200, 100, dtype=torch.uint8)
        >>> batch = task.sample(crops, Draws(seed=0, numbers=torch.arange(4)))
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([4, 8, 3, 32, 32]), torch.Size([4]))
        >>> task.num_classes
        100
    """

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        *,
        permutations: int = 100,
        tile_features: int = 64,
        head_hidden: int | list[int] = 256,
        **options: Any,
    ) -> None:
        # Standardised as in the paper: brightness and colour at the seams would solve the puzzle.
        own = {"rows": 4, "cols": 2, "standardize": True}
        super().__init__(canvas, permutations, **{**own, **options})
        grid = self.grid
        most = min(POOL // 2, math.factorial(min(grid.num_cells, 12)))
        if not isinstance(permutations, int) or not 2 <= permutations <= most:
            raise InputError(
                f"permutations={permutations!r} in --task-kwargs: a whole number from 2 to {most} "
                f"for {grid.rows}x{grid.cols} tiles"
            )
        if not isinstance(tile_features, int) or tile_features < 1:
            raise InputError(f"tile_features={tile_features!r} in --task-kwargs: at least 1")
        self.inputs_per_sample = grid.num_cells
        self.permutations, self.tile_features = permutations, tile_features
        self.head_hidden = head_hidden
        self.orders = distant_permutations(grid.num_cells, permutations)

    def sample(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut the tiles of every crop, in an order drawn from the set.

        Returns:
            Inputs float32 ``[B, n, 3, S, S]`` and targets int64 ``[B]``.
        """
        crops = self.transform.mirrored(crops, draws)
        targets = draws.integers("order", self.num_classes)
        tiles = self.grid.cut(crops, self.orders.to(crops.device)[targets], draws)
        return PatchBatch(self.transform(tiles, draws), targets)

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Make four puzzles of every crop, each with its own jitter.

        Returns:
            Inputs float32 ``[B * 4, n, 3, S, S]`` and targets int64 ``[B * 4]``.
        """
        targets = draws.integers("order", self.num_classes, (QUESTIONS,))
        cells = self.orders.to(crops.device)[targets]
        tiles = self.grid.cut(crops, cells.flatten(1), draws).unflatten(1, cells.shape[1:])
        return PatchBatch(self.transform(tiles.flatten(0, 1), None), targets.flatten())

    def head(self, num_features: int) -> nn.Module:
        """Return a classifier over the orders."""
        return mlp_head(
            num_features,
            self.head_hidden,
            self.num_classes,
            patches=self.grid.num_cells,
            each=self.tile_features,
        )


@lru_cache(maxsize=4)
def distant_permutations(length: int, count: int) -> Tensor:
    """Return permutations that are far from each other in Hamming distance.

    They are chosen greedily, as in the paper: the next one is always the candidate whose nearest
    chosen permutation is farthest away. The candidates are all permutations if there are at most
    ``POOL``, and otherwise ``POOL`` random ones.

    Args:
        length: number of elements of each permutation.
        count: number of permutations, at most as many as there are candidates.

    Returns:
        int64 ``[count, length]``, the same on every machine.

    Example:
        >>> distant_permutations(3, 3).tolist()
        [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    """
    if math.factorial(min(length, 12)) <= POOL:
        pool = torch.tensor(list(all_orders(range(length))))
    else:
        pool = Draws(0, torch.arange(POOL)).permutations("jigsaw", length).unique(dim=0)
    nearest = torch.full((len(pool),), length + 1)
    chosen = [0]
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, (pool != pool[chosen[-1]]).sum(1))
        nearest[chosen[-1]] = -1
        chosen.append(int(nearest.argmax()))
    return pool[chosen]
