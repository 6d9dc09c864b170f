"""The share of a backbone's weights that the task's gradient reaches."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn


class GradientShare:
    """Counts which weights of a backbone ever get a gradient from the task.

    At 32 px a network of stride 32 ends in a 1x1 map. The outer taps of its last kernels then see
    only padding and learn nothing; the share shows how many weights that concerns.

    Args:
        backbone: the module to watch.
        frozen: names of its parameters that are frozen on purpose, and not counted.
        steps: number of optimiser steps to watch; in the first one there may be no gradient,
            because a head starts at zero.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> share = GradientShare(layer)
        >>> layer(torch.tensor([[1.0, 0.0]])).sum().backward()
        >>> share.update()
        >>> share.result()
        {'weights': 2, 'share': 0.5, 'untouched': []}
    """

    def __init__(
        self, backbone: nn.Module, frozen: Collection[str] = (), *, steps: int = 5
    ) -> None:
        self.left = steps
        named = backbone.named_parameters()
        self.parameters = {name: p for name, p in named if name not in frozen}
        self.reached = {
            name: torch.zeros_like(p, dtype=torch.bool) for name, p in self.parameters.items()
        }

    def update(self) -> None:
        """Record the current gradients."""
        self.left -= 1
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self.reached[name] |= parameter.grad != 0

    def result(self) -> dict[str, Any]:
        """Return the share over all weights, and the tensors that no gradient reached."""
        total = sum(mask.numel() for mask in self.reached.values())
        reached = sum(int(mask.sum()) for mask in self.reached.values())
        return {
            "weights": total,
            "share": round(reached / max(total, 1), 4),
            "untouched": [name for name, mask in self.reached.items() if not bool(mask.any())],
        }


def gradient_line(gradient: dict[str, Any], input_size: tuple[int, int]) -> str:
    """Return a line that says which share of the weights learns, and how to raise it."""
    line = (
        f"the task's gradient reached {gradient['share']:.1%} of the backbone's "
        f"{gradient['weights'] / 1e6:.1f} M weights at {input_size[0]}x{input_size[1]} px"
    )
    if gradient["share"] < 0.9:
        line += "; the others stay as initialised (--task-kwargs input_scale=2 reaches more)"
    return line
