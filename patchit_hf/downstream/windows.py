"""Cutting one person out of an image, with the joints."""

from __future__ import annotations

import io
import math
from typing import Any

from PIL import Image

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.data.canvas import RESAMPLE, UnreachableError, UnusableError, decode_rgb
from patchit_hf.downstream.joints import UNSEEN, Joint, has_area, read_box, read_joints

WINDOW = "window"  # x0, y0, x1, y1 of what the canvas shows, in pixels of the image
Window = tuple[float, float, float, float]


def cut_person(
    row: dict[str, Any],
    index: int,
    *,
    image: str,
    joints: str,
    box: str | None,
    canvas: tuple[int, int],
    margin: float,
    count: int | None = None,
    order: list[int] | None = None,
) -> dict[str, Any]:
    """Cut one person out of the image of a row, and resize it to the canvas.

    Args:
        row: a row of a data set.
        index: its index, for messages.
        image: name of the column of images.
        joints: name of the column of joints, in pixels of the image; see ``joints.read_joints``.
        box: name of the column of boxes, x0, y0, x1, y1 in pixels; None for the whole image. A row
            without a box shows one person in the whole image, too.
        canvas: height and width, in pixels.
        margin: how much larger than the box the window is, as a fraction of its sides.
        count: number of joints of a row; None if each row says it.
        order: for each joint that is returned its index in the row, -1 for none; None for all.

    Returns:
        The row with image and joints on the canvas, and the window in pixels of the image. In a box
        without area no joint is visible. An image that cannot be decoded is passed on as it is,
        without visible joints; whoever opens it reports it.

    Raises:
        InputError: for joints that cannot be read, or an image whose file cannot be read for a
            reason that says nothing of the image.

    Example:
        >>> from PIL import Image
        >>> row = {"image": Image.new("RGB", (100, 100)), "joints": [[50, 50, 1]],
        ...        "box": [40, 40, 60, 60]}
        >>> cut = cut_person(row, 0, image="image", joints="joints", box="box",
        ...                  canvas=(64, 32), margin=0.0)
        >>> cut["window"], cut["joints"]
        ([40.0, 30.0, 60.0, 70.0], [[16.0, 32.0, 1.0]])
    """
    window = None
    points = read_joints(row[joints], count, index, joints)
    if order is not None:
        points = [UNSEEN if i < 0 else points[i] for i in order]
    around = None if box is None else read_box(row[box], index, box)
    if around is not None and has_area(around):
        window = window_around(around, canvas, margin)
    elif around is not None:
        points = [UNSEEN for _ in points]
    height, width = canvas
    try:
        picture = decode_rgb(row[image])
    except (UnreachableError, MemoryError) as error:
        raise InputError(f"row {index}: {image}: cannot be read: {one_line(error)}") from error
    except UnusableError:
        unseen = [list(UNSEEN) for _ in points]
        shown = window or (0.0, 0.0, float(width), float(height))
        return {image: row[image], joints: unseen, WINDOW: list(shown)}
    window = window or (0.0, 0.0, float(picture.width), float(picture.height))
    moved = [_moved(point, window, canvas) for point in points]
    file = io.BytesIO()
    cut_window(picture, window, canvas).save(file, "PNG", compress_level=1)
    return {image: {"bytes": file.getvalue(), "path": None}, joints: moved, WINDOW: list(window)}


def _moved(point: Joint, window: Window, canvas: tuple[int, int]) -> Joint:
    """Return a joint in pixels of the canvas, and 1 if it is visible."""
    height, width = canvas
    scale_x, scale_y = width / (window[2] - window[0]), height / (window[3] - window[1])
    x, y, seen = point
    return [(x - window[0]) * scale_x, (y - window[1]) * scale_y, float(seen > 0)]


def cut_window(picture: Image.Image, window: Window, canvas: tuple[int, int]) -> Image.Image:
    """Cut a window out of an image and resize it to the canvas; outside the image it is black.

    Args:
        picture: as it is shown, in RGB.
        window: x0, y0, x1, y1 in its pixels, not necessarily whole ones.
        canvas: height and width, in pixels.
    """
    height, width = canvas
    left, top = math.floor(window[0]), math.floor(window[1])
    around = picture.crop((left, top, math.ceil(window[2]), math.ceil(window[3])))
    part = (window[0] - left, window[1] - top, window[2] - left, window[3] - top)
    return around.resize((width, height), RESAMPLE, box=part)


def window_around(box: Window, canvas: tuple[int, int], margin: float) -> Window:
    """Return a box enlarged by a margin, and in one direction to the aspect of the canvas.

    Args:
        box: x0, y0, x1, y1 in pixels.
        canvas: height and width, in pixels.
        margin: how much larger than the box the window is, as a fraction of its sides.

    Example:
        >>> window_around((40.0, 40.0, 60.0, 60.0), (64, 32), 0.0)
        (40.0, 30.0, 60.0, 70.0)
    """
    x0, y0, x1, y1 = box
    aspect = canvas[1] / canvas[0]
    wide, tall = (x1 - x0) * (1 + margin), (y1 - y0) * (1 + margin)
    wide, tall = max(wide, tall * aspect), max(tall, wide / aspect)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2
