"""Features of whole crops, as users of the exported backbone get them.

Statistics of patches differ from those of crops. Before any probe, the running means of batch
normalisation, which come from patches, are therefore re-estimated on whole crops, in a copy.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchit_hf.common.freed_memory import freed_memory_kept
from patchit_hf.models.backbone import BATCH_NORMS, BackboneSpec, feature_map, has_batch_norm
from patchit_hf.patch_tasks.base import PatchTask

DIVISOR = 32  # what timm's strides divide


class HasBackbone(Protocol):
    """A model with a backbone, such as a ``PatchTaskModel``.

    Attributes:
        backbone: the network.
        spec: how it was built.
    """

    backbone: nn.Module
    spec: BackboneSpec


def crop_size(task: PatchTask, divisor: int = DIVISOR) -> tuple[int, int]:
    """Return the height and width at which the trained backbone sees whole crops, in pixels.

    The area that patches are cut from, at the scale used in training, with each side rounded to the
    nearest multiple of the divisor.
    """
    scale = task.crop_scale
    height, width = (max(1, round(side * scale / divisor)) * divisor for side in task.covered)
    return height, width


def divisor(backbone: Any) -> int:
    """Return what the input's sides must be multiples of: 32, or a patch size such as 14 px."""
    stages = getattr(backbone, "feature_info", None) or [{}]
    stride = stages[-1].get("reduction", DIVISOR) if isinstance(stages, list) else DIVISOR
    return DIVISOR if DIVISOR % stride == 0 or stride % DIVISOR == 0 else int(stride)


def whole_crops(
    task: PatchTask, spec: BackboneSpec, crops: Tensor, divisor: int = DIVISOR
) -> Tensor:
    """Turn crops into inputs of the backbone.

    Args:
        task: the task that it was trained on.
        spec: how it was built; a network of a fixed size gets crops of that size.
        crops: uint8 ``[B, 3, H, W]`` on the task's canvas.
        divisor: see the function ``divisor``.

    Returns:
        float32 ``[B, 3, h, w]``, normalised.
    """
    (height, width), (full_h, full_w) = task.covered, task.canvas
    top, left = (full_h - height) // 2, (full_w - width) // 2
    centre = crops[:, :, top : top + height, left : left + width].to(torch.float32) / 255
    size = task.input_size if spec.fixed_size else crop_size(task, divisor)
    if size != (height, width):
        centre = F.interpolate(centre, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    return task.transform.normalize(centre)


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """While the context is active, normalise by the statistics of each batch, and keep none.

    All other layers are in evaluation mode, so that the results depend on weights and inputs alone.

    Args:
        model: left as it was.

    Example:
        >>> norm = nn.BatchNorm1d(1)
        >>> with batch_statistics(norm):
        ...     round(norm(torch.tensor([[4.0], [6.0]]))[1].item(), 3)
        1.0
        >>> norm.running_mean
        tensor([0.])
    """
    layers = [m for m in model.modules() if isinstance(m, BATCH_NORMS)]
    before = [(b, b.clone()) for layer in layers for b in layer.buffers(recurse=False)]
    training = model.training
    model.eval()
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
        model.eval()
        model.train(training)


@freed_memory_kept()
@torch.no_grad()
def reestimate_batch_norm(backbone: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set running means and variances to those of the given inputs; weights stay unchanged.

    Args:
        backbone: changed in place, and left in evaluation mode.
        batches: inputs ``[B, 3, h, w]``, at least two images each.

    Returns:
        Number of layers whose statistics were estimated.

    Example:
        >>> norm = nn.Sequential(nn.BatchNorm2d(3))
        >>> norm.forward_features, norm.num_features = norm.forward, 3
        >>> reestimate_batch_norm(norm, [torch.full((2, 3, 4, 4), 7.0)])
        1
        >>> norm[0].running_mean
        tensor([7., 7., 7.])
    """
    layers = [m for m in backbone.modules() if isinstance(m, BATCH_NORMS)]
    layers = [layer for layer in layers if layer.track_running_stats]
    backbone.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches, weighted equally
        layer.train()
    if layers:
        for inputs in batches:
            feature_map(backbone, inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    backbone.eval()
    return len(layers)


@freed_memory_kept()
@torch.no_grad()
def pooled_features(backbone: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Return averaged feature maps of inputs ``[B, 3, h, w]``: float32 ``[N, C]`` on the CPU."""
    backbone.eval()
    return torch.cat(
        [feature_map(backbone, inputs).float().mean((2, 3)).cpu() for inputs in batches]
    )


def crop_backbone(
    model: HasBackbone, task: PatchTask, crops: Tensor, device: torch.device
) -> nn.Module:
    """Return a copy of the backbone with the batch statistics of whole crops.

    Args:
        model: not changed.
        task: the task that it is trained on.
        crops: uint8 ``[N, 3, H, W]``, the crops to estimate the statistics on.
        device: where to compute.
    """
    backbone = copy.deepcopy(model.backbone)
    if has_batch_norm(backbone):
        reestimate_batch_norm(backbone, _inputs(task, model, crops, device))
    return backbone.eval()


def crop_features(
    model: HasBackbone,
    task: PatchTask,
    crops: Tensor,
    device: torch.device,
    backbone: nn.Module | None = None,
) -> Tensor:
    """Return features of whole crops uint8 ``[N, 3, H, W]``: float32 ``[N, C]`` on the CPU.

    Args:
        model: the trained model.
        task: the task that it is trained on.
        crops: uint8 ``[N, 3, H, W]``.
        device: where to compute.
        backbone: a backbone to use instead of the model's own, see ``crop_backbone``.
    """
    chosen: Any = model.backbone if backbone is None else backbone
    return pooled_features(chosen, _inputs(task, model, crops, device))


def _inputs(
    task: PatchTask, model: HasBackbone, crops: Tensor, device: torch.device, size: int = 64
) -> Iterator[Tensor]:
    # Parts of nearly equal size, because each has the same weight in the batch statistics.
    for part in crops.tensor_split(math.ceil(len(crops) / size)):
        yield whole_crops(task, model.spec, part.to(device), divisor(model.backbone))
