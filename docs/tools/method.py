"""Draw the method: patches of a crop, and where a pretrained network puts each of them.

Example:
    python docs/tools/method.py runs/resnet18-position-people --output docs/method.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

from patchit_hf import PatchTaskModel, load_crops
from patchit_hf.common.draws import EVAL_SEED, Draws
from patchit_hf.data.canvas import to_canvas
from patchit_hf.figures import as_image
from patchit_hf.figures.page import (
    FAINT,
    HEADER,
    HEAT,
    INK,
    LUMA,
    NAVY,
    SOFT,
    Array,
    Page,
    Panel,
    ink_on,
    photo,
    with_look,
)

CANVAS = (200, 100)
NAMES = "ABC"
TOP = 44  # of everything below the headlines, in pixels of the page
HEIGHT = 330  # of the crop on the left
MIDDLE = TOP + HEIGHT / 2
TEXT, SMALL = 10.5, 8.0
HEADLINES = {116: "a crop, no label", 322: "one patch", 504: "any timm backbone",
             792: "where was it cut from?"}  # fmt: skip
ARROWS = (
    ((206, MIDDLE), (242, MIDDLE)),
    ((384, MIDDLE), (430, MIDDLE)),
    ((578, MIDDLE), (622, MIDDLE)),
    ((504, MIDDLE + 112), (504, TOP + HEIGHT + 14)),
)


@with_look
def method(
    crop: torch.Tensor, patches: Array, shares: Array, boxes: Array, cells: list[int]
) -> Figure:
    """Return the picture.

    Args:
        crop: uint8 ``[3, 200, 100]``.
        patches: of the cells, ``[K, S, S, 3]`` in [0, 1].
        shares: probability that the network gives each cell, for each patch, ``[K, C]``.
        boxes: all cells, xyxy in pixels of the canvas, ``[C, 4]``.
        cells: the cells of the patches.
    """
    page = Page(TOP + HEIGHT + 30, "")
    for x, text in HEADLINES.items():
        page.write(x, TOP - 26, text, TEXT, ha="center", fontweight="bold")
    _crop(page, crop, boxes, cells)
    for number, (name, patch) in enumerate(zip(NAMES, patches, strict=True)):
        top = TOP + number * (HEIGHT + 15) / 3
        panel = page.picture(patch, 272, top, 100, (32, 32))
        panel.frame(np.array([0, 0, 32, 32]), 2, INK)
        page.write(256, top + 50, name, TEXT, fontweight="bold", ha="center", va="center")
    _backbone(page, 438, MIDDLE - 105, 132, 210)
    grey = 0.72 + 0.28 * (photo(crop) @ LUMA)[..., None]
    for number, (name, share, cell) in enumerate(zip(NAMES, shares, cells, strict=True)):
        panel = _belief(page, 634 + number * 116, grey, share, boxes)
        panel.frame(boxes[cell], 3, INK, halo=1)
        panel.name(name, CANVAS, fontweight="bold")
    note = "its answer in per cent; frame: the right one"
    page.write(792, MIDDLE + 118, note, SMALL, color=SOFT, ha="center", va="top")
    for start, end in ARROWS:
        arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=16, color=SOFT, lw=1.6)
        page.sheet.add_patch(arrow)
    kept = "keep the backbone: attributes, re-identification, pose, action, embeddings"
    page.write(504, TOP + HEIGHT + 20, kept, TEXT, ha="center", va="top")
    return page.finish()


def _crop(page: Page, crop: torch.Tensor, boxes: Array, cells: list[int]) -> None:
    """Draw the crop with its cells, of which some are framed and named."""
    whole = page.picture(photo(crop), 34, TOP, HEIGHT / 2, CANVAS)
    for box in boxes:
        whole.frame(box, 1, "white")
    label = {"boxstyle": "round,pad=0.2", "fc": INK, "ec": "none"}
    centre = {"ha": "center", "va": "center", "color": "white", "fontweight": "bold"}
    for name, cell in zip(NAMES, cells, strict=True):
        whole.frame(boxes[cell], 4, INK, halo=2)
        x0, y0, _, _ = whole.place(boxes[cell])
        page.write(x0 + 12, y0 + 15, name, 9, bbox=label, **centre)


def _belief(page: Page, left: float, grey: Array, share: Array, boxes: Array) -> Panel:
    """Draw how probable each cell is, on the crop in grey; the darker, the more."""
    heat = np.ones((*CANVAS, 3))
    for (x0, y0, x1, y1), value in zip(boxes, share, strict=True):
        heat[y0:y1, x0:x1] = HEAT(value**0.5)[:3]
    panel = page.picture(heat * grey, left, MIDDLE - 104, 104, CANVAS)
    for box, value in zip(boxes, share, strict=True):
        panel.frame(box, 1, FAINT)
        if value >= 0.05:
            panel.label(box, f"{100 * value:.0f}", SMALL, color=ink_on(HEAT(value**0.5)))
    return panel


def _backbone(page: Page, left: float, top: float, width: float, height: float) -> None:
    """Draw a box whose layers become shorter and thicker."""
    style = "round,pad=0,rounding_size=8"
    page.sheet.add_patch(
        FancyBboxPatch((left, top), width, height, boxstyle=style, fc="#eef3f9", ec=NAVY, lw=1.5)
    )
    for number, share in enumerate((0.86, 0.66, 0.48, 0.32)):
        x, high = left + 14 + number * 28, height * share
        corner, rounded = (x, top + (height - high) / 2), "round,pad=0,rounding_size=3"
        color = HEAT(0.25 + 0.2 * number)
        page.sheet.add_patch(
            FancyBboxPatch(corner, 18, high, boxstyle=rounded, fc=color, ec="none")
        )


def main() -> None:
    """Read the command line and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", help="the folder of a run of the task position")
    parser.add_argument("--output", type=Path, default=Path("docs/method.png"))
    parser.add_argument("--crop", type=int, default=0, help="which of the held-out crops")
    parser.add_argument("--cells", type=int, nargs=3, default=[1, 7, 16], help="cells to ask about")
    parser.add_argument("--colours", type=int, default=256, help="size of the palette")
    args = parser.parse_args()
    model = PatchTaskModel.from_pretrained(args.run)
    row = load_crops().held_out[args.crop]
    crop = torch.from_numpy(to_canvas(row["image"], CANVAS, model.fit)).permute(2, 0, 1)
    batch = model.task.sample_all(crop[None], Draws(EVAL_SEED, torch.tensor([args.crop])))
    with torch.inference_mode():
        shares = model(batch.inputs).softmax(1)[args.cells].numpy()
    patches = model.task.transform.colours(model.task.examples(batch)[:, 0])[args.cells].numpy()
    figure = method(crop, patches, shares, model.task.boxes.numpy(), args.cells)
    pixels = as_image(figure)[HEADER:]  # the page's own title is empty
    image = Image.fromarray(pixels).quantize(args.colours, kmeans=3, dither=Image.Dither.NONE)
    image.save(args.output, optimize=True)
    print(f"wrote {args.output} ({image.width} x {image.height})")


if __name__ == "__main__":
    main()
