"""Which of a backbone's weights the task's gradient reaches."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class GradientShare:
    """Counts which weights of a backbone ever got a gradient from the task.

    At 32 px a net of stride 32 ends in a 1x1 map: the outer taps of its last stage's kernels only
    ever meet padding and learn nothing. The share says so.

    Args:
        backbone: the module to watch.
        steps: how many optimiser steps to watch; the first has none where a head starts at zero.
    """

    def __init__(self, backbone: nn.Module, steps: int = 5) -> None:
        self.left = steps
        self.parameters = dict(backbone.named_parameters())
        self.reached = {
            name: torch.zeros_like(p, dtype=torch.bool) for name, p in self.parameters.items()
        }

    def update(self) -> None:
        """Look at the gradients as they are now."""
        self.left -= 1
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self.reached[name] |= parameter.grad != 0

    def result(self) -> dict[str, Any]:
        """Return the share over all weights, and the tensors that nothing reached."""
        total = sum(mask.numel() for mask in self.reached.values())
        reached = sum(int(mask.sum()) for mask in self.reached.values())
        return {
            "weights": total,
            "share": round(reached / max(total, 1), 4),
            "untouched": [name for name, mask in self.reached.items() if not bool(mask.any())],
        }


def gradient_line(gradient: dict[str, Any], input_size: tuple[int, int]) -> str:
    """Say which share of the weights learns, and what would raise it."""
    line = (
        f"the task's gradient reached {gradient['share']:.1%} of the backbone's "
        f"{gradient['weights'] / 1e6:.1f} M weights at {input_size[0]}x{input_size[1]} px"
    )
    if gradient["share"] < 0.9:
        line += "; the others stay as initialised (--task-kwargs input_scale=2 reaches more)"
    return line
