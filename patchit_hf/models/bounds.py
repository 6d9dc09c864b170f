"""Refuse a network that a record describes far larger than the weights that lie beside it.

Names and numbers of an export are somebody else's: a width of ten million would take the memory of
the machine, or its time, before a single weight is compared. The network is first built without
memory, on torch's meta device, and given up as soon as it has too many weights or layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from patchit_hf.common.errors import InputError, one_line

LAYERS = 15_000  # layers and tensors of a network; the largest of timm's have some thousands
WEIGHTS = 200_000_000  # of a network, whatever the file beside it holds
TIMES = 2  # as many weights as the file holds may a network have beyond that
SIDE = 16_384  # largest height or width of a canvas, in pixels

Shapes = dict[str, tuple[int, ...]]


class _TooLargeError(Exception):
    """A network grew beyond its bounds while it was built."""


def check_size(build: Callable[[], Any], shapes: Shapes, where: str) -> Any:
    """Check that a network is about as large as the weights that are meant for it.

    Args:
        build: makes the network; it is called on torch's meta device.
        shapes: the shape of every tensor of the weights.
        where: what the error names.

    Returns:
        What ``build`` returned, without memory for its weights.

    Raises:
        InputError: if it is far larger, or cannot be built.

    Example:
        >>> check_size(lambda: nn.Linear(3, 2), {"weight": (2, 3), "bias": (2,)}, "here")
        Linear(in_features=3, out_features=2, bias=True)
        >>> check_size(lambda: nn.Linear(10**9, 9), {}, "here")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        patchit_hf.common.errors.InputError: here: describes a network of more than ...
    """
    held = sum(math.prod(shape) for shape in shapes.values())
    most = max(WEIGHTS, TIMES * held)
    try:
        with _bounded(most), torch.device("meta"):
            return build()
    except _TooLargeError as error:
        raise InputError(
            f"{where}: describes a network of more than {error}, and the weights beside it are "
            f"{held:,}; the file is damaged or not meant for them"
        ) from None
    except InputError:
        raise
    except Exception as error:  # the arguments of a network may be anything
        raise InputError(
            f"{where}: the network that it describes cannot be built: {one_line(error)}"
        ) from error


@contextmanager
def _bounded(most: int) -> Iterator[None]:
    """Give up a network that is being built once it has too many weights or layers."""
    weights = layers = 0

    def count_weights(module: nn.Module, name: str, value: Any) -> None:
        nonlocal weights
        count_layers(module, name, value)  # the layers of a list are all made before it has them
        weights += 0 if value is None else math.prod(value.shape)
        if weights > most:
            raise _TooLargeError(f"{most:,} weights")

    def count_layers(module: nn.Module, name: str, value: Any) -> None:
        nonlocal layers
        layers += 1
        if layers > LAYERS:
            raise _TooLargeError(f"{LAYERS:,} layers and tensors")

    hooks = (
        register_module_parameter_registration_hook(count_weights),
        register_module_module_registration_hook(count_layers),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def check_sides(sides: Any, where: str) -> tuple[int, int]:
    """Return a height and width of a record, in pixels.

    Raises:
        InputError: if they are not two whole numbers from 1 to ``SIDE``.

    Example:
        >>> check_sides([200, 100], "the canvas")
        (200, 100)
    """
    whole = isinstance(sides, list | tuple) and len(sides) == 2
    if not whole or not all(type(side) is int and 0 < side <= SIDE for side in sides):
        raise InputError(
            f"{where}: {one_line(sides)}: must be height and width in pixels, each from 1 to {SIDE}"
        )
    return sides[0], sides[1]
