"""CSV and Parquet with named columns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.crops.boxes import Boxes, from_cxcywh, from_xywh
from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.table import Builder, Detections, number
from patchit_hf.data.frame_names import VIDEOS

NAMES = {
    "image": ("image", "file", "filename", "file_name", "image_path", "path", "image_file", "img"),
    "frame": ("frame", "frame_number", "frame_id", "frame_index"),
    "score": ("score", "confidence", "conf"),
    "label": ("label", "class_name", "class", "category", "class_id", "category_id"),
    "track": ("track", "track_id", "tracker_id", "person_id"),
    "source": ("source", "video", "sequence", "camera", "camera_id"),
    "split": ("split",),
}
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
FIELDS = (*NAMES, "box", "a", "b", "c", "d")


def read_table(
    path: Path, columns: dict[str, Any] | None = None, box_format: str | None = None
) -> Detections:
    """Read boxes from columns with well-known names, or with the names given.

    Args:
        path: ``.csv``, ``.tsv`` or ``.parquet``.
        columns: the column names that are not recognised, by their meaning: ``image``, ``frame``,
            ``score``, ``label``, ``track``, ``source``, ``split``; ``box`` for a list of four
            numbers, or ``a``, ``b``, ``c`` and ``d`` for one number each.
        box_format: ``xyxy``, ``xywh`` or ``cxcywh``, if the column names do not tell.

    Raises:
        InputError: if a column is missing, or the meaning of the four numbers is unknown.
    """
    given = {key: str(value) for key, value in (columns or {}).items()}
    table = _open(path, [given[key] for key in NAMES if key in given])
    for key, column in given.items():
        if key not in FIELDS:
            raise InputError(f"--columns {key!r}: must be one of {', '.join(FIELDS)}")
        if column not in table.column_names:
            raise InputError(
                f"--columns {key}={column}: no such column in {path.name}; {_list(table)}"
            )
    boxes = _boxes(table, path, given, box_format)
    found = {key: given.get(key) or _known(table, names) for key, names in NAMES.items()}
    if found["image"] is None and found["frame"] is None:
        raise InputError(
            f"{path.name}: no column holds image names; {_list(table)}; "
            "give it with --columns image="
        )
    values = {key: table[name].to_pylist() for key, name in found.items() if name is not None}
    builder = Builder("table")
    for i in range(len(boxes)):
        where = f"{path.name}, row {i + 1}"
        name = _picture(values, i, where)
        x0, y0, x1, y1 = boxes[i].tolist()
        score = _at(values, "score", i)
        builder.box(
            builder.picture(
                name,
                source=_at(values, "source", i) or "",
                split=_at(values, "split", i) or "",
            ),
            (x0, y0, x1, y1),
            file=path.name,
            row=i + 1,
            score=math.nan if score is None else number(score, where, "score"),
            label=_at(values, "label", i),
            track=_track(_at(values, "track", i)),
        )
    return builder.done()


def _picture(values: dict[str, list[Any]], row: int, where: str) -> str:
    """Return an image's name: the one in the table, or ``video#frame``."""
    name, frame = _at(values, "image", row), _at(values, "frame", row)
    if name is not None and (frame is None or not name.lower().endswith(VIDEOS)):
        return name
    if frame is None:
        raise InputError(f"{where}: the image name is missing")
    index = number(frame, where, "frame")
    if index < 0 or not index.is_integer():
        raise InputError(f"{where}: frame {frame!r}: must be a whole number from 0")
    return f"{name or _at(values, 'source', row) or ''}#{int(index)}"


def header(path: Path) -> list[str]:
    """Return the names of the columns."""
    if path.suffix == ".parquet":
        return list(pyarrow.parquet.read_schema(path).names)
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().strip().replace("\t", ",").split(",")


def is_table(path: Path) -> bool:
    """Say whether the first line of a text file holds well-known column names."""
    names = {name.strip().strip('"').lower() for name in header(path)}
    return bool(names & {*NAMES["image"], *NAMES["frame"]}) and len(names) > 1


def _open(path: Path, words: list[str]) -> Any:
    """Open a table; columns of names are read as text, so that 007 keeps its zeros."""
    known = {name for key, names in NAMES.items() if key != "score" for name in names}
    try:
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path)
        with path.open(encoding="utf-8") as file:
            tabs = "\t" in file.readline()
        options = pyarrow.csv.ParseOptions(delimiter="\t" if tabs else ",")
        names = [n.strip().strip('"') for n in header(path)]
        text = {n: pyarrow.string() for n in names if n.lower() in known or n in words}
        convert = pyarrow.csv.ConvertOptions(column_types=text)
        return pyarrow.csv.read_csv(path, parse_options=options, convert_options=convert)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: cannot be read: {one_line(error)}") from error


def _boxes(table: Any, path: Path, given: dict[str, str], box_format: str | None) -> Boxes:
    """Return the boxes as xyxy ``[N, 4]``."""
    stated, names = box_format, [given[key] for key in "abcd" if key in given]
    column = given.get("box") or _known(table, ("box", "bbox", "xyxy", "xywh", "cxcywh"))
    if column is not None and not names:
        stated = stated or (column if column in FORMS else None)
        rows = table[column].to_pylist()
        if not all(isinstance(row, list) and len(row) == 4 for row in rows):
            raise InputError(f"{path.name}: column {column!r}: must hold lists of four numbers")
        boxes = np.array(rows, dtype=np.float64).reshape(len(rows), 4)
    else:
        if not names:
            form, names = _corners(table)
            stated = stated or form
        if len(names) != 4:
            raise InputError(
                f"{path.name}: no four columns hold a box (such as x0 y0 x1 y1, or x y w h); "
                f"{_list(table)}; give them with --columns a= b= c= d="
            )
        boxes = np.stack([_numbers(table, name, path) for name in names], axis=1)
    if stated is None:
        raise InputError(
            f"{path.name}: the meaning of the four numbers of a box is unknown; give --box-format "
            f"({', '.join(FORMS)})"
        )
    if stated == "xyxy":
        return boxes
    return from_xywh(boxes) if stated == "xywh" else from_cxcywh(boxes)


def _corners(table: Any) -> tuple[str | None, list[str]]:
    lower = {name.lower(): name for name in table.column_names}
    for form, sets in CORNERS.items():
        for names in sets:
            if all(name in lower for name in names.split()):
                return form, [lower[name] for name in names.split()]
    return None, []


def _known(table: Any, names: tuple[str, ...]) -> str | None:
    lower = {name.lower(): name for name in table.column_names}
    return next((str(lower[name]) for name in names if name in lower), None)


def _numbers(table: Any, name: str, path: Path) -> Any:
    try:
        values = table[name].cast(pyarrow.float64()).to_pylist()
    except pyarrow.ArrowException as error:
        raise InputError(f"{path.name}: column {name!r}: must hold numbers") from error
    return np.array([math.nan if value is None else value for value in values])


def _at(values: dict[str, list[Any]], key: str, row: int) -> str | None:
    value = values[key][row] if key in values else None
    return None if value is None or value == "" else str(value)


def _track(value: str | None) -> str | None:
    return None if value in (None, "-1", "-1.0") else value


def _list(table: Any) -> str:
    return f"columns: {', '.join(table.column_names)}"


def _looks(look: Look) -> Path | None:
    path = look.path
    if look.is_folder or not (path.suffix == ".parquet" or is_table(path)):
        return None
    return path


FORMAT = Format("table", "CSV and Parquet", _looks, read_table, options=("columns", "box_format"))
