"""Figures as images: the same pixels in files and in TensorBoard."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from patchit_hf.common.files import replacing
from patchit_hf.figures.page import Array, with_look

LARGEST = 300_000  # maximum bytes of a file in full colour; larger ones get a palette


@with_look
def as_image(figure: Figure) -> Array:
    """Return a figure's pixels, uint8 ``[H, W, 3]``.

    For TensorBoard: ``writer.add_image(name, as_image(figure), step, dataformats="HWC")``.

    Example:
        >>> as_image(Figure(figsize=(2, 1), dpi=100)).shape
        (100, 200, 3)
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels: Array = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return pixels


def as_png(figure: Figure) -> bytes:
    """Return a figure as PNG: the same bytes for the same figure, without date or program."""
    image = Image.fromarray(as_image(figure))
    data = _png(image)
    if len(data) > LARGEST:
        data = _png(image.quantize(256, dither=Image.Dither.NONE))
    return data


def write_figures(folder: Path, figures: dict[str, Figure]) -> list[Path]:
    """Write figures atomically as ``<name>.png``.

    Args:
        folder: created if missing.
        figures: the figures, by name.

    Returns:
        The files, in the figures' order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        content = as_png(figure)
        with replacing(path, needed=len(content)) as draft:
            draft.write_bytes(content)
        paths.append(path)
    return paths


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
