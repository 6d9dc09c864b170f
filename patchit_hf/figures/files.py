"""Figures as images: the same pixels in files and in TensorBoard."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from patchit_hf.common.files import replacing
from patchit_hf.figures.page import TEXT, Array, with_look

PRINTED = 8.0  # size of a paper's letters, in points
DOTS = 300  # of an inch in print
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


def write_figures(
    folder: Path, figures: dict[str, Figure], *, format: str = "png", style_name: str = "report"
) -> list[Path]:
    """Write figures atomically as ``<name>.png``, or in another format.

    Args:
        folder: created if missing.
        figures: the figures, by name.
        format: ``png``, ``pdf`` or ``svg``.
        style_name: the style that they were drawn in; a paper's letters are brought to 8 points,
            and its pixels to 300 an inch.

    Returns:
        The files, in the figures' order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.{format}"
        plain = format == "png" and style_name == "report"
        content = as_png(figure) if plain else _printed(figure, format, style_name)
        with replacing(path, needed=len(content)) as draft:
            draft.write_bytes(content)
        paths.append(path)
    return paths


@with_look
def _printed(figure: Figure, format: str, style_name: str) -> bytes:
    """Return a figure for print: the same bytes for the same figure, with letters as letters."""
    if style_name == "paper":
        _scale(figure, PRINTED / TEXT)
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(format)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "patchit", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=format, dpi=DOTS, metadata=undated, facecolor="white")
    return buffer.getvalue()


def _scale(figure: Figure, factor: float) -> None:
    """Make a figure smaller or larger as a whole, letters and lines included."""
    width, height = (float(side) * factor for side in figure.get_size_inches())
    figure.set_size_inches(width, height)
    for text in figure.findobj(Text):
        text.set_fontsize(float(text.get_fontsize()) * factor)
    for line in figure.findobj(Line2D):
        line.set_linewidth(line.get_linewidth() * factor)
        line.set_markersize(line.get_markersize() * factor)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
