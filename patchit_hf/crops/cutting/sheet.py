"""The contact sheet: an image of some crops and of some dropped boxes, to check by eye."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow.parquet
from PIL import Image, ImageDraw, ImageFont

from patchit_hf.crops.boxes import Boxes, clip, orient, to_pixels
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.cutting.plan import Plan
from patchit_hf.crops.cutting.shards import DROPPED, Shards
from patchit_hf.data.formats import open_image
from patchit_hf.data.pictures import BadPictureError

COLUMNS, KEPT_ROWS, GAP, TEXT = 12, 5, 4, 18
CELL = 200  # largest height of a cell, in pixels
INVISIBLE = ("not finite", "no area", "outside", "bad picture", "class")
INK, PAPER, RED = (30, 30, 30), (250, 250, 250), (214, 40, 40)


def contact_sheet(shards: Shards) -> bytes:
    """Return a PNG of crops from all over the data set, and of dropped boxes by reason.

    A dropped box is outlined in red and shown with its surroundings.
    """
    height, width = shards.options.size
    scale = min(1.0, CELL / height)
    cell = (max(1, round(width * scale)), max(1, round(height * scale)))
    total = sum(part.crops for part in shards.parts)
    bands = [(f"some of {total:,} crops", [c.resize(cell) for c in _crops(shards)])]
    for reason, pictures in _dropped(shards).items():
        count = sum(part.dropped[reason] for part in shards.parts)
        bands.append((f"dropped, {reason}: {count:,}", [_fitted(p, cell) for p in pictures]))
    return _draw(bands, cell)


def _crops(shards: Shards) -> list[Image.Image]:
    """Return crops at evenly spaced rows of all parts."""
    readers = [pyarrow.parquet.ParquetFile(file) for file in shards.gathered]
    ends = np.cumsum([reader.metadata.num_rows for reader in readers])
    wanted = np.unique(np.linspace(0, ends[-1] - 1, COLUMNS * KEPT_ROWS).round().astype(int))
    crops = []
    for row in wanted.tolist():
        number = int(np.searchsorted(ends, row, side="right"))
        row -= int(ends[number - 1]) if number else 0
        group, seen = 0, 0
        while row >= seen + readers[number].metadata.row_group(group).num_rows:
            seen += readers[number].metadata.row_group(group).num_rows
            group += 1
        column = readers[number].read_row_group(group, columns=["image"])["image"]
        crops.append(open_image(io.BytesIO(column[row - seen].as_py()["bytes"])).convert("RGB"))
    return crops


def _dropped(shards: Shards) -> dict[str, list[Image.Image]]:
    """Return images of dropped boxes by reason, evenly spaced among those of each reason."""
    counts: Counter[str] = sum((part.dropped for part in shards.parts), Counter())
    wanted = {
        reason: set(np.linspace(0, count - 1, min(count, COLUMNS)).round().astype(int).tolist())
        for reason, count in counts.items()
        if reason not in INVISIBLE
    }
    seen: Counter[str] = Counter()
    pictures: dict[str, list[Image.Image]] = {reason: [] for reason in sorted(wanted)}
    with (shards.work / DROPPED).open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            reason = entry["reason"]
            if reason in wanted and seen[reason] in wanted[reason]:
                shown = _shown(entry, shards.plan, shards.options)
                pictures[reason] += [] if shown is None else [shown]
            seen[reason] += 1
    return {reason: found for reason, found in pictures.items() if found}


def _shown(entry: dict[str, Any], plan: Plan, options: CropOptions) -> Image.Image | None:
    """Return an outlined dropped box, with a margin of a quarter of its size on each side."""
    try:
        picture = plan.folder.picture(entry["picture"], options.max_pixels)
    except BadPictureError:
        return None
    size = picture.stored if options.exif == "stored" else picture.pixels.size
    box: Boxes = np.array([entry["box"]], dtype=np.float64)
    box = to_pixels(box, size) if plan.found.relative else box
    if options.exif == "stored":
        box = orient(box, picture.stored, picture.orientation)
    x0, y0, x1, y1 = box[0].tolist()
    margin = max(x1 - x0, y1 - y0) / 4
    around = clip(
        np.array([[x0 - margin, y0 - margin, x1 + margin, y1 + margin]]), picture.pixels.size
    )
    left, top, right, bottom = around[0].tolist()
    if right - left < 1 or bottom - top < 1:
        return None
    scale = min(2 * CELL / (right - left), CELL / (bottom - top))
    shape = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    crop = picture.pixels.resize(shape, box=(left, top, right, bottom))
    outline = [
        round((v - o) * scale) for v, o in zip((x0, y0, x1, y1), (left, top) * 2, strict=True)
    ]
    corners = (
        outline[0],
        outline[1],
        max(outline[2] - 1, outline[0]),
        max(outline[3] - 1, outline[1]),
    )
    ImageDraw.Draw(crop).rectangle(corners, outline=RED, width=2)
    return crop


def _fitted(picture: Image.Image, cell: tuple[int, int]) -> Image.Image:
    """Return an image scaled to fit a cell, on a plain background."""
    scale = min(cell[0] / picture.width, cell[1] / picture.height)
    shape = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    page = Image.new("RGB", cell, PAPER)
    page.paste(picture.resize(shape), ((cell[0] - shape[0]) // 2, (cell[1] - shape[1]) // 2))
    return page


def _draw(bands: Iterable[tuple[str, list[Image.Image]]], cell: tuple[int, int]) -> bytes:
    bands = list(bands)
    rows = [-(-len(pictures) // COLUMNS) for _, pictures in bands]
    height = GAP + sum(TEXT + GAP + count * (cell[1] + GAP) for count in rows)
    page = Image.new("RGB", (GAP + COLUMNS * (cell[0] + GAP), height), PAPER)
    pen, font, y = ImageDraw.Draw(page), ImageFont.load_default(14), GAP
    for (title, pictures), count in zip(bands, rows, strict=True):
        pen.text((GAP, y), title, fill=INK, font=font)
        y += TEXT
        for i, picture in enumerate(pictures):
            corner = (GAP + i % COLUMNS * (cell[0] + GAP), y + i // COLUMNS * (cell[1] + GAP))
            page.paste(picture, corner)
        y += GAP + count * (cell[1] + GAP)
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()
