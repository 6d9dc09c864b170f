"""How the cells of a task lie on the body: which of them overlap, and which form rows."""

from __future__ import annotations

import numpy as np

from patchit_hf.figures.page import Array


def layers(boxes: Array) -> list[Array]:
    """Sort boxes into layers; within a layer all have one size and none overlap.

    Args:
        boxes: xyxy, ``[C, 4]``.

    Returns:
        The indices of the boxes by layer, smallest boxes first; a grid is one layer.
    """
    found: list[list[int]] = []
    sizes = boxes[:, 2:] - boxes[:, :2]
    for number in np.argsort(sizes.prod(1), kind="stable").tolist():
        for layer in found:
            alike = np.array_equal(sizes[layer[0]], sizes[number])
            if alike and not _overlap(boxes[layer], boxes[number]).any():
                layer.append(number)
                break
        else:
            found.append([number])
    return [np.array(sorted(layer)) for layer in found]


def rows(boxes: Array, layer: Array) -> list[Array]:
    """Return a layer's boxes row by row from the top, each row from left to right."""
    tops = boxes[layer, 1]
    found = [layer[tops == top] for top in np.unique(tops)]
    return [row[np.argsort(boxes[row, 0], kind="stable")] for row in found]


def coverage(boxes: Array, shares: Array, canvas: tuple[int, int]) -> Array:
    """Return how often an answer covers each pixel: the sum of the shares of the boxes over it.

    Args:
        boxes: xyxy in pixels of the canvas, ``[C, 4]``.
        shares: share of each answer, ``[C]``, with a sum of at most 1.
        canvas: height and width, in pixels.

    Returns:
        float64 ``[H, W]`` in [0, 1].
    """
    total = np.zeros(canvas)
    for (x0, y0, x1, y1), share in zip(boxes.tolist(), shares.tolist(), strict=True):
        total[y0:y1, x0:x1] += share
    return np.clip(total, 0, 1)


def _overlap(boxes: Array, box: Array) -> Array:
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    shared: Array = np.all(low < high, axis=1)
    return shared
