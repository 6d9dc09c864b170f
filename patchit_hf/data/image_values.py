"""One image of any kind that somebody has at hand, as the one decoder takes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from patchit_hf.common.errors import InputError

ALLOWED = (
    "a PIL image, a path, the bytes of a file, an array [H, W] or [H, W, 3], a tensor [H, W] or "
    "[3, H, W], or several of these: a list, an array [N, H, W, 3], a tensor [N, 3, H, W], a "
    "column of a data set, or a data set"
)
VALUES = "uint8, or floats from 0 to 1"
CHANNELS = (1, 3, 4)


def image_value(value: Any, name: str) -> Any:
    """Return an image as the decoder takes it: a PIL image, a path, or bytes and path.

    Args:
        value: an image; see ``ALLOWED``.
        name: what errors call it.

    Raises:
        InputError: if it is nothing of that kind.

    Example:
        >>> image_value(torch.zeros(3, 20, 10), "the image").size
        (10, 20)
    """
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    if isinstance(value, Image.Image | str | Mapping):
        return value
    if isinstance(value, os.PathLike):
        return Path(value)
    if isinstance(value, Tensor):
        return _from_pixels(_channels_last(value, name), "tensor", tuple(value.shape), name)
    if isinstance(value, np.ndarray):
        return _from_pixels(value, "array", value.shape, name)
    raise InputError(f"{name}: {type(value).__name__}: must be {ALLOWED}")


def _channels_last(tensor: Tensor, name: str) -> NDArray[Any]:
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and tensor.shape[0] not in CHANNELS):
        raise InputError(
            f"{name}: tensor of shape {tuple(tensor.shape)}: must be [H, W], or [C, H, W] of 1, 3 "
            "or 4 channels"
        )
    pixels = tensor.detach().cpu()
    if pixels.dtype == torch.bfloat16:
        pixels = pixels.float()
    found: NDArray[Any] = (pixels if pixels.ndim == 2 else pixels.permute(1, 2, 0)).numpy()
    return found


def _from_pixels(pixels: NDArray[Any], kind: str, shape: tuple[int, ...], name: str) -> Image.Image:
    """Return pixels ``[H, W]`` or ``[H, W, C]`` as an image."""
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in CHANNELS):
        raise InputError(
            f"{name}: {kind} of shape {shape}: must be [H, W], or [H, W, C] of 1, 3 or 4 channels"
        )
    if min(pixels.shape[:2]) == 0:
        raise InputError(f"{name}: {kind} of shape {shape}: has no pixels")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if np.issubdtype(pixels.dtype, np.floating):
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # nor where one is not a number
            raise InputError(f"{name}: {kind} of values {low:g} to {high:g}: must be {VALUES}")
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if pixels.dtype == np.uint8 or (pixels.dtype == np.uint16 and pixels.ndim == 2):
        return Image.fromarray(np.ascontiguousarray(pixels))
    raise InputError(f"{name}: {kind} of {pixels.dtype}: must be {VALUES}")
