"""Jigsaw: in which of a set of orders are these tiles?

Source: Noroozi & Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw
Puzzles", ECCV 2016. The tiles of a reduced grid pass the trunk one by one, in an order out of a
set of permutations that lie far from each other, and the head sees them all at once::

    the crop      what the network sees, for the order (5, 0, 7, 2, 1, 6, 3, 4)
    | 0 | 1 |
    | 2 | 3 |     [5] [0] [7] [2] [1] [6] [3] [4]   ->  number of the order in the set
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

from patchit_hf.data.draws import Draws
from patchit_hf.errors import InputError
from patchit_hf.patch_tasks.base import GridTask, PatchBatch
from patchit_hf.patch_tasks.heads import mlp_head

QUESTIONS = 4  # puzzles a held-out crop
POOL = 4000  # orders that the set is chosen from


class Task(GridTask):
    """The jigsaw task.

    Args:
        canvas: height and width of the crops, in pixels.
        permutations: how many orders there are to choose from.
        tile_features: width of the layer that each tile passes before the tiles are joined.
        head_hidden: width of the head's hidden layer.
        **options: see ``GridTask`` and ``PatchTransform``; here 4 rows and 2 columns of tiles, with
            ``standardize``, unless given otherwise.

    Raises:
        InputError: for a value out of range, or a grid that the canvas cannot hold.
    """

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        *,
        permutations: int = 100,
        tile_features: int = 64,
        head_hidden: int = 256,
        **options: Any,
    ) -> None:
        # As the paper does: seams of brightness and colour between tiles would solve the puzzle.
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
        """Cut the tiles of every crop in a random order of the set.

        Returns:
            Inputs float32 ``[B, n, 3, S, S]`` and targets int64 ``[B]``.
        """
        targets = draws.integers("order", self.num_classes)
        tiles = self.grid.cut(crops, self.orders.to(crops.device)[targets], draws)
        return PatchBatch(self.transform(tiles, draws), targets)

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Ask four puzzles of every crop, each with its own jitter.

        Returns:
            Inputs float32 ``[B * 4, n, 3, S, S]`` and targets int64 ``[B * 4]``.
        """
        targets = draws.integers("order", self.num_classes, (QUESTIONS,))
        cells = self.orders.to(crops.device)[targets]
        tiles = self.grid.cut(crops, cells.flatten(1), draws).unflatten(1, cells.shape[1:])
        return PatchBatch(self.transform(tiles.flatten(0, 1), None), targets.flatten())

    def head(self, num_features: int) -> nn.Module:
        """Return the classifier over orders."""
        return mlp_head(
            num_features,
            self.head_hidden,
            self.num_classes,
            pictures=self.grid.num_cells,
            each=self.tile_features,
        )


@lru_cache(maxsize=4)
def distant_permutations(length: int, count: int) -> Tensor:
    """Return permutations that lie far from each other in Hamming distance.

    Greedy: each next one is the one of the pool whose nearest chosen one is the furthest, as the
    paper builds its set. The pool is every permutation, or ``POOL`` drawn ones.

    Args:
        length: of each permutation.
        count: how many, at most ``POOL`` and as many as there are.

    Returns:
        int64 ``[count, length]``, the same on every machine.
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
