"""CSV and Parquet with named columns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from patchit_hf.common.errors import InputError
from patchit_hf.crops.boxes import Boxes, from_cxcywh, from_xywh
from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.table import Builder, Detections, four, number, numbers_in
from patchit_hf.crops.detections.table_file import TableFile, read_header
from patchit_hf.data.frame_names import VIDEOS
from patchit_hf.data.picture_table import find_image_column

NAMES = {
    "image": (
        "image", "file", "filename", "file_name", "image_path", "path", "image_file", "img",
        "image_name", "image_id", "imageid",
    ),
    "frame": ("frame", "frame_number", "frame_id", "frame_index"),
    "score": ("score", "confidence", "conf"),
    "label": ("label", "class_name", "class", "category", "class_id", "category_id"),
    "track": ("track", "track_id", "tracker_id", "person_id"),
    "source": ("source", "video", "sequence", "camera", "camera_id"),
    "split": ("split",),
}  # fmt: skip
CORNERS = {
    "xyxy": (
        "x0 y0 x1 y1", "x1 y1 x2 y2", "xmin ymin xmax ymax", "x_min y_min x_max y_max",
        "minx miny maxx maxy", "left top right bottom", "box_min_x box_min_y box_max_x box_max_y",
    ),
    "xywh": (
        "x y w h", "x y width height", "left top width height",
        "bbox_left bbox_top bbox_width bbox_height", "bb_left bb_top bb_width bb_height",
    ),
    "cxcywh": ("cx cy w h", "xc yc w h", "x_center y_center width height"),
}  # fmt: skip
FORMS = tuple(CORNERS)
BOXES = ("box", "bbox", "xyxy", "xywh", "cxcywh")
FIELDS = (*NAMES, "box", "a", "b", "c", "d")


def read_table(
    path: Path, columns: dict[str, Any] | None = None, box_format: str | None = None
) -> Detections:
    """Read boxes from columns with well-known names, or with the names given.

    Boxes that are all at most 1.5 are fractions of the image's size.

    Args:
        path: ``.csv``, ``.tsv`` or ``.parquet``.
        columns: the column names that are not recognised, by their meaning: ``image``, ``frame``,
            ``score``, ``label``, ``track``, ``source``, ``split``; ``box`` for a list of four
            numbers, or ``a``, ``b``, ``c`` and ``d`` for one number each.
        box_format: ``xyxy``, ``xywh`` or ``cxcywh``, if the column names do not tell.

    Raises:
        InputError: if a column is missing, the meaning of the four numbers is unknown, or most
            boxes cannot be read.
    """
    given = {key: str(value) for key, value in (columns or {}).items()}
    table = TableFile(path, _known() | {name.lower() for name in given.values()})
    for key, column in given.items():
        if key not in FIELDS:
            raise InputError(f"--columns {key!r}: must be one of {', '.join(FIELDS)}")
        if column not in table.names:
            raise InputError(
                f"--columns {key}={column}: no such column in {path.name}; {_list(table)}"
            )
    found = {key: given.get(key) or table.find(names) for key, names in NAMES.items()}
    if found["image"] is None and found["frame"] is None and path.suffix == ".parquet":
        found["image"] = find_image_column(path)
    if found["image"] is None and found["frame"] is None:
        raise InputError(
            f"{path.name}: no column holds image names; {_list(table)}; "
            "give it with --columns image="
        )
    boxes, rows, bad = _boxes(table, given, box_format)
    words = {key: table.words(name) for key, name in found.items() if name and key != "score"}
    scores, no_score = _scores(table, found["score"], rows)
    bad = no_score | bad
    builder = Builder("table")
    for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        row, nth = rows[i]
        where = f"{path.name}, row {row + 1}"
        image = builder.picture(
            _picture(words, row, where),
            source=_at(words, "source", row) or "",
            split=_at(words, "split", row) or "",
        )
        if i in bad:
            error = InputError(f"{where}: {bad[i]}")
            builder.unreadable(image, error, file=path.name, row=row + 1)
            continue
        builder.box(
            image,
            (x0, y0, x1, y1),
            file=path.name,
            row=row + 1,
            score=scores[i],
            label=_at(words, "label", row, nth),
            track=None if (track := _at(words, "track", row, nth)) == "-1" else track,
        )
    relative = _are_shares(boxes)
    if relative:
        builder.note(f"{path.name}: its boxes are read as fractions of the image size")
    return builder.done(relative=relative)


def is_table(path: Path) -> bool:
    """Say whether the first line of a text file holds well-known column names."""
    names = {name.lower() for name in read_header(path, _known())[2]}
    return bool(names & {*NAMES["image"], *NAMES["frame"]}) and len(names) > 1


def _known() -> set[str]:
    """Return all names of columns that are recognised, in lower case."""
    corners = {word for sets in CORNERS.values() for names in sets for word in names.split()}
    return {name for names in NAMES.values() for name in names} | corners | {*BOXES}


def _picture(words: dict[str, list[Any]], row: int, where: str) -> str:
    """Return an image's name: the one in the table, or ``video#frame``."""
    name, frame = _at(words, "image", row), _at(words, "frame", row)
    if name is not None and (frame is None or not name.lower().endswith(VIDEOS)):
        return name
    if frame is None:
        raise InputError(f"{where}: the image name is missing")
    index = number(frame, where, "frame")
    if index < 0 or not index.is_integer():
        raise InputError(f"{where}: frame {frame!r}: must be a whole number from 0")
    return f"{name or _at(words, 'source', row) or ''}#{int(index)}"


def _scores(
    table: TableFile, column: str | None, rows: list[tuple[int, int]]
) -> tuple[list[float], dict[int, str]]:
    """Return the score of each box, NaN where there is none, and what is wrong with it, by box."""
    words = table.words(column) if column else []
    scores, bad = [], {}
    for i, (row, nth) in enumerate(rows):
        word = _at({"score": words}, "score", row, nth) if column else None
        try:
            scores.append(math.nan if word is None else table.number(word))
        except ValueError:
            scores.append(math.nan)
            bad[i] = f"column {column!r}: must hold numbers, not {word!r}"
    return scores, bad


def _boxes(
    table: TableFile, given: dict[str, str], box_format: str | None
) -> tuple[Boxes, list[tuple[int, int]], dict[int, str]]:
    """Return the boxes as xyxy ``[N, 4]``, where they are, and what is wrong with some.

    A box is at a row from 0, and is its n-th, since a row may hold the boxes of a whole image.
    """
    stated, names = box_format, [given[key] for key in "abcd" if key in given]
    column, file = given.get("box") or table.find(BOXES), table.path.name
    if column is not None and not names:
        own = column.lower().rpartition(".")[2]  # objects.xyxy is a part of a struct
        stated = stated or (own if own in FORMS else None)
        boxes, rows, bad = _listed(table, column)
    else:
        if not names:
            form, names = _corners(table)
            stated = stated or form
        if len(names) != 4:
            raise InputError(
                f"{file}: no four columns hold a box (such as x0 y0 x1 y1, or x y w h); "
                f"{_list(table)}; give them with --columns a= b= c= d="
            )
        boxes, bad = _side_by_side(table, names)
        rows = [(row, 0) for row in range(len(boxes))]
    bad |= {
        row: f"has {n} values, the header {len(table.names)}" for row, n in table.longer.items()
    }
    if stated is None:
        raise InputError(
            f"{file}: the meaning of the four numbers of a box is unknown; give --box-format "
            f"({', '.join(FORMS)})"
        )
    if stated == "xyxy":
        return boxes, rows, bad
    return (from_xywh(boxes) if stated == "xywh" else from_cxcywh(boxes)), rows, bad


def _listed(table: TableFile, column: str) -> tuple[Boxes, list[tuple[int, int]], dict[int, str]]:
    """Return the boxes of one column: lists, also written as text, or lists of lists."""
    boxes: list[tuple[float, float, float, float]] = []
    rows: list[tuple[int, int]] = []
    bad = {}
    for row, value in enumerate(table.values(column)):
        several = isinstance(value, list) and all(isinstance(v, list | tuple) for v in value)
        for nth, box in enumerate(value if several else [value]):
            listed = numbers_in(box) if isinstance(box, str) else box
            try:
                boxes.append(four(list(listed) if isinstance(listed, list | tuple) else [], ""))
            except InputError:
                boxes.append((math.nan, math.nan, math.nan, math.nan))
                bad[len(rows)] = f"column {column!r}: must hold lists of four numbers, not {box!r}"
            rows.append((row, nth))
    return np.array(boxes, np.float64).reshape(-1, 4), rows, bad


def _side_by_side(table: TableFile, names: list[str]) -> tuple[Boxes, dict[int, str]]:
    """Return the boxes of four columns."""
    columns, bad = [], dict[int, str]()
    for name in names:
        values, wrong = table.numbers(name)
        columns.append(values)
        for row, text in wrong.items():
            bad.setdefault(row, f"column {name!r}: must hold numbers, not {text!r}")
    return np.stack(columns, axis=1), bad


def _corners(table: TableFile) -> tuple[str | None, list[str]]:
    for form, sets in CORNERS.items():
        for names in sets:
            found = [table.find([name]) for name in names.split()]
            if all(found):
                return form, [str(name) for name in found]
    return None, []


def _are_shares(boxes: Boxes) -> bool:
    """Say whether boxes are fractions of the image size: no person is a pixel wide."""
    there = boxes[np.isfinite(boxes).all(axis=1)]
    return len(there) > 0 and bool((np.abs(there) <= 1.5).all())


def _at(words: dict[str, list[Any]], key: str, row: int, nth: int = 0) -> str | None:
    """Return a value of a row, or the n-th of several."""
    value = words[key][row] if key in words else None
    if isinstance(value, list):
        value = value[nth] if nth < len(value) else None
    return None if value is None else str(value)


def _list(table: TableFile) -> str:
    return f"columns: {', '.join(table.names)}"


def _looks(look: Look) -> Path | None:
    path = look.path
    if look.is_folder or not (path.suffix == ".parquet" or is_table(path)):
        return None
    return path


FORMAT = Format("table", "CSV and Parquet", _looks, read_table, options=("columns", "box_format"))
