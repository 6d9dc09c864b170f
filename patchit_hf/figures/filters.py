"""The filters of a convolutional network's first layer, as images."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from patchit_hf.figures.page import MARGIN, Array, Page, page_width, with_look

SMALLEST = 7  # pixels; smaller filters show nothing
A_LINE, GAP = 16, 10  # filters per line, and pixels between them


@with_look
def first_layer_filters(backbone: nn.Module) -> Figure | None:
    """Draw the filters of the first layer.

    Args:
        backbone: any network.

    Returns:
        The figure. None unless the first convolution takes RGB and has overlapping windows of at
        least 7x7 px; a vision transformer's does not.
    """
    weights = filters(backbone)
    if weights is None:
        return None
    strength = np.sqrt(np.square(weights).sum((1, 2, 3)))
    order = np.argsort(-strength, kind="stable")
    high, wide = weights.shape[1:3]
    lines = math.ceil(len(order) / A_LINE)
    side = wide * max(1, ((page_width() - 2 * MARGIN + GAP) // A_LINE - GAP) // wide)
    page = Page(
        lines * (side + GAP) - GAP,
        f"The {len(order)} filters of the first layer",
        f"{high}x{wide} px, the strongest first (by the norm of the weights: "
        f"{strength.max():.2g} to {strength.min():.2g}).\n"
        "Mid-grey is zero; each is scaled to its own largest weight.",
    )
    for turn, number in enumerate(order.tolist()):
        row, column = divmod(turn, A_LINE)
        left, top = MARGIN + column * (side + GAP), row * (side + GAP)
        page.picture(scaled(weights[number]), left, top, side, (high, wide))
    return page.finish()


def filters(backbone: nn.Module) -> Array | None:
    """Return the first layer's filters, float64 ``[N, k, k, 3]``, or None; see above."""
    first = next((m for m in backbone.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.in_channels != 3 or first.groups != 1:
        return None
    sizes = zip(first.kernel_size, first.stride, strict=True)
    if any(size < SMALLEST or stride >= size for size, stride in sizes):
        return None
    weights: Array = first.weight.detach().cpu().double().permute(0, 2, 3, 1).numpy()
    return weights


def scaled(weights: Array) -> Array:
    """Return weights in [0, 1], with zero at one half and scaled to the largest."""
    picture: Array = 0.5 + weights / max(2 * np.abs(weights).max(), 1e-12)
    return picture
