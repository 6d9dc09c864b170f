"""One crop, put together again from its patches as the network puts them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from patchit_hf.common.errors import InputError
from patchit_hf.figures.answered import reassemble
from patchit_hf.figures.cells import layers
from patchit_hf.figures.page import INK, MARGIN, Page, halo, page_width, photo, with_look
from patchit_hf.models.answers import PatchAnswers

GAP, NAME, TALLEST = 28, 26, 600  # of a page, in pixels


@with_look
def put_together(asked: PatchAnswers) -> Figure:
    """Draw a crop, its cells, and what the network makes of its patches.

    Args:
        asked: what ``PatchTaskModel.ask`` returned; its first round is drawn.

    Raises:
        InputError: if the task's answers are no places on the crop.
    """
    if asked.boxes is None:
        raise InputError("the task's answers are no places on the crop; nothing can be drawn")
    crop, cells = asked.crop, asked.boxes.numpy()
    canvas, sheets = (crop.shape[1], crop.shape[2]), layers(cells)
    count = 2 + len(sheets)
    width = (page_width() - 2 * MARGIN - GAP * (count - 1)) / count
    width = min(width, TALLEST * canvas[1] / canvas[0])
    left = (page_width() - count * width - (count - 1) * GAP) / 2
    page = Page(
        NAME + width * canvas[0] / canvas[1],
        "Where the network puts each patch",
        "It sees one patch at a time and says which cell it is from. A thick frame means: wrong.\n"
        "Patches that meet in a cell share it. A hatched cell gets none.",
    )
    places = [left + number * (width + GAP) for number in range(count)]
    page.picture(photo(crop), places[0], NAME, width, canvas).name("your crop", canvas)
    shown = page.picture(photo(crop), places[1], NAME, width, canvas)
    shown.name("its cells", canvas)
    for number in sheets[0]:
        shown.frame(cells[number], 1, INK, halo=1)
        shown.label(cells[number], str(number), path_effects=halo(), fontweight="bold")
    patches = asked.patches.numpy()
    given, right = asked.answered[0].numpy(), asked.truth[0].numpy()
    for at, sheet in zip(places[2:], sheets, strict=True):
        panel = page.picture(np.ones((1, 1, 3), np.float32), at, NAME, width, canvas)
        panel.name("put together by the network", canvas)
        reassemble(panel, patches, given, right, cells, sheet)
    return page.finish()
