"""Features of whole crops, as a user of the exported backbone gets them.

Patch statistics are not crop statistics: batch normalisation's running means, learnt on patches,
are estimated again on whole crops before any probe, on a copy.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchit_hf.models.backbone import BATCH_NORMS, BackboneSpec, feature_map, has_batch_norm
from patchit_hf.patch_tasks.base import PatchTask

if TYPE_CHECKING:
    from patchit_hf.models.patch_task_model import PatchTaskModel

DIVISOR = 32  # what timm's strides divide


def crop_size(task: PatchTask, divisor: int = DIVISOR) -> tuple[int, int]:
    """Return height and width at which whole crops are shown to the trained backbone, in pixels.

    The area that patches are cut from, at the scale at which the network saw it, rounded to the
    nearest that the divisor divides.
    """
    scale = task.transform.input_scale
    height, width = (max(1, round(side * scale / divisor)) * divisor for side in task.covered)
    return height, width


def divisor(backbone: Any) -> int:
    """Return what the sides of the input have to be multiples of: 32, or patches of, say, 14 px."""
    stages = getattr(backbone, "feature_info", None) or [{}]
    stride = stages[-1].get("reduction", DIVISOR) if isinstance(stages, list) else DIVISOR
    return DIVISOR if DIVISOR % stride == 0 or stride % DIVISOR == 0 else int(stride)


def whole_crops(
    task: PatchTask, spec: BackboneSpec, crops: Tensor, divisor: int = DIVISOR
) -> Tensor:
    """Bring crops to what the backbone sees of them.

    Args:
        task: the task that it was trained by.
        spec: how it was built; a network of a fixed size gets crops of that size.
        crops: uint8 ``[B, 3, H, W]`` on the task's canvas.
        divisor: see the function of that name.

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


@torch.no_grad()
def reestimate_batch_norm(backbone: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set running means and variances to those of the given inputs; weights stay as they are.

    Args:
        backbone: changed in place, and left in evaluation mode.
        batches: inputs ``[B, 3, h, w]``, at least two pictures each.

    Returns:
        Number of layers whose statistics were estimated.
    """
    layers = [m for m in backbone.modules() if isinstance(m, BATCH_NORMS)]
    layers = [layer for layer in layers if layer.track_running_stats]
    backbone.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches, each alike
        layer.train()
    if layers:
        for inputs in batches:
            feature_map(backbone, inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    backbone.eval()
    return len(layers)


@torch.no_grad()
def pooled_features(backbone: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Return averaged feature maps of inputs ``[B, 3, h, w]``: float32 ``[N, C]`` on the CPU."""
    backbone.eval()
    return torch.cat(
        [feature_map(backbone, inputs).float().mean((2, 3)).cpu() for inputs in batches]
    )


def crop_backbone(
    model: PatchTaskModel, task: PatchTask, crops: Tensor, device: torch.device
) -> nn.Module:
    """Return a copy of the backbone whose batch statistics are those of whole crops.

    Args:
        model: left as it is.
        task: the task that it is trained by.
        crops: uint8 ``[N, 3, H, W]`` to estimate them on.
        device: where to compute.
    """
    backbone = copy.deepcopy(model.backbone)
    if has_batch_norm(backbone):
        reestimate_batch_norm(backbone, _inputs(task, model, crops, device))
    return backbone.eval()


def crop_features(
    model: PatchTaskModel,
    task: PatchTask,
    crops: Tensor,
    device: torch.device,
    backbone: nn.Module | None = None,
) -> Tensor:
    """Return features of whole crops uint8 ``[N, 3, H, W]``: float32 ``[N, C]`` on the CPU.

    Args:
        model: the trained model.
        task: the task that it is trained by.
        crops: uint8 ``[N, 3, H, W]``.
        device: where to compute.
        backbone: what to compute with instead of the model's own, see ``crop_backbone``.
    """
    chosen: Any = model.backbone if backbone is None else backbone
    return pooled_features(chosen, _inputs(task, model, crops, device))


def _inputs(
    task: PatchTask, model: PatchTaskModel, crops: Tensor, device: torch.device, size: int = 64
) -> Iterator[Tensor]:
    # Parts of nearly one size, so that each counts alike in the batch statistics.
    for part in crops.tensor_split(math.ceil(len(crops) / size)):
        yield whole_crops(task, model.spec, part.to(device), divisor(model.backbone))
