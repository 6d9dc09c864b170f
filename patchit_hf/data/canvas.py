"""One image to one canvas: decoded, upright, RGB, and never padded."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from patchit_hf.errors import InputError

Fit = Literal["squash", "cover"]
FITS: tuple[str, ...] = get_args(Fit)
RESAMPLE = Image.Resampling.BICUBIC  # the interpolation that the exported config names


def to_canvas(image: Image.Image, canvas: tuple[int, int], fit: str) -> NDArray[np.uint8]:
    """Bring an image to the canvas.

    Args:
        image: any PIL image; its EXIF orientation is applied.
        canvas: height and width, in pixels.
        fit: ``squash`` stretches the whole image to the canvas; ``cover`` keeps the aspect, covers
            the canvas and cuts off what stands over, half on each side.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    height, width = canvas
    if image.format == "JPEG":
        image.draft("RGB", (width, height))  # decodes at a fraction where that is large enough
    image = ImageOps.exif_transpose(image).convert("RGB")
    if fit == "cover":
        image = ImageOps.fit(image, (width, height), method=RESAMPLE)
    elif image.size != (width, height):
        image = image.resize((width, height), RESAMPLE)
    return np.asarray(image, dtype=np.uint8)


def decode(value: Any) -> Image.Image:
    """Open what an undecoded image column holds.

    Args:
        value: a mapping with ``bytes`` or ``path``, a path, or a PIL image.

    Raises:
        ValueError: if the value is nothing of that kind.
        OSError: if the file cannot be read or is no image.
    """
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, Mapping):
        if value.get("bytes") is not None:
            return Image.open(io.BytesIO(value["bytes"]))
        value = value.get("path")
    if isinstance(value, str | Path):
        if "://" in str(value):  # inside an archive or on a remote file system
            import fsspec  # type: ignore[import-untyped]

            with fsspec.open(str(value), "rb") as file:
                return Image.open(io.BytesIO(file.read()))
        return Image.open(value)
    raise ValueError(f"no image but {type(value).__name__}")


def load_canvas(value: Any, canvas: tuple[int, int], fit: str, where: str) -> NDArray[np.uint8]:
    """Decode and fit, with an error that says which image it was.

    Args:
        value: see ``decode``.
        canvas: height and width, in pixels.
        fit: see ``to_canvas``.
        where: what the error names, such as ``row 17 of data/train``.

    Raises:
        InputError: if the image cannot be decoded.
    """
    try:
        return to_canvas(decode(value), canvas, fit)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        path = value.get("path") if isinstance(value, Mapping) else None
        file = f" (file {path})" if path else ""
        reason = str(error).split("<_io.")[0].strip() or type(error).__name__
        raise InputError(f"{where}{file}: not a readable image: {reason}") from error


def parse_canvas(text: str) -> tuple[int, int]:
    """Read ``200x100`` as height 200 and width 100.

    Raises:
        InputError: if the text is not two whole numbers of at least 8.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdecimal() for p in parts) or min(map(int, parts)) < 8:
        raise InputError(
            f"--canvas {text!r}: give HEIGHTxWIDTH in pixels, such as 200x100, each at least 8"
        )
    return int(parts[0]), int(parts[1])
