"""A frozen backbone, and images on their way to its features."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from patchit_hf.common.draws import epoch_order
from patchit_hf.common.errors import InputError
from patchit_hf.common.freed_memory import freed_memory_kept
from patchit_hf.data.images import Images
from patchit_hf.downstream.augment import Geometry, centre
from patchit_hf.models.backbone import has_batch_norm
from patchit_hf.models.features import pooled_features, reestimate_batch_norm

STATISTICS_CROPS = 2000  # at most, on which batch statistics are estimated
STATISTICS_BATCH = 64  # crops of a batch there, each of which counts alike


@dataclass(frozen=True)
class Extractor:
    """A frozen backbone and how crops get to it.

    Attributes:
        backbone: the network, with or without its classifier.
        geometry: from crops to inputs.
        mean: per channel, of crops in [0, 1], where the backbone is.
        std: per channel, there too.
        fit: how images get to the canvas; see ``patchit_hf.data.canvas.to_canvas``.
    """

    backbone: nn.Module
    geometry: Geometry
    mean: Tensor
    std: Tensor
    fit: str = "squash"

    def inputs(self, crops: Tensor) -> Tensor:
        """Return the network's input, where it is, of crops uint8 ``[B, 3, H, W]``."""
        x = centre(crops.to(self.mean.device), self.geometry)[0]
        return (x - self.mean[:, None, None]) / self.std[:, None, None]

    def __call__(self, batches: Iterable[Tensor]) -> Tensor:
        """Return averaged feature maps of crops uint8 ``[B, 3, H, W]``: float32 ``[N, C]``.

        They are on the CPU.
        """
        return pooled_features(self.backbone, map(self.inputs, batches))

    def reestimated(self, batches: Iterable[Tensor]) -> Extractor:
        """Return a copy whose batch statistics are those of crops uint8 ``[B, 3, H, W]``."""
        backbone = copy.deepcopy(self.backbone)
        reestimate_batch_norm(backbone, (self.inputs(part) for part in batches if len(part) > 1))
        return dataclasses.replace(self, backbone=backbone)


def sampled(size: int, count: int = STATISTICS_CROPS) -> Tensor:
    """Return at most ``count`` of ``size`` indices, evenly spread and always the same.

    Example:
        >>> sampled(9, 3).tolist()
        [0, 4, 8]
    """
    return torch.linspace(0, size - 1, min(size, count)).round().long()


@freed_memory_kept()
def embed(
    extractor: Extractor, images: Images, batch_size: int, *, reestimate: bool
) -> NDArray[np.float32]:
    """Return features of whole images; the backbone is left as it is.

    Args:
        extractor: the backbone.
        images: one or many.
        batch_size: images at a time.
        reestimate: estimate batch statistics on at most 2000 of the images first.

    Returns:
        float32 ``[N, C]``; ``[C]`` for a single image.

    Raises:
        InputError: for an image that cannot be used, or too few for statistics.
    """
    canvas, fit = extractor.geometry.canvas, extractor.fit

    def crops(size: int, rows: Tensor | None = None) -> Iterator[Tensor]:
        return images.batches(canvas, fit, size, rows)

    training = extractor.backbone.training
    if reestimate and has_batch_norm(extractor.backbone):
        if len(images) < 2:
            raise InputError(
                f"reestimate_batch_norm: {len(images)} images have no statistics; give at least 2"
            )
        rows = sampled(len(images))
        rows = rows[epoch_order(0, 0, len(rows))]  # mixed; see evaluate.features.reestimated
        extractor = extractor.reestimated(crops(STATISTICS_BATCH, rows))
    batches = crops(batch_size) if len(images) else iter([torch.zeros(1, 3, *canvas).byte()])
    features: NDArray[np.float32] = extractor(batches).numpy()[: len(images)]
    extractor.backbone.train(training)
    return features[0] if images.single else features
