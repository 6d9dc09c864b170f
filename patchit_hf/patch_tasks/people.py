"""People: where was this patch cut, and which other patches come from the same person?

Position alone can be learnt without looking at clothes: a sleeve is a sleeve in any colour. Here
several patches of a crop go through the trunk, and beside the position loss their embeddings are
drawn together and away from those of the other crops of the batch (InfoNCE over patches). To find
the other patches of a person the network has to keep what distinguishes people: cloth, colour,
texture, light::

    crop A: [head] [sleeve] [hip] [shoe]      position: each patch says its cell
    crop B: [bag]  [hair]   [knee] [hand]     people: A's patches find each other among all

Source of the loss: van den Oord et al., "Contrastive Predictive Coding", 2018, with several
positives as in Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020 (outside the
logarithm). Inputs ``[B, K, 3, S, S]``, targets ``[B, K]``: the cells; patches of one row are one
crop's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from patchit_hf.data.draws import Draws
from patchit_hf.errors import InputError
from patchit_hf.patch_tasks.base import GridTask, PatchBatch, accuracy
from patchit_hf.patch_tasks.heads import mlp_head

EMBEDDING = 128


class Task(GridTask):
    """The people task.

    Args:
        canvas: height and width of the crops, in pixels.
        patches_per_crop: distinct cells cut from a crop in training.
        people_weight: weight of the InfoNCE term beside the position loss.
        temperature: of the InfoNCE term.
        head_hidden: width of the heads' hidden layers.
        **options: see ``GridTask`` and ``PatchTransform``.

    Raises:
        InputError: for a value out of range, or a grid that the canvas cannot hold.
    """

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        *,
        patches_per_crop: int = 4,
        people_weight: float = 0.5,
        temperature: float = 0.2,
        head_hidden: int = 256,
        **options: Any,
    ) -> None:
        super().__init__(canvas, **options)
        if not isinstance(patches_per_crop, int) or not 2 <= patches_per_crop <= self.num_classes:
            raise InputError(
                f"patches_per_crop={patches_per_crop!r} in --task-kwargs: a whole number from 2 "
                f"to the {self.num_classes} cells"
            )
        for name, value in (("people_weight", people_weight), ("temperature", temperature)):
            if not isinstance(value, int | float) or not 0 < value <= 100:
                raise InputError(f"{name}={value!r} in --task-kwargs: a number above 0, up to 100")
        self.inputs_per_sample = self.patches_per_crop = patches_per_crop
        self.people_weight, self.temperature = people_weight, temperature
        self.head_hidden = head_hidden

    def sample(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut K patches from every crop, at distinct random cells.

        Returns:
            Inputs float32 ``[B, K, 3, S, S]`` and targets int64 ``[B, K]``.
        """
        cells = draws.permutations("cell", self.num_classes)[:, : self.patches_per_crop]
        return PatchBatch(self.transform(self.grid.cut(crops, cells, draws), draws), cells)

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut every cell of every crop.

        Returns:
            Inputs float32 ``[B, cells, 3, S, S]`` and targets int64 ``[B, cells]``.
        """
        cells = self.grid.all_cells(crops)
        return PatchBatch(self.transform(self.grid.cut(crops, cells, draws), None), cells)

    def head(self, num_features: int) -> nn.Module:
        """Return the two heads: over cells, and into the space of embeddings."""
        return PeopleHead(num_features, self.head_hidden, self.num_classes)

    def loss(self, output: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Return the sum of both losses, each of them, and how often each answer was right.

        Args:
            output: ``cells``, logits ``[B * K, cells]``, and ``embedding``, ``[B * K, D]``.
            targets: cells ``[B, K]``.
        """
        position = F.cross_entropy(output["cells"], targets.flatten())
        embedding = output["embedding"]
        crops = torch.arange(len(targets), device=targets.device)
        crops = crops.repeat_interleave(targets.shape[1])
        people, found = info_nce(embedding, crops, self.temperature)
        return {
            "loss": position + self.people_weight * people,
            "accuracy": accuracy(output["cells"], targets.flatten()),
            "position_loss": position,
            "people_loss": people,
            "people_accuracy": found,
        }

    def truth(self, targets: Tensor) -> Tensor:
        """Return the cells of all patches, ``[B * K]``."""
        return targets.flatten()

    def answers(self, output: dict[str, Tensor]) -> Tensor:
        """Return the cells answered, ``[B * K]``."""
        return output["cells"].argmax(1)

    def examples(self, batch: PatchBatch) -> Tensor:
        """Return the patches, ``[B * K, 1, 3, S, S]``."""
        return batch.inputs.flatten(0, 1)[:, None]


class PeopleHead(nn.Module):
    """A classifier over cells and a projection for the comparison of patches.

    Args:
        num_features: channels C of the features ``[N, C, H, W]``.
        hidden: width of the hidden layers.
        num_classes: number of cells.
    """

    def __init__(self, num_features: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.cells = mlp_head(num_features, hidden, num_classes)
        self.projection = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(1),
            nn.Linear(num_features, hidden or 256),
            nn.ReLU(),
            nn.Linear(hidden or 256, EMBEDDING),
        )

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return logits and embeddings."""
        return {"cells": self.cells(features), "embedding": self.projection(features)}


def info_nce(embedding: Tensor, crops: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the loss of finding a crop's other patches, and how often the nearest is one.

    In training with several processes the patches of all of them are candidates; the gradient
    flows back to each through the gather.

    Args:
        embedding: ``[N, D]``, any length.
        crops: which crop each patch is of, int64 ``[N]``.
        temperature: divides the cosine similarity.

    Returns:
        Two scalars: the mean over patches and positives, and the share of right nearest patches.
    """
    embedding = F.normalize(embedding.float(), dim=1)
    keys, labels, own = _gather(embedding, crops)
    similarity = embedding @ keys.T / temperature
    rows = torch.arange(len(embedding), device=keys.device)
    similarity[rows, own + rows] = float("-inf")
    positive = labels[own + rows][:, None] == labels[None]
    positive[rows, own + rows] = False
    log_share = torch.log_softmax(similarity, dim=1).masked_fill(~positive, 0.0)
    loss = -(log_share.sum(1) / positive.sum(1)).mean()
    found = positive.gather(1, similarity.argmax(1, keepdim=True)).to(torch.float32).mean()
    return loss, found


def _gather(embedding: Tensor, crops: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return all processes' embeddings and crops, and where this one's begin."""
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if not several or not torch.is_grad_enabled():
        return embedding, crops, 0
    from torch.distributed.nn.functional import all_gather

    rank, world, count = dist.get_rank(), dist.get_world_size(), len(embedding)
    keys = torch.cat(all_gather(embedding))
    number = int(crops.max()) + 1
    labels = torch.cat([crops + other * number for other in range(world)])
    return keys, labels, rank * count
