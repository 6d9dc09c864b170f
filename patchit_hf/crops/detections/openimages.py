"""Open Images: ``*-annotations-bbox.csv``, boxes in fractions of the image's size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.layout import (
    files_below,
    lines_of,
    relative,
    settle_splits,
    split_in,
)
from patchit_hf.crops.detections.table import PERSONS, Builder, Detections

EDGES = ("XMin", "YMin", "XMax", "YMax")
NEEDED = ("ImageID", "LabelName", *EDGES)
PEOPLE = {
    "/m/01g317": "Person", "/m/04yx4": "Man", "/m/03bt1vf": "Woman", "/m/01bl7v": "Boy",
    "/m/05r655": "Girl",
}  # fmt: skip
NOT_ONE = {"IsGroupOf": "group", "IsDepiction": "depiction"}  # the box is not that of one person


def read_openimages(path: Path) -> Detections:
    """Read one file, or all files of boxes below a folder, whose names tell their split.

    The names of other classes than people come from a ``class-descriptions`` file beside them. A
    group gets the label ``group``, a drawing or statue ``depiction`` (Kuznetsova et al., arXiv
    1811.00982). The score is that of the file where it is not 1 throughout.

    Raises:
        InputError: if a file is damaged or lacks a column.
    """
    builder = Builder("openimages")
    files = [path] if path.is_file() else [f for f in files_below(path, ".csv") if _header(f)]
    for file in files:
        _add(builder, file, relative(file, path), split_in(file.stem))
    people = tuple(name.lower() for name in PEOPLE.values())
    return settle_splits(
        builder.done(persons=(*dict.fromkeys((*PERSONS, *people)),), relative=True)
    )


def _add(builder: Builder, file: Path, name: str, split: str) -> None:
    table, named = _table(file), _class_names(file)
    images = [builder.picture(image, split=split) for image in table["ImageID"]]
    edges = [table[edge] for edge in EDGES]
    scores = table.get("Confidence", [])
    sure = all(score in (None, 1) for score in scores)
    for i, (image, label) in enumerate(zip(images, table["LabelName"], strict=True)):
        flags = [word for key, word in NOT_ONE.items() if key in table and table[key][i] == 1]
        x0, y0, x1, y1 = (math.nan if edge[i] is None else edge[i] for edge in edges)
        builder.box(
            image,
            (x0, y0, x1, y1),
            file=name,
            row=i + 1,
            score=math.nan if sure or scores[i] is None else scores[i],
            label=flags[0] if flags else named.get(label, label),
        )


def _table(file: Path) -> dict[str, list[Any]]:
    text, numbers = pyarrow.string(), pyarrow.float64()
    optional = [name for name in ("Confidence", *NOT_ONE) if name in _columns(file)]
    types = dict.fromkeys(("ImageID", "LabelName"), text)
    types |= dict.fromkeys((*EDGES, *optional), numbers)
    options = pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(types))
    try:
        return dict(pyarrow.csv.read_csv(file, convert_options=options).to_pydict())
    except (pyarrow.ArrowException, KeyError) as error:
        raise InputError(f"{file}: cannot be read as Open Images: {one_line(error)}") from error


def _class_names(file: Path) -> dict[str, str]:
    """Return the names of classes from a file beside the boxes, or a folder above."""
    for folder in (file.parent, file.parent.parent):
        for described in sorted(folder.glob("*class-descriptions*.csv")):
            rows = (line.split(",", 1) for line in lines_of(described))
            return {row[0].strip(): row[1].strip().strip('"') for row in rows if len(row) == 2}
    return PEOPLE


def _columns(file: Path) -> list[str]:
    with file.open(encoding="utf-8-sig", errors="replace") as opened:
        return [name.strip().strip('"') for name in opened.readline().split(",")]


def _header(file: Path) -> bool:
    return set(NEEDED) <= set(_columns(file))


def _looks(look: Look) -> Path | None:
    return next((file for file in look.some(".csv") if _header(file)), None)


FORMAT = Format("openimages", "Open Images", _looks, read_openimages, over=("table",))
