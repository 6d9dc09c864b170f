"""Heads of the patch tasks: small, and not used after pretraining."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

from torch import Tensor, nn

from patchit_hf.common.errors import InputError


def mlp_head(
    num_features: int, hidden: int, num_classes: int, *, patches: int = 1, each: int = 0
) -> nn.Sequential:
    """Return global average pooling, FC + ReLU, and a linear layer initialised to zero.

    This is the head of the PatchIt paper: FC 256 + ReLU, and a classifier that starts at zero, so
    that training starts at chance level with any backbone.

    Args:
        num_features: channels C of the unpooled features ``[B, C, H, W]``.
        hidden: width of the hidden layer, 0 for none.
        num_classes: number of outputs.
        patches: patches per sample; their features are joined, in order, before the hidden layer.
        each: width of an FC + ReLU layer that each patch passes before they are joined, 0 for none.

    Returns:
        Module from ``[B * patches, C, H, W]`` to ``[B, num_classes]``.

    Raises:
        InputError: if ``hidden`` is negative.

    Example:
        >>> import torch
        >>> mlp_head(8, 16, 5, patches=2)(torch.rand(3 * 2, 8, 1, 1)).shape
        torch.Size([3, 5])
    """
    check_hidden(hidden)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(1)
    )
    width = num_features
    if each:
        layers["each"] = _linear(width, each)
        layers["each_act"] = nn.ReLU()
        width = each
    if patches > 1:
        layers["samples"] = nn.Unflatten(0, (-1, patches))
        layers["join"] = nn.Flatten(1)
        width *= patches
    if hidden:
        layers["hidden"] = _linear(width, hidden)
        layers["act"] = nn.ReLU()
        width = hidden
    layers["classifier"] = zero_(nn.Linear(width, num_classes))
    return nn.Sequential(layers)


def dense_head(num_features: int, hidden: int, num_classes: int) -> nn.Sequential:
    """Return the same head for every location: 1x1 convolutions, the last initialised to zero.

    Args:
        num_features: channels C of the features ``[B, C, H, W]``.
        hidden: width of the hidden layer, 0 for none.
        num_classes: number of outputs.

    Returns:
        Module from ``[B, C, H, W]`` to ``[B, num_classes, H, W]``.

    Raises:
        InputError: if ``hidden`` is negative.

    Example:
        >>> import torch
        >>> dense_head(8, 16, 5)(torch.rand(3, 8, 6, 3)).shape
        torch.Size([3, 5, 6, 3])
    """
    check_hidden(hidden)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if hidden:
        first = nn.Conv2d(num_features, hidden, 1)
        nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
        nn.init.zeros_(cast(Tensor, first.bias))
        layers["hidden"] = first
        layers["act"] = nn.ReLU()
    layers["classifier"] = zero_(nn.Conv2d(hidden or num_features, num_classes, 1))
    return nn.Sequential(layers)


def norm_head(num_features: int, hidden: int, out: int, *, zero: bool = False) -> nn.Sequential:
    """Return FC, batch normalisation, ReLU, and a linear layer: ``[N, C]`` to ``[N, out]``.

    A deeper head keeps what is particular to a task out of the backbone.

    Args:
        num_features: pooled features C.
        hidden: width of the hidden layer, at least 1.
        out: number of outputs.
        zero: start the last layer at zero.
    """
    last = nn.Linear(hidden, out)
    return nn.Sequential(
        OrderedDict(
            hidden=_linear(num_features, hidden),
            norm=nn.BatchNorm1d(hidden),
            act=nn.ReLU(),
            out=zero_(last) if zero else last,
        )
    )


def check_hidden(hidden: object) -> None:
    """Check the width of a hidden layer.

    Raises:
        InputError: if it is negative or not a whole number.
    """
    if not isinstance(hidden, int) or hidden < 0:
        raise InputError(f"head_hidden={hidden!r} in --task-kwargs: a whole number, 0 for none")


def zero_(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    """Set a layer's weights and biases to zero and return it."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _linear(width: int, out: int) -> nn.Linear:
    layer = nn.Linear(width, out)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer
