"""Identity: which crop is this from? A head and losses for tasks that also ask this.

A crop is its own class, with a vector that is learnt (Cao & Wu, "Training Vision Transformers with
Only 2040 Images", ECCV 2022); or the windows of a batch find each other (InfoNCE).
"""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchit_hf.patch_tasks.contrast import info_nce
from patchit_hf.patch_tasks.groups import groups_of
from patchit_hf.patch_tasks.heads import norm_head

EMBEDDING = 128  # numbers of an embedding, and of a crop's vector


class IdentityHead(nn.Module):
    """A classifier over places, embeddings, and a vector for each training crop.

    Args:
        num_features: channels C of the features ``[B * K, C, h, w]``.
        hidden: width of the hidden layers.
        num_classes: number of places.
        inputs: inputs of a sample (K).
        places: so many inputs of a sample, the first ones, are asked for their places.
        first: from this input on they are asked for their crop; ``inputs`` for none.
        beside: whether the backbone does not learn from the places.

    Attributes:
        table: a vector for each training crop, ``[crops, 128]``; None before a training, without
            that question, and with too many crops.
        queue: embeddings of the windows before, ``[n, 128]``, the newest first, which batches are
            compared with where there is no table; None for none.
        group: the crop whose vector stands for each crop, int64 ``[crops]``; None if crops are
            never joined, and every crop is its own class.
    """

    table: nn.Parameter | None
    group: Tensor | None
    queue: Tensor | None

    def __init__(
        self,
        num_features: int,
        hidden: int,
        num_classes: int,
        *,
        inputs: int,
        places: int,
        first: int,
        beside: bool,
    ) -> None:
        super().__init__()
        self.inputs, self.asked, self.first, self.beside = inputs, places, first, beside
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.places = norm_head(num_features, hidden, num_classes, zero=True)
        if first < inputs:
            self.projection = norm_head(num_features, hidden, EMBEDDING)
        self.register_parameter("table", None)
        self.register_buffer("group", None)
        self.register_buffer("queue", None)

    def set_table(self, crops: int, seed: int, *, joined: bool = False) -> None:
        """Give each of so many crops a random vector; none for 0 crops.

        Args:
            crops: how many.
            seed: of the vectors.
            joined: whether crops may become one class later; see ``join``.
        """
        self.group = torch.arange(crops) if joined and crops else None
        if not crops:
            self.table = None
            return
        rng = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(0.01 * torch.randn(crops, EMBEDDING, generator=rng))

    def set_queue(self, size: int, seed: int) -> None:
        """Keep the last embeddings, so many; at first they are of random directions.

        Args:
            size: how many; 0 for no queue.
            seed: of the directions.
        """
        rng = torch.Generator().manual_seed(seed)
        drawn = torch.randn(size, EMBEDDING, generator=rng)
        self.queue = F.normalize(drawn, dim=1) if size else None

    def embedded(self, features: Tensor) -> Tensor:
        """Return embeddings of length 1, ``[N, 128]``, of unpooled features ``[N, C, h, w]``."""
        embedding: Tensor = self.projection(self.pool(features))
        return F.normalize(embedding.float(), dim=1)

    @torch.no_grad()
    def fill_table(self, rows: Tensor, vectors: Tensor) -> None:
        """Set the vectors ``[B, 128]`` of crops, int64 ``[B]``.

        Raises:
            RuntimeError: if there is no table.
        """
        if self.table is None:
            raise RuntimeError("a head has a table after for_training")
        self.table[rows.to(self.table.device)] = vectors

    @torch.no_grad()
    def join(self, neighbours: int, overlap: float) -> int:
        """Make one class of crops whose vectors are alike; its vector is their mean.

        Args:
            neighbours: see ``groups_of``.
            overlap: see ``groups_of``.

        Returns:
            The number of classes.

        Raises:
            RuntimeError: if the table was not made for this.
        """
        if self.table is None or self.group is None:
            raise RuntimeError("a head joins crops after set_table(..., joined=True)")
        group = groups_of(self.table, neighbours, overlap)
        total = torch.zeros_like(self.table).index_add(0, group, self.table)
        self.table.copy_(F.normalize(total, dim=1))  # rows that stand for no crop are not used
        self.group.copy_(group)
        return len(group.unique())

    def without_table(self) -> IdentityHead:
        """Return a copy of this head without the vectors of crops, and without the queue."""
        return copy.deepcopy(self, {id(v): None for v in (self.table, self.group, self.queue)})

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return what each question's loss compares.

        Returns:
            ``places``, logits ``[B, places, classes]``; ``embedding``, ``[B, K - first, 128]``; in
            training also ``queue``, the embeddings before these, where they are kept; and where
            there is a table, ``crops``, the cosines of these embeddings and
            the vectors of all classes, ``[B * (K - first), classes]``, and where crops may be
            joined ``classes``, the class of each crop, int64 ``[crops]``.
        """
        pooled = self.pool(features).unflatten(0, (-1, self.inputs))
        asked = pooled[:, : self.asked]
        asked = (asked.detach() if self.beside else asked).flatten(0, 1)
        output = {"places": self.places(asked).unflatten(0, (-1, self.asked))}
        if self.first < self.inputs:
            embedding = self.projection(pooled[:, self.first :].flatten(0, 1))
            output["embedding"] = embedding.unflatten(0, (len(pooled), -1))
            if self.training and self.table is not None:
                table: Tensor = self.table
                if self.group is not None:
                    used, output["classes"] = self.group.unique(return_inverse=True)
                    table = table[used]
                output["crops"] = F.normalize(embedding.float(), dim=1) @ F.normalize(table).T
            if self.training and self.queue is not None:
                output["queue"] = self.queue.clone()
                self._enqueue(embedding)
        return output

    @torch.no_grad()
    def _enqueue(self, embedding: Tensor) -> None:
        """Put embeddings ``[N, 128]`` at the head of the queue; the oldest ones leave it."""
        queue = cast(Tensor, self.queue)
        newest = F.normalize(embedding.float(), dim=1)
        queue.copy_(torch.cat([newest, queue])[: len(queue)])


def batch_loss(
    embedding: Tensor, rows: Tensor, temperature: float, queue: Tensor | None = None
) -> dict[str, Tensor]:
    """Return InfoNCE of all embeddings of a batch, as a share of that of guessing.

    Args:
        embedding: ``[B, n, D]``; those of a sample belong together.
        rows: the crop of each sample, int64 ``[B]``; negative where it has no number and differs
            from all others.
        temperature: the cosines are divided by it.
        queue: embeddings of length 1 of other crops, ``[M, D]``; None for none.
    """
    alone = torch.arange(len(rows), device=rows.device)
    crops = torch.where(rows < 0, alone, rows).repeat_interleave(embedding.shape[1])
    flat = embedding.flatten(0, 1)
    loss, _ = info_nce(flat, crops, temperature, queue)
    choices = len(flat) - 1 + (0 if queue is None else len(queue))
    return {"identity_loss": loss / math.log(max(choices, 2))}


def table_loss(
    cosines: Tensor, right: Tensor, mixed: tuple[Tensor, Tensor], temperature: float, smooth: float
) -> dict[str, Tensor]:
    """Return the cross-entropy over all crops as a share of that of guessing, and the accuracy.

    Args:
        cosines: of embeddings and the crops' vectors, ``[N, crops]``.
        right: each embedding's crop, int64 ``[N]``.
        mixed: the crop that a part of its image is from, int64 ``[N]``, and that part's share.
        temperature: the cosines are divided by it.
        smooth: probability that the right crop shares with all others.
    """
    logits = cosines.float() / temperature
    partner, share = mixed
    own, other = (
        F.cross_entropy(logits, crop, label_smoothing=smooth, reduction="none")
        for crop in (right, partner)
    )
    loss = ((1 - share) * own + share * other).mean()
    return {
        "identity_loss": loss / math.log(max(logits.shape[1], 2)),
        "identity_accuracy": (logits.argmax(1) == right).to(torch.float32).mean(),
    }


def retrieval_accuracy(parts: Tensor, persons: Tensor, crops: Tensor) -> float:
    """Return how often a part is most like its own person among all persons.

    Args:
        parts: embeddings ``[N, n, D]``.
        persons: embeddings ``[N, D]``.
        crops: the crop that each row is from, ``[N]``; several rows may be from one.

    Example:
        >>> parts = torch.tensor([[[1.0, 0.1]], [[1.0, 0.0]]])
        >>> retrieval_accuracy(parts, torch.eye(2), torch.tensor([0, 1]))
        0.5
    """
    parts, persons = F.normalize(parts, dim=-1), F.normalize(persons, dim=-1)
    found = [
        crops[(some @ persons.T).argmax(-1)] == own[:, None]
        for some, own in zip(parts.split(256), crops.split(256), strict=True)
    ]
    return round(float(torch.cat(found).to(torch.float32).mean()), 6)
