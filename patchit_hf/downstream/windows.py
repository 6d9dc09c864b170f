"""One person out of a picture, with the joints."""

from __future__ import annotations

import io
import math
from typing import Any

from patchit_hf.data.canvas import RESAMPLE, UnreachableError, UnusableError, decode_rgb
from patchit_hf.errors import InputError, one_line

WINDOW = "window"  # x0, y0, x1, y1 of what the canvas shows, in pixels of the picture


def cut_person(
    row: dict[str, Any],
    index: int,
    *,
    image: str,
    joints: str,
    box: str | None,
    canvas: tuple[int, int],
    margin: float,
) -> dict[str, Any]:
    """Cut one person out of a row's picture and bring it to the canvas.

    Args:
        row: the row.
        index: its number, for errors.
        image: its column of pictures.
        joints: its column of joints, x, y and seen, in pixels of the picture.
        box: its column of boxes x0, y0, x1, y1 in pixels; None for the whole picture.
        canvas: height and width, in pixels.
        margin: how much larger than the box the window is.

    Returns:
        The row with picture and joints on the canvas, and the window in pixels of the picture. A
        picture that cannot be decoded stays as it is, for whoever opens it to say so; none of its
        joints is seen.

    Raises:
        InputError: for a box without area, or a picture whose file cannot be read for a reason that
            says nothing of the picture.
    """
    height, width = canvas
    window = (0.0, 0.0, float(width), float(height))
    if box is not None:
        x0, y0, x1, y1 = (float(v) for v in row[box])
        if not (x1 > x0 and y1 > y0):
            raise InputError(f"row {index}: {box} {row[box]}: must be x0 < x1 and y0 < y1")
        window = _window((x0, y0, x1, y1), width / height, margin)
    try:
        picture = decode_rgb(row[image])
    except (UnreachableError, MemoryError) as error:
        raise InputError(f"row {index}: {image}: cannot be read: {one_line(error)}") from error
    except UnusableError:
        unseen = [[0.0, 0.0, 0.0] for _ in row[joints]]
        return {image: row[image], joints: unseen, WINDOW: list(window)}
    if box is None:
        window = (0.0, 0.0, float(picture.width), float(picture.height))
    scale_x, scale_y = width / (window[2] - window[0]), height / (window[3] - window[1])
    moved = [
        [(x - window[0]) * scale_x, (y - window[1]) * scale_y, float(seen > 0)]
        for x, y, seen in row[joints]
    ]
    left, top = math.floor(window[0]), math.floor(window[1])
    around = picture.crop((left, top, math.ceil(window[2]), math.ceil(window[3])))
    part = (window[0] - left, window[1] - top, window[2] - left, window[3] - top)
    shown = around.resize((width, height), RESAMPLE, box=part)
    file = io.BytesIO()
    shown.save(file, "PNG", compress_level=1)
    return {image: {"bytes": file.getvalue(), "path": None}, joints: moved, WINDOW: list(window)}


def _window(
    box: tuple[float, float, float, float], aspect: float, margin: float
) -> tuple[float, float, float, float]:
    """Return the box enlarged by a margin, and in one direction to an aspect of width/height."""
    x0, y0, x1, y1 = box
    wide, tall = (x1 - x0) * (1 + margin), (y1 - y0) * (1 + margin)
    wide, tall = max(wide, tall * aspect), max(tall, wide / aspect)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2
