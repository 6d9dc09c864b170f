"""People: where was this patch cut, and which other patches show the same person?

Position can be learnt without looking at clothes: a sleeve is a sleeve in any colour. Here several
patches of each crop pass the backbone. Besides the position loss, a contrastive loss (InfoNCE over
patches) pulls their embeddings together and pushes those of other crops away. To find the other
patches of a person, the network has to keep what tells people apart: fabric, colour, texture,
light::

    crop A: [head] [sleeve] [hip] [shoe]      position: name the cell of each patch
    crop B: [bag]  [hair]   [knee] [hand]     people: find A's patches among all of the batch

Source of the loss: van den Oord et al., "Contrastive Predictive Coding", 2018, with several
positives as in Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020 (summed
outside the logarithm). Inputs ``[B, K, 3, S, S]``, targets ``[B, K]``: the cells. A row holds the
patches of one crop.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks.base import GridTask, PatchBatch, accuracy
from patchit_hf.patch_tasks.contrast import info_nce
from patchit_hf.patch_tasks.heads import hidden_widths, mlp_head

EMBEDDING = 128  # dimensions of the projection


class Task(GridTask):
    """Name the cells of several patches, and find those of the same crop.

    Args:
        canvas: height and width of the crops, in pixels.
        patches_per_crop: number of different cells cut from each crop in training (K).
        people_weight: weight of the InfoNCE loss; that of the position loss is 1.
        temperature: temperature of the InfoNCE loss.
        head_hidden: width of the hidden layer of both heads; several, such as [512,256], for as
            many hidden layers of the one that names cells.
        **options: see ``GridTask`` and ``PatchTransform``.

    Raises:
        InputError: for a value out of range, or a grid that the canvas cannot hold.

    Example:
        >>> import torch
        >>> from patchit_hf import create_task
        >>> from patchit_hf.common.draws import Draws
        >>> task = create_task("people")
        >>> crops = torch.zeros(4, 3, 200, 100, dtype=torch.uint8)
        >>> batch = task.sample(crops, Draws(seed=0, numbers=torch.arange(4)))
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([4, 4, 3, 32, 32]), torch.Size([4, 4]))
        >>> task.num_classes
        18
    """

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        *,
        patches_per_crop: int = 4,
        people_weight: float = 0.5,
        temperature: float = 0.2,
        head_hidden: int | list[int] = 256,
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
        """Cut K patches from every crop, at different random cells.

        Returns:
            Inputs float32 ``[B, K, 3, S, S]`` and targets int64 ``[B, K]``.
        """
        crops = self.transform.mirrored(crops, draws)
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
        """Return a classifier over the cells and a projection to embeddings."""
        return PeopleHead(num_features, self.head_hidden, self.num_classes)

    def loss(self, output: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Return the weighted sum of both losses, each of them, and both accuracies.

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
    """A classifier over cells, and a projection to embeddings in which patches are compared.

    Args:
        num_features: channels C of the features ``[N, C, H, W]``.
        hidden: width of the hidden layer; several for as many hidden layers of the classifier.
        num_classes: number of cells.
    """

    def __init__(self, num_features: int, hidden: int | list[int], num_classes: int) -> None:
        super().__init__()
        self.cells = mlp_head(num_features, hidden, num_classes)
        width = next(iter(hidden_widths(hidden)), 256)
        self.projection = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(1),
            nn.Linear(num_features, width),
            nn.ReLU(),
            nn.Linear(width, EMBEDDING),
        )

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return ``cells``, logits ``[N, cells]``, and ``embedding``, ``[N, 128]``."""
        return {"cells": self.cells(features), "embedding": self.projection(features)}
