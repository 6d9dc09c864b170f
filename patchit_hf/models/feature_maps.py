"""Feature maps ``[B, C, H, W]`` of any timm family, whatever its own output looks like."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def feature_map(backbone: Any, inputs: Tensor) -> Tensor:
    """Return a timm model's unpooled features as ``[B, C, H, W]``, whatever its family.

    Networks that end in several branches with different grids, each pooled on its own (CrossViT,
    EfficientViM), have no common map. For them this is the pooled vector, ``[B, C, 1, 1]``.

    Args:
        backbone: a timm model whose features are maps, channels-last maps, tokens or vectors.
        inputs: ``[B, 3, H, W]``.

    Example:
        >>> import timm, torch
        >>> backbone = timm.create_model("resnet10t", num_classes=0)
        >>> feature_map(backbone, torch.zeros(2, 3, 64, 32)).shape
        torch.Size([2, 512, 2, 1])
    """
    output: Any = backbone.forward_features(inputs)
    channels = int(backbone.num_features)
    if isinstance(output, tuple | list):
        branches, output = output, output[-1]
        if channels not in output.shape[1:]:
            output = backbone.forward_head(branches, pre_logits=True)
    tensor: Tensor = output
    if tensor.ndim == 2:
        return tensor[:, :, None, None]
    if tensor.ndim == 3:
        return _tokens_to_map(backbone, tensor, inputs)
    last = getattr(backbone, "output_fmt", None) == "NHWC" or (
        tensor.shape[1] != channels and tensor.shape[-1] == channels
    )
    return tensor.permute(0, 3, 1, 2) if last else tensor


def _tokens_to_map(backbone: Any, tokens: Tensor, inputs: Tensor) -> Tensor:
    tokens = tokens[:, int(getattr(backbone, "num_prefix_tokens", 0) or 0) :]
    count = tokens.shape[1]
    aspect = inputs.shape[-2] / inputs.shape[-1]
    fits = [h for h in range(1, count + 1) if count % h == 0]
    height = min(fits, key=lambda h: abs(h * h / count / aspect - 1))
    maps: Tensor = tokens.transpose(1, 2).unflatten(2, (height, count // height))
    return maps
