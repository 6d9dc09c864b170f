"""Heads for the pretext: small, thrown away when the backbone moves on."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from patchit_hf.errors import InputError


def mlp_head(num_features: int, hidden: int, num_classes: int) -> nn.Sequential:
    """Return global average pooling, FC + ReLU, and a linear layer that starts at zero.

    The authors' pretext head is FC 256 + ReLU and a softmax whose layer is initialised to zero, so
    that training starts at chance whatever the backbone.

    Args:
        num_features: channels C of the unpooled features ``[B, C, H, W]``.
        hidden: width of the hidden layer, 0 for none.
        num_classes: number of outputs.

    Raises:
        InputError: if ``hidden`` is negative.
    """
    if not isinstance(hidden, int) or hidden < 0:
        raise InputError(f"head_hidden={hidden!r} in --task-kwargs: a whole number, 0 for none")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(1)
    )
    if hidden:
        first = nn.Linear(num_features, hidden)
        nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
        nn.init.zeros_(first.bias)
        layers["hidden"] = first
        layers["act"] = nn.ReLU()
    last = nn.Linear(hidden or num_features, num_classes)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    layers["classifier"] = last
    return nn.Sequential(layers)
