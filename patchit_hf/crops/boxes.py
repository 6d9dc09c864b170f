"""Box arithmetic: pure functions on ``(N, 4)`` arrays, xyxy in pixels unless a name says so.

Pixels are areas: an image ``W`` pixels wide reaches from 0 to ``W``, and the box of its first
pixel is ``[0, 0, 1, 1]``. Every function accepts ``N = 0``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from patchit_hf.crops.choices import OUTSIDE as OUTSIDE
from patchit_hf.crops.choices import Outside as Outside

Box = tuple[float, float, float, float]
Boxes = NDArray[np.float64]
Mask = NDArray[np.bool_]

SMALLEST_WINDOW = 0.5  # share of its height to which a window may be shrunk
ROUNDING = 0.5  # pixels; a window that leaves the frame by less is moved, whatever the policy


def from_xywh(boxes: Boxes) -> Boxes:
    """Convert boxes from top left corner, width and height to xyxy."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def from_cxcywh(boxes: Boxes) -> Boxes:
    """Convert boxes from centre, width and height to xyxy."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def turned(box: Box, degrees: float, about: tuple[float, float]) -> Box:
    """Return the bounding box of a box that is turned clockwise about a point.

    Example:
        >>> [round(v, 9) for v in turned((0, 0, 2, 1), 90, (0, 0))]
        [-1.0, 0.0, 0.0, 2.0]
    """
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x0, y0, x1, y1 = box
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) - about
    return around((corners @ turn.T + about).tolist())


def around(points: Iterable[Sequence[float]]) -> Box:
    """Return the bounding box of points (x, y); NaN if there are none.

    Example:
        >>> around([(3, 5), (1, 9)])
        (1, 5, 3, 9)
    """
    across, down = zip(*points, strict=True) if (points := list(points)) else ((math.nan,),) * 2
    return min(across), min(down), max(across), max(down)


def to_pixels(relative: Boxes, size: tuple[int, int]) -> Boxes:
    """Convert boxes from fractions of an image's size (width, height) to pixels."""
    return relative * np.array([*size, *size], dtype=np.float64)


def sizes(boxes: Boxes) -> Boxes:
    """Return widths and heights ``[N, 2]``, negative where corners are swapped."""
    return boxes[:, 2:] - boxes[:, :2]


def area(boxes: Boxes) -> NDArray[np.float64]:
    """Return areas ``[N]``; 0 for a box without width or height."""
    result: NDArray[np.float64] = np.clip(sizes(boxes), 0, None).prod(axis=1)
    return result


def clip(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """Clip boxes to an image of the given size (width, height)."""
    return np.clip(boxes, 0, np.array([*size, *size], dtype=np.float64))


def visible(boxes: Boxes, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share of each box inside the image ``[N]``; 0 for a box without area."""
    whole = area(boxes)
    return np.divide(area(clip(boxes, size)), whole, out=np.zeros_like(whole), where=whole > 0)


def intersections(boxes: Boxes, others: Boxes) -> Boxes:
    """Return the intersection areas ``[N, M]`` of ``N`` boxes and ``M`` others."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    result: Boxes = np.clip(high - low, 0, None).prod(axis=2)
    return result


def covered(boxes: Boxes) -> NDArray[np.float64]:
    """Return the largest share of each box ``[N]`` that any single other box covers."""
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    shared = intersections(boxes, boxes)
    np.fill_diagonal(shared, 0)
    whole = area(boxes)
    result: NDArray[np.float64] = np.divide(
        shared.max(axis=1), whole, out=np.zeros_like(whole), where=whole > 0
    )
    return result


def touches(boxes: Boxes, size: tuple[int, int], margin: float = 1.0) -> Mask:
    """Return which boxes ``[N]`` touch the frame's edge, so that the person may be cut off."""
    limit = np.array(size, dtype=np.float64) - margin
    near = np.concatenate([boxes[:, :2] <= margin, boxes[:, 2:] >= limit], axis=1)
    return np.asarray(near.any(axis=1), dtype=np.bool_)


def windows(boxes: Boxes, canvas: tuple[int, int], context: float = 0.0) -> Boxes:
    """Return the window to cut out for each box.

    A window has the box's centre and height and the aspect ratio of the canvas, as the authors of
    PatchIt cut theirs. It may leave the frame; see ``fit_windows``.

    Args:
        boxes: ``[N, 4]``.
        canvas: height and width of the crop, in pixels.
        context: margin above and below, as a share of the box's height.
    """
    height = sizes(boxes)[:, 1:] * (1 + 2 * context)
    half = np.concatenate([height * canvas[1] / canvas[0], height], axis=1) / 2
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def fit_windows(
    boxes: Boxes, size: tuple[int, int], outside: str, smallest: float = SMALLEST_WINDOW
) -> tuple[Boxes, Mask]:
    """Bring windows into the frame without padding and without changing their aspect ratio.

    Args:
        boxes: windows ``[N, 4]``.
        size: width and height of the image.
        outside: ``shift`` moves a window inwards, and shrinks it only if it is larger than the
            frame; ``shrink`` keeps its centre and makes it smaller; ``drop`` rejects a window that
            leaves the frame by more than half a pixel.
        smallest: reject a window that would be shrunk to less than this share of its height.

    Returns:
        The fitted windows ``[N, 4]``, and which of them are kept ``[N]``. Every kept window lies
        inside the frame.
    """
    frame = np.array(size, dtype=np.float64)
    centre, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, sizes(boxes)
    kept = np.ones(len(boxes), dtype=np.bool_)
    if outside == "drop":
        inside = (boxes[:, :2] >= -ROUNDING) & (boxes[:, 2:] <= frame + ROUNDING)
        kept = np.asarray(inside.all(axis=1), dtype=np.bool_)
    room = np.broadcast_to(frame, extent.shape)
    if outside == "shrink":
        room = 2 * np.minimum(centre, frame - centre)
        room = np.where(room >= extent - 2 * ROUNDING, np.minimum(extent, frame), room)
    safe = np.where(extent > 0, extent, 1)
    scale = np.clip((room / safe).min(axis=1, initial=1.0), 0, 1)
    kept &= scale >= smallest
    extent = extent * scale[:, None]
    low = np.clip(centre - extent / 2, 0, np.maximum(frame - extent, 0))
    fitted = np.concatenate([low, np.minimum(low + extent, frame)], axis=1)
    return fitted, kept


def orient(boxes: Boxes, size: tuple[int, int], orientation: int) -> Boxes:
    """Convert boxes from the image as it is stored to the image as it is shown.

    Args:
        boxes: ``[N, 4]`` in the stored image.
        size: width and height as stored.
        orientation: the EXIF tag's value, 1 to 8.
    """
    width, height = size
    x0, y0, x1, y1 = boxes.T
    if orientation in (2, 3):
        x0, x1 = width - x1, width - x0
    if orientation in (3, 4):
        y0, y1 = height - y1, height - y0
    if orientation in (5, 6, 7, 8):  # 5: transposed; 6: a quarter right; 8: a quarter left
        x0, y0, x1, y1 = y0, x0, y1, x1
    if orientation in (6, 7):
        x0, x1 = height - x1, height - x0
    if orientation in (7, 8):
        y0, y1 = width - y1, width - y0
    return np.stack([x0, y0, x1, y1], axis=1)
