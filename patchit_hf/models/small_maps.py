"""Convolutions that libraries for the CPU are slow at or get wrong, computed as matrix products.

A patch of 32 px ends in maps of 2x2 and 1x1 in any network of stride 32. Most taps of a 3x3 kernel
then fall on padding, and CPU libraries are slow in just this case: on AVX2 the backward pass of one
512-channel 3x3 convolution on a 1x1 map takes as long as the rest of a ResNet-10, and depthwise
convolutions take up most of a MobileNet's step. (Some libraries also get the bf16 gradient wrong.)
With only the taps that lie on the map, the same result is one matrix product, or a few elementwise
products if the convolution is depthwise.

A whole crop of 128x64 ends in a map of 4x2. With its many channels the kernel takes megabytes. One
matrix product with the gathered neighbourhoods reads it fewer times than those libraries do.

A 1x1 convolution with a stride and few input channels, as RepVGG, FastViT and MobileOne have beside
their stem, has a wrong weight gradient in oneDNN where memory is channels-last (its issue 6035;
torch 2.14.1 with AVX2: wrong by 80 % with two threads, a crash with one). It is a matrix product of
every s-th pixel here. ``benchmarks/convolutions.py`` compares all convolutions of timm's families
with double precision.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

PRODUCTS = 16  # maximum of input x output positions of a covered map: 2x2 by 2x2
POSITIONS = 32  # maximum of output positions of a wide kernel: 8x4
WIDE = 2**20  # minimum number of weights of a wide kernel
BLOCK = 16  # channels in a vector of AVX-512; with fewer, oneDNN's strided 1x1 kernel is not safe


def small_map_convolutions(inputs: Tensor) -> AbstractContextManager[Any]:
    """Return ``SmallMapConvolutions`` for inputs on the CPU, and an empty context for others.

    The mode slows down every call of torch, and a GPU would wait for those calls.
    """
    return SmallMapConvolutions() if inputs.device.type == "cpu" else nullcontext()


class SmallMapConvolutions(TorchFunctionMode):
    """While active, such convolutions on the CPU are computed as matrix products; see above.

    The results differ from those of ``torch.conv2d`` only by rounding. All other functions are
    called unchanged.

    Example:
        >>> patch, kernel = torch.ones(1, 1, 1, 1), torch.ones(1, 1, 3, 3)
        >>> with SmallMapConvolutions():
        ...     torch.conv2d(patch, kernel, padding=1)
        tensor([[[[1.]]]])
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a torch function, or its replacement."""
        if func is torch.conv2d:
            found = _as_product(*args, **(kwargs or {}))
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))


def is_replaced(input: Tensor, weight: Tensor, *rest: Any) -> bool:
    """Return whether ``SmallMapConvolutions`` computes a convolution another way than torch.

    Args:
        input: the map ``[B, I, H, W]``.
        weight: the kernels ``[O, I / groups, h, w]``.
        *rest: bias, stride, padding, dilation and groups, as ``torch.conv2d`` takes them.

    Example:
        >>> is_replaced(torch.ones(1, 3, 8, 8), torch.ones(4, 3, 1, 1), None, 2)
        True
    """
    return _as_product(input, weight, *rest) is not None


def _as_product(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return the convolution ``[B, O, H, W]``; None if it is not one of those handled here."""
    if input.device.type != "cpu" or input.ndim != 4 or isinstance(padding, str):
        return None
    if _is_thin(weight, _pair(stride)) and groups == 1:
        return _strided(input, weight, bias, _pair(stride), _pair(padding))
    depthwise = groups == input.shape[1] == weight.shape[0]
    if _pair(dilation) != (1, 1) or not (groups == 1 or depthwise):
        return None
    size = (input.shape[2], input.shape[3])
    axes = [
        (size[axis], weight.shape[2 + axis], _pair(stride)[axis], _pair(padding)[axis])
        for axis in (0, 1)
    ]
    rows, columns = (_windows(*axis) for axis in axes)
    if rows and columns and len(rows) * len(columns) * size[0] * size[1] <= PRODUCTS:
        return _covered(input, weight, bias, rows, columns, depthwise)
    height, width = (_positions(*axis) for axis in axes)
    wide = groups == 1 and weight.numel() >= WIDE and weight[0, 0].numel() > 1
    if wide and min(height, width) > 0 and height * width <= POSITIONS:
        return _gathered(input, weight, bias, _pair(stride), _pair(padding), (height, width))
    return None


def _is_thin(weight: Tensor, stride: tuple[int, int]) -> bool:
    """Whether a kernel is 1x1, has a stride, and takes fewer channels than a vector holds."""
    return weight.shape[2:] == (1, 1) and max(stride) > 1 and weight.shape[1] < BLOCK


def _strided(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """Return a 1x1 convolution from every s-th pixel."""
    down, right = padding
    x = F.pad(input.permute(0, 2, 3, 1), (0, 0, right, right, down, down))
    x = x[:, :: stride[0], :: stride[1]]
    return F.linear(x, weight.flatten(1), bias).permute(0, 3, 1, 2)


def _covered(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: list[slice],
    columns: list[slice],
    depthwise: bool,
) -> Tensor:
    """Return the convolution from the taps ``rows`` x ``columns`` that lie on the map."""
    kernel = weight.permute(0, 2, 3, 1)  # channels last, like the maps
    taps = torch.stack([kernel[:, i, j] for i in rows for j in columns])  # [P, O, H, W, I]
    x = input.permute(0, 2, 3, 1)
    if depthwise:
        products = x.flatten(1, 2)[:, None] * taps.flatten(2).mT  # [B, P, HW, O]
        found = products.sum(2)
        found = found if bias is None else found + bias
    else:
        repeated = None if bias is None else bias.repeat(len(taps))
        found = F.linear(x.flatten(1), taps.flatten(2).flatten(0, 1), repeated)
    return found.view(len(input), len(rows), len(columns), len(weight)).permute(0, 3, 1, 2)


def _gathered(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    output: tuple[int, int],
) -> Tensor:
    """Return the convolution by gathering what each of the ``output`` positions sees."""
    down, right = padding
    x = F.pad(input.permute(0, 2, 3, 1), (0, 0, right, right, down, down))
    height, width = (step * (count - 1) + 1 for step, count in zip(stride, output, strict=True))
    seen = [
        x[:, i : i + height : stride[0], j : j + width : stride[1]]
        for i in range(weight.shape[2])
        for j in range(weight.shape[3])
    ]
    kernel = weight.permute(0, 2, 3, 1).flatten(1)  # [O, hwI]
    return F.linear(torch.cat(seen, 3), kernel, bias).permute(0, 3, 1, 2)


def _positions(size: int, kernel: int, step: int, pad: int) -> int:
    return (size + 2 * pad - kernel) // step + 1


def _windows(size: int, kernel: int, step: int, pad: int) -> list[slice]:
    """Return the part of the kernel that lies on the map at each position along an axis.

    Returns:
        An empty list if the kernel does not cover the map at every position.
    """
    starts = [pad - step * i for i in range(_positions(size, kernel, step, pad))]
    covers = all(0 <= start and start + size <= kernel for start in starts)
    return [slice(start, start + size) for start in starts] if covers else []


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
