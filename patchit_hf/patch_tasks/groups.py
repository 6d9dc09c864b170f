"""Groups: which crops seem to show the same person?

Each crop being a class of its own, pictures of one person push each other away. Joining those that
are surely alike turns them into examples of one class. Two crops are joined if each is among the
other's nearest neighbours and both have enough of their neighbours in common, as in re-ranking by
k-reciprocal neighbours (Zhong et al., CVPR 2017); what is joined by others is one group.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 1024  # rows compared with all others at a time


def nearest(vectors: Tensor, neighbours: int) -> Tensor:
    """Return each vector's own index and those of its nearest neighbours by cosine.

    Args:
        vectors: ``[N, D]``.
        neighbours: how many; at most N - 1 are returned.

    Returns:
        int64 ``[N, 1 + neighbours]``, itself first.
    """
    unit = F.normalize(vectors.float(), dim=1)
    own = torch.arange(len(unit), device=unit.device)
    count = min(neighbours, len(unit) - 1)
    found = []
    for rows in own.split(BLOCK):
        cosines = unit[rows] @ unit.T
        cosines[torch.arange(len(rows), device=unit.device), rows] = -2.0
        found.append(torch.cat([rows[:, None], cosines.topk(count, dim=1).indices], dim=1))
    return torch.cat(found)


def groups_of(vectors: Tensor, neighbours: int, overlap: float) -> Tensor:
    """Return a group for each vector, named by the smallest index in it: int64 ``[N]``.

    Args:
        vectors: ``[N, D]``.
        neighbours: how many nearest neighbours are looked at.
        overlap: two are joined if so large a share of all their neighbours, themselves included,
            is common to both (intersection over union).

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [-1.0, -1.0]])
        >>> groups_of(vectors, neighbours=1, overlap=0.5).tolist()
        [0, 0, 2, 2, 4]
    """
    sets = nearest(vectors, neighbours)
    size = sets.shape[1]
    first, second = [], []
    for column in range(1, size):
        other = sets[:, column]
        mutual = (sets[other] == sets[:, :1]).any(1)
        here, there = sets[mutual, 0], other[mutual]
        common = torch.zeros(len(here), dtype=torch.int64, device=sets.device)
        for place in range(size):
            common += (sets[here, place, None] == sets[there]).any(1)
        alike = common / (2 * size - common) >= overlap
        first.append(here[alike])
        second.append(there[alike])
    return _joined(len(sets), torch.cat(first), torch.cat(second))


def _joined(count: int, first: Tensor, second: Tensor) -> Tensor:
    """Return the smallest index that each can be reached from, int64 ``[count]``."""
    group = torch.arange(count, device=first.device)
    while True:
        least = torch.minimum(group[first], group[second])
        new = group.scatter_reduce(0, first, least, "amin").scatter_reduce(0, second, least, "amin")
        new = new[new]  # what was reached may itself have been reached from a smaller one
        if torch.equal(new, group):
            return group
        group = new
