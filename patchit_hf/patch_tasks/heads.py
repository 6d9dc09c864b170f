"""Heads of the patch tasks: small, and not used after pretraining."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, cast

from torch import Tensor, nn

from patchit_hf.common.errors import InputError


def mlp_head(
    num_features: int,
    hidden: int | list[int],
    num_classes: int,
    *,
    patches: int = 1,
    each: int = 0,
) -> nn.Sequential:
    """Return global average pooling, FC + ReLU, and a linear layer initialised to zero.

    This is the head of the PatchIt paper: FC 256 + ReLU, and a classifier that starts at zero, so
    that training starts at chance level with any backbone.

    Args:
        num_features: channels C of the unpooled features ``[B, C, H, W]``.
        hidden: width of the hidden layer, 0 for none; several for as many layers.
        num_classes: number of outputs.
        patches: patches per sample; their features are joined, in order, before the hidden layer.
        each: width of an FC + ReLU layer that each patch passes before they are joined, 0 for none.

    Returns:
        Module from ``[B * patches, C, H, W]`` to ``[B, num_classes]``.

    Raises:
        InputError: if ``hidden`` is no width, or several.

    Example:
        >>> import torch
        >>> mlp_head(8, 16, 5, patches=2)(torch.rand(3 * 2, 8, 1, 1)).shape
        torch.Size([3, 5])
    """
    widths = hidden_widths(hidden)
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
    for name, out in _named(widths):
        layers[f"hidden{name}"] = _linear(width, out)
        layers[f"act{name}"] = nn.ReLU()
        width = out
    layers["classifier"] = zero_(nn.Linear(width, num_classes))
    return nn.Sequential(layers)


def dense_head(num_features: int, hidden: int | list[int], num_classes: int) -> nn.Sequential:
    """Return the same head for every location: 1x1 convolutions, the last initialised to zero.

    Args:
        num_features: channels C of the features ``[B, C, H, W]``.
        hidden: width of the hidden layer, 0 for none; several for as many layers.
        num_classes: number of outputs.

    Returns:
        Module from ``[B, C, H, W]`` to ``[B, num_classes, H, W]``.

    Raises:
        InputError: if ``hidden`` is no width, or several.

    Example:
        >>> import torch
        >>> dense_head(8, 16, 5)(torch.rand(3, 8, 6, 3)).shape
        torch.Size([3, 5, 6, 3])
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = num_features
    for name, out in _named(hidden_widths(hidden)):
        layer = nn.Conv2d(width, out, 1)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(cast(Tensor, layer.bias))
        layers[f"hidden{name}"] = layer
        layers[f"act{name}"] = nn.ReLU()
        width = out
    layers["classifier"] = zero_(nn.Conv2d(width, num_classes, 1))
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


def hidden_widths(hidden: object) -> list[int]:
    """Return the widths of the hidden layers.

    Args:
        hidden: one width, 0 for no hidden layer, or several, each at least 1.

    Raises:
        InputError: for anything else.

    Example:
        >>> hidden_widths(256), hidden_widths(0), hidden_widths([512, 256])
        ([256], [], [512, 256])
    """
    several = isinstance(hidden, list | tuple)
    widths: list[Any] = list(hidden) if isinstance(hidden, list | tuple) else [hidden]
    for width in widths:
        whole_number = isinstance(width, int) and not isinstance(width, bool)
        if not whole_number or width < (1 if several else 0):
            raise InputError(
                f"head_hidden={hidden!r} in --task-kwargs: a whole number, 0 for none, or several "
                "of at least 1, such as [512,256]"
            )
    return [width for width in widths if width]


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


def _named(widths: list[int]) -> list[tuple[str, int]]:
    """Return what tells layers apart, with their widths; the first has no number."""
    return [("" if index == 1 else str(index), width) for index, width in enumerate(widths, 1)]
