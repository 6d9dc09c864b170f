"""Who is found for whom: ranks of a search, and nearest neighbours, as rows of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from patchit_hf.figures.page import (
    BLUE,
    FAINT,
    MARGIN,
    SMALL,
    SOFT,
    Array,
    Page,
    page_width,
    photo,
    with_look,
)

GAP, NAME, BREAK = 8, 18, 14  # between images, above them, and between rows, in pixels


def nearest(queries: Array, gallery: Array, count: int, without: Array | None = None) -> Array:
    """Return the most similar gallery vectors of each query by cosine, the best first.

    Args:
        queries: float ``[Q, C]``.
        gallery: float ``[G, C]``.
        count: how many; fewer where the gallery has fewer.
        without: which gallery vectors do not count for a query, bool ``[Q, G]``.

    Returns:
        Indices, int64 ``[Q, count]``.

    Example:
        >>> nearest(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [2.0, 0.1]]), 2)
        array([[1, 0]])
    """
    similar = _unit(queries) @ _unit(gallery).T
    if without is not None:
        similar = np.where(without, -2.0, similar)
    order: Array = np.argsort(-similar, axis=1, kind="stable")[:, :count]
    return order


@with_look
def ranks(
    queries: Tensor, gallery: Tensor, found: Array, right: Array, *, title: str | None = None
) -> Figure:
    """Draw each query and whom a search found for it, right and wrong ones framed.

    Args:
        queries: uint8 ``[Q, 3, H, W]``.
        gallery: uint8 ``[G, 3, H, W]``.
        found: indices into the gallery, the best first, int64 ``[Q, R]``.
        right: whether that is the same person, bool ``[Q, R]``.
        title: above the page; one about ranks by default.
    """
    count = found.shape[1]
    width, height = _size(queries, count + 1)
    page = Page(
        len(queries) * (height + NAME + BREAK) - BREAK,
        title or f"Whom the model takes for whom: the first {count}",
        "Left: the person that is searched. Then the images most like it, the best first."
        "\nA thick blue frame: the same person. A thin grey frame and a cross: another one.",
    )
    canvas = (queries.shape[2], queries.shape[3])
    for row in range(len(queries)):
        top = row * (height + NAME + BREAK) + NAME
        page.picture(photo(queries[row]), MARGIN, top, width, canvas).name(
            "searched", canvas, size=SMALL
        )
        for place in range(count):
            left = MARGIN + 2 * GAP + (place + 1) * (width + GAP)
            panel = page.picture(photo(gallery[found[row, place]]), left, top, width, canvas)
            same = bool(right[row, place])
            name = str(place + 1) if same else f"{place + 1} \u00d7"
            panel.name(name, canvas, size=SMALL, color=BLUE if same else SOFT)
            whole = np.array([0, 0, canvas[1], canvas[0]])
            panel.frame(whole, 6 if same else 2, BLUE if same else FAINT)
    return page.finish()


@with_look
def neighbours(crops: Tensor, rows: Sequence[int], found: dict[str, Array]) -> Figure:
    """Draw crops, and the crops whose features are most like theirs.

    Args:
        crops: uint8 ``[N, 3, H, W]``.
        rows: the crops that are drawn at the left.
        found: the neighbours of these rows by each backbone, by its name, int64 ``[rows, R]``.
    """
    count = next(iter(found.values())).shape[1]
    width, height = _size(crops, count + 1)
    several = len(found) > 1
    page = Page(
        len(rows) * len(found) * (height + NAME + BREAK) - BREAK,
        "The nearest neighbours of crops by the backbone",
        "Left: a held-out crop. Then the held-out crops whose features are most like its own "
        "(cosine), the nearest first." + ("\nAbove each row: by which weights." * several),
    )
    canvas = (crops.shape[2], crops.shape[3])
    for turn, row in enumerate(rows):
        for number, (name, order) in enumerate(found.items()):
            top = (turn * len(found) + number) * (height + NAME + BREAK) + NAME
            page.write(MARGIN, top - 5, name, SMALL, va="bottom")
            page.picture(photo(crops[row]), MARGIN, top, width, canvas)
            for place in range(count):
                left = MARGIN + 2 * GAP + (place + 1) * (width + GAP)
                page.picture(photo(crops[order[turn, place]]), left, top, width, canvas)
    return page.finish()


def _size(crops: Tensor, a_row: int) -> tuple[float, float]:
    """Return width and height of an image in a row, in pixels."""
    width = (page_width() - 2 * MARGIN - GAP * (a_row + 1)) / a_row
    return width, width * crops.shape[2] / crops.shape[3]


def _unit(vectors: Array) -> Array:
    unit: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
