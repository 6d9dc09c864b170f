"""Box arithmetic: pure functions on ``(N, 4)`` arrays, xyxy in pixels unless a name says so.

Pixels are areas: a picture ``W`` pixels wide reaches from 0 to ``W``, and the box of its first
pixel is ``[0, 0, 1, 1]``. Every function takes ``N = 0``.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
Mask = NDArray[np.bool_]
Outside = Literal["shift", "shrink", "drop"]
OUTSIDE: tuple[str, ...] = get_args(Outside)

ROUNDING = 0.5  # pixels; a window that leaves the frame by less is moved under every policy


def from_xywh(boxes: Boxes) -> Boxes:
    """Return xyxy of boxes given by their top left corner, width and height."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def from_cxcywh(boxes: Boxes) -> Boxes:
    """Return xyxy of boxes given by their centre, width and height."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def to_pixels(relative: Boxes, size: tuple[int, int]) -> Boxes:
    """Return boxes in pixels of boxes in shares of a picture's size (width, height)."""
    return relative * np.array([*size, *size], dtype=np.float64)


def sizes(boxes: Boxes) -> Boxes:
    """Return widths and heights ``[N, 2]``; negative where corners are swapped."""
    return boxes[:, 2:] - boxes[:, :2]


def area(boxes: Boxes) -> NDArray[np.float64]:
    """Return areas ``[N]``; 0 for a box without width or height."""
    result: NDArray[np.float64] = np.clip(sizes(boxes), 0, None).prod(axis=1)
    return result


def clip(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """Return the parts of boxes inside a picture of a size (width, height)."""
    return np.clip(boxes, 0, np.array([*size, *size], dtype=np.float64))


def visible(boxes: Boxes, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share of each box that lies inside the picture ``[N]``; 0 without area."""
    whole = area(boxes)
    return np.divide(area(clip(boxes, size)), whole, out=np.zeros_like(whole), where=whole > 0)


def intersections(boxes: Boxes, others: Boxes) -> Boxes:
    """Return the areas that boxes ``[N]`` and others ``[M]`` share, ``[N, M]``."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    result: Boxes = np.clip(high - low, 0, None).prod(axis=2)
    return result


def covered(boxes: Boxes) -> NDArray[np.float64]:
    """Return the largest share of each box that a single other of them covers ``[N]``."""
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
    """Return which boxes ``[N]`` reach the frame's edge: the person may go on behind it."""
    limit = np.array(size, dtype=np.float64) - margin
    near = np.concatenate([boxes[:, :2] <= margin, boxes[:, 2:] >= limit], axis=1)
    return np.asarray(near.any(axis=1), dtype=np.bool_)


def windows(boxes: Boxes, canvas: tuple[int, int], context: float = 0.0) -> Boxes:
    """Return what is cut out for each box: as high as the box, as wide as the canvas has it.

    The window has the box's centre and the canvas's aspect, as the authors of PatchIt cut theirs;
    it may leave the frame, see ``fit_windows``.

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
    boxes: Boxes, size: tuple[int, int], outside: str, smallest: float = 0.5
) -> tuple[Boxes, Mask]:
    """Bring windows into the frame without padding; the aspect stays.

    Args:
        boxes: windows ``[N, 4]``.
        size: width and height of the picture.
        outside: ``shift`` moves a window inwards, and shrinks it only where it is larger than the
            frame; ``shrink`` keeps its centre and makes it smaller; ``drop`` keeps none that leaves
            the frame by more than half a pixel.
        smallest: a window is lost that would be shrunk to less than this share of its height.

    Returns:
        The windows, all inside the frame where they are kept, and which are kept ``[N]``.
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
    """Bring boxes of a picture as it is stored to the picture as it is shown.

    Args:
        boxes: ``[N, 4]`` in the stored picture.
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
