"""Where the network places the patches of single crops."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from patchit_hf.figures.cells import layers
from patchit_hf.figures.page import (
    FAINT,
    INK,
    MARGIN,
    SMALL,
    WIDTH,
    Array,
    Page,
    Panel,
    page_width,
    photo,
    with_look,
)

SMALLER = 0.55  # width of a crop beside its patches, as a share of theirs
GAP, BREAK = 8, 28  # between images, and between people, in pixels
NAME = 19  # room for the text above a person, in pixels
MEET = 9  # patches drawn in one cell; of more, eight are drawn and the rest counted


@with_look
def localisation(
    crops: Tensor, pictures: Tensor, answered: Tensor, true: Tensor, boxes: Tensor
) -> Figure:
    """Draw each patch in the cell that the network predicts, person by person.

    Args:
        crops: uint8 ``[n, 3, H, W]``; only as many are drawn as fit on a page.
        pictures: the crops' patches, in [0, 1], ``[n, q, S, S, 3]``.
        answered: the predicted cells, int64 ``[n, q]``.
        true: the true cells, int64 ``[n, q]``.
        boxes: the cells, xyxy in pixels of the canvas, int64 ``[C, 4]``.
    """
    cells, canvas = boxes.cpu().numpy(), (crops.shape[2], crops.shape[3])
    sheets = layers(cells)
    least = 2 if len(sheets) == 1 else 1  # or one person would fill a paper's page
    a_line = max(least, round(6 * page_width() / WIDTH / (len(sheets) + 1)))
    shown = min(len(crops), 2 * a_line)
    room = (page_width() - 2 * MARGIN - BREAK * (a_line - 1)) / a_line
    width = (room - GAP * len(sheets)) / (len(sheets) + SMALLER)
    height, lines = width * canvas[0] / canvas[1], math.ceil(shown / a_line)
    page = Page(
        lines * (height + NAME + BREAK) - BREAK,
        "Where the network thinks that each patch belongs",
        "Small: a held-out crop. Large: its patches, each in the cell that the network predicts; "
        "a frame means wrong.\nPatches in the same cell share it. A hatched cell gets none.",
    )
    for person in range(shown):
        line, column = divmod(person, a_line)
        left, top = MARGIN + column * (room + BREAK), line * (height + NAME + BREAK) + NAME
        found = answered[person].cpu().numpy(), true[person].cpu().numpy()
        hits = f"{int((found[0] == found[1]).sum())} of {len(found[1])} right"
        page.write(left, top - 5, hits, va="bottom")
        page.picture(photo(crops[person]), left, top, width * SMALLER, canvas)
        for place, sheet in enumerate(sheets):
            at = left + width * SMALLER + GAP + place * (width + GAP)
            panel = page.picture(np.ones((1, 1, 3)), at, top, width, canvas)
            reassemble(panel, pictures[person].cpu().numpy(), *found, cells, sheet)
    return page.finish()


def tiles(box: Array, count: int) -> Array:
    """Divide a box into a square pattern of tiles for ``count`` patches: xyxy ``[count, 4]``."""
    side = max(1, math.ceil(math.sqrt(count)))
    x0, y0, x1, y1 = box.astype(np.float64)
    dx, dy = (x1 - x0) / side, (y1 - y0) / side
    places = [divmod(number, side) for number in range(count)]
    return np.array(
        [(x0 + c * dx, y0 + r * dy, x0 + (c + 1) * dx, y0 + (r + 1) * dy) for r, c in places]
    ).reshape(-1, 4)


def reassemble(
    panel: Panel, pictures: Array, answered: Array, true: Array, cells: Array, sheet: Array
) -> None:
    """Paint each patch into the cell that the network predicts, with a frame if it is wrong.

    Args:
        panel: an empty canvas to paint on.
        pictures: the patches, ``[q, S, S, 3]`` in [0, 1].
        answered: predicted cells ``[q]``.
        true: true cells ``[q]``.
        cells: all cells, xyxy in pixels of the canvas, ``[C, 4]``.
        sheet: the cells that this canvas shows.
    """
    for number in sheet:
        here = np.flatnonzero(answered == number)
        if len(here) == 0:
            panel.hatch(cells[number])
        shown = here if len(here) <= MEET else here[: MEET - 1]
        places = tiles(cells[number], min(len(here), MEET))
        for patch, box in zip(shown, places, strict=False):
            panel.paste(pictures[patch], box)
        panel.frame(cells[number], 1, FAINT)
        for patch, box in zip(shown, places, strict=False):
            if true[patch] != number:
                panel.frame(box, 4 if len(here) == 1 else 3, "white")
                panel.frame(box, 3 if len(here) == 1 else 2, INK)
        if len(here) > MEET:
            panel.label(places[-1], f"+{len(here) - len(shown)}", SMALL - 1)
