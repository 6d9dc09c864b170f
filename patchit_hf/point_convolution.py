"""Convolutions of which one position is left, as the matrix products that they are.

A patch of 32 px ends in a map of 1x1 in any network of stride 32. A 3x3 kernel on it multiplies
eight of its nine taps by padding, and CPU libraries are slow at just that: on AVX2 the backward
pass of one 512-channel 3x3 convolution on a 1x1 map takes as long as the rest of a ResNet-10.
(Some also get its bf16 gradient wrong.) With the taps that meet the map alone, the same numbers are
one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class PointConvolutions(TorchFunctionMode):
    """While it is entered, such convolutions on the CPU are matrix products.

    The results differ from those of ``torch.conv2d`` by rounding alone. Everything else is called
    as it is.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch's, or its stand-in."""
        if func is torch.conv2d:
            found = _as_product(*args, **(kwargs or {}))
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))


def _as_product(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return the convolution ``[B, O, 1, 1]``; None where it is another one."""
    if input.device.type != "cpu" or input.ndim != 4 or groups != 1 or isinstance(padding, str):
        return None
    taps = []
    for axis in (0, 1):
        size, kernel = input.shape[2 + axis], weight.shape[2 + axis]
        step, pad, spread = (_pair(value)[axis] for value in (stride, padding, dilation))
        seen = slice(pad, pad + size)  # of the kernel at its first position, where the map lies
        if spread != 1 or seen.stop > kernel or (size + 2 * pad - kernel) // step != 0:
            return None
        taps.append(seen)
    product = F.linear(input.flatten(1), weight[:, :, taps[0], taps[1]].flatten(1), bias)
    return product[:, :, None, None]


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
