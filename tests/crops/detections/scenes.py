"""A painted scene with two people and a car, and what crops of it show."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet
from PIL import Image, ImageDraw

from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.make import make_crops

SIZE = (320, 240)
GREY = (90, 90, 90)
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
RED, GREEN, CAR = (40, 40, 80, 140), (160, 60, 200, 180), (220, 30, 300, 90)
BOTH = [("red", RED), ("green", GREEN)]


def paint(path, people=(*BOTH, ("blue", CAR))):
    """Save a scene in which each box is filled with a colour; boxes are xyxy."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", SIZE, GREY)
    for colour, (x0, y0, x1, y1) in people:
        ImageDraw.Draw(image).rectangle([x0, y0, x1 - 1, y1 - 1], fill=COLOURS[colour])
    image.save(path, quality=100, subsampling=0)


def cut(found, images, out):
    """Cut all people, and return file, colour and box of each crop, and the report.

    The colour is that of a crop that shows its box from edge to edge with a bit of grey beside it.
    """
    options = CropOptions(
        image_format="png", validation=0, min_height=20, max_overlap=1, keep_cut=True
    )
    report = make_crops(found, images, out, options)
    rows = [
        row
        for file in sorted((out / "data").glob("*.parquet"))
        for row in pyarrow.parquet.read_table(file).to_pylist()
    ]
    return [
        (row["file"], _colour(row), tuple(round(v, 3) for v in row["box"])) for row in rows
    ], report


def _colour(row):
    pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).astype(int)
    height, width = pixels.shape[:2]
    (x0, y0, x1, y1), (left, top, right, bottom) = row["box"], row["window"]
    across, down = width / (right - left), height / (bottom - top)
    inner = pixels[
        round((y0 - top) * down) + 4 : round((y1 - top) * down) - 4,
        round((x0 - left) * across) + 4 : round((x1 - left) * across) - 4,
    ]
    outer = pixels[:, : round((x0 - left) * across) - 4]
    assert abs(outer - GREY).max() <= 12, "what is beside the box is not the background"
    for name, colour in COLOURS.items():
        if abs(inner - colour).max() <= 12:
            return name
    raise AssertionError(f"the box shows {inner.reshape(-1, 3).mean(0)}")
