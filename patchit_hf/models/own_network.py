"""Networks that are not timm's, but have its ``forward_features`` and ``num_features``.

They are trained as they are. timm cannot build them by name, so whoever loads an export of one
brings the network: ``PatchTaskModel.from_pretrained(folder, backbone=Mine())``.
"""

from __future__ import annotations

import copy
from typing import Any

import timm
import torch
from torch import nn

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.models.backbone import BackboneSpec
from patchit_hf.models.feature_maps import feature_map
from patchit_hf.models.features import crop_size, divisor
from patchit_hf.models.initial_weights import Statistics
from patchit_hf.patch_tasks.base import PatchTask


def is_own(model: nn.Module) -> bool:
    """Return whether a model is no network of timm's, but has what is needed to train it.

    Example:
        >>> mine = nn.Conv2d(3, 8, 3)
        >>> is_own(mine)
        False
        >>> mine.forward_features, mine.num_features = mine.forward, 8
        >>> is_own(mine)
        True
    """
    cfg = getattr(model, "pretrained_cfg", None)
    name = cfg.get("architecture") if isinstance(cfg, dict) else None
    channels = getattr(model, "num_features", None)
    whole = isinstance(channels, int) and not isinstance(channels, bool) and channels > 0
    return (
        not (name and timm.is_model(name))
        and callable(getattr(model, "forward_features", None))
        and whole
    )


def own_backbone(given: nn.Module, task: PatchTask) -> tuple[nn.Module, BackboneSpec]:
    """Return a copy of a network, in float32 and training mode, and its description.

    Args:
        given: the network; it stays as it is.
        task: the patch task; it says which sizes the network has to take.

    Raises:
        InputError: if it cannot be copied, or does not take such inputs.
    """
    name = type(given).__name__
    try:
        backbone = copy.deepcopy(given).float()
        device = next(backbone.parameters()).device
    except StopIteration:
        raise InputError(f"model: this {name} has no weights") from None
    except Exception as error:  # a module may hold anything
        raise InputError(f"model: this {name} cannot be copied: {one_line(error)}") from error
    problem = _problem(backbone, task.input_size, device)
    if problem is not None:
        height, width = task.input_size
        raise InputError(f"model: this {name} fails on inputs of {height}x{width} px: {problem}")
    whole = crop_size(task, divisor(backbone))
    fixed = _problem(backbone, whole, device) is not None
    return backbone.train(), BackboneSpec(name, {}, fixed, own=True)


def expected_statistics(model: Any) -> Statistics | None:
    """Return mean and deviation per channel that a network says it expects; None if it does not."""
    cfg = getattr(model, "pretrained_cfg", None)
    found = (cfg.get("mean"), cfg.get("std")) if isinstance(cfg, dict) else (None, None)
    if not all(isinstance(values, tuple | list) and len(values) == 3 for values in found):
        return None
    mean, std = (tuple(float(v) for v in values) for values in found)  # type: ignore[union-attr]
    return mean, std


def _problem(backbone: Any, size: tuple[int, int], device: torch.device) -> str | None:
    """Return why a network cannot be used on inputs of a size; None if it can."""
    backbone.eval()
    try:
        with torch.no_grad():
            features = feature_map(backbone, torch.zeros(2, 3, *size, device=device))
    except Exception as error:  # a network may fail in any way on an unsuitable size
        return one_line(error)
    if features.ndim != 4 or features.shape[:2] != (2, backbone.num_features):
        return (
            f"forward_features gives {tuple(features.shape)}; must be [2, {backbone.num_features}, "
            "H, W] (num_features), or tokens [2, N, num_features]"
        )
    if min(features.shape[-2:]) < 1:
        return "its last feature map is empty"
    return None if bool(torch.isfinite(features).all()) else "its features are not finite"
