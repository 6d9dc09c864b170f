"""Contrast: embeddings of one crop's patches are alike, those of other crops' are not."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    embedding: Tensor, crops: Tensor, temperature: float, others: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the InfoNCE loss over patches, and how often the nearest patch is of the same crop.

    In training with several processes the patches of all of them are candidates; gradients flow
    back to each process.

    Args:
        embedding: float ``[N, D]``; normalised here.
        crops: which crop each patch was cut from, int64 ``[N]``.
        temperature: the cosine similarities are divided by it.
        others: embeddings of length 1 of patches of other crops, ``[M, D]``; without gradient.

    Returns:
        Two scalars: the loss, a mean over patches and their positives, and the accuracy.

    Example:
        >>> import torch
        >>> embedding = torch.tensor([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0]])
        >>> loss, accuracy = info_nce(embedding, torch.tensor([0, 0, 1, 1]), temperature=0.1)
        >>> accuracy.item()
        1.0
    """
    embedding = F.normalize(embedding.float(), dim=1)
    keys, labels, own = _gather(embedding, crops)
    similarity = embedding @ keys.T / temperature
    rows = torch.arange(len(embedding), device=keys.device)
    similarity[rows, own + rows] = float("-inf")
    positive = labels[own + rows][:, None] == labels[None]
    positive[rows, own + rows] = False
    if others is not None:
        similarity = torch.cat([similarity, embedding @ others.T / temperature], dim=1)
        positive = F.pad(positive, (0, len(others)))
    log_share = torch.log_softmax(similarity, dim=1).masked_fill(~positive, 0.0)
    loss = -(log_share.sum(1) / positive.sum(1)).mean()
    found = positive.gather(1, similarity.argmax(1, keepdim=True)).to(torch.float32).mean()
    return loss, found


def _gather(embedding: Tensor, crops: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return the embeddings and crops of all processes, and the index of this one's first."""
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if not several or not torch.is_grad_enabled():
        return embedding, crops, 0
    from torch.distributed.nn.functional import all_gather

    rank, world, count = dist.get_rank(), dist.get_world_size(), len(embedding)
    keys = torch.cat(all_gather(embedding))
    number = int(crops.max()) + 1
    labels = torch.cat([crops + other * number for other in range(world)])
    return keys, labels, rank * count
