"""YOLO text: one file per image, ``class cx cy width height`` in fractions of its size."""

from __future__ import annotations

import math
import os
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchit_hf.common.errors import InputError
from patchit_hf.common.names import image_endings
from patchit_hf.common.text import read_lines, text_start
from patchit_hf.crops.boxes import from_cxcywh
from patchit_hf.crops.detections.class_names import ClassNames, find_class_names, is_class_list
from patchit_hf.crops.detections.format import Format, Look, numeric
from patchit_hf.crops.detections.layout import image_of, label_files, relative
from patchit_hf.crops.detections.table import Builder, Detections, key_of, number

OBB = 8  # numbers of a rotated box's four corners
Shape = tuple[int, int]  # number of keypoints, and of numbers for each


@dataclass
class Line:
    """A line of a file of labels.

    Attributes:
        image: index of its image.
        name: name of the file.
        row: number of the line.
        label: the class.
        values: the numbers after it.
    """

    image: int
    name: str
    row: int
    label: str
    values: array[float]


def read_yolo(path: Path) -> Detections:
    """Read one file, or all files of folders called ``labels``, or all below a folder.

    ``labels/a.txt`` is about ``images/a``, any other file about an image beside it. Class names
    come from a file beside or above them (see ``find_class_names``); without one, class 0 is a
    person. A line may add a confidence and a track id, or one of them: whole numbers, some above 1,
    are tracks. Keypoints may follow the box, as many as ``kpt_shape`` says. A polygon is replaced
    by its bounding box. Boxes stay in fractions of the image's size.

    Raises:
        InputError: if most lines are malformed, or their values look like pixels.
    """
    builder = Builder("yolo")
    root = path.parent if path.is_file() else path
    known = find_class_names(root)
    files = [relative(file, path) for file in label_files(path, ".txt", "labels")]
    longer: list[Line] = []  # their meaning follows from all of them
    for name in files:
        if path.is_dir() and _is_other(root / name):
            continue
        image = builder.picture(image_of(name))
        for row, text in enumerate(read_lines(root / name), 1):
            line = _parse(builder, text, image, name, row, known)
            if line is not None and len(line.values) > 4:
                longer.append(line)
            elif line is not None:
                _add(builder, line, known.keypoints, tracks=False)
    shape = known.keypoints or _keypoints(longer, builder)
    tracks = _are_tracks(longer, shape)
    for line in longer:
        _add(builder, line, shape, tracks=tracks)
    if known.names:
        return builder.done(relative=True)
    builder.assume("0", path.name)
    return builder.done(persons=("0",), relative=True)


def _parse(
    builder: Builder, text: str, image: int, name: str, row: int, known: ClassNames
) -> Line | None:
    """Return a line; None if it is blank, or its values are no numbers."""
    words = text.split()
    if not words:
        return None
    try:
        values = array("d", [number(word, f"{name}, row {row}", "value") for word in words[1:]])
    except InputError as error:
        builder.unreadable(image, error, file=name, row=row)
        return None
    label = key_of(words[0]) or words[0]
    return Line(image, name, row, known.names.get(label, label), values)


def _add(builder: Builder, line: Line, shape: Shape | None, *, tracks: bool) -> None:
    try:
        box, tail = _parts(line, shape)
        xyxy = _corners(box, line)
    except InputError as error:
        builder.unreadable(line.image, error, file=line.name, row=line.row)
        return
    score, track = math.nan, None
    if len(tail) == 2:
        score, track = tail[0], key_of(tail[1])
    elif tail and (tracks or (tail[0] > 1 and float(tail[0]).is_integer())):
        track = key_of(tail[0])
    elif tail:
        score = tail[0]
    builder.box(
        line.image,
        xyxy,
        file=line.name,
        row=line.row,
        score=score,
        label=line.label,
        track=track,
    )


def _parts(line: Line, shape: Shape | None) -> tuple[array[float], array[float]]:
    """Return the box (four numbers) or polygon, and what follows: confidence, track, or both."""
    values, count = line.values, len(line.values)
    if shape is not None:
        end = 4 + shape[0] * shape[1]
        if count in (end, end + 1, end + 2):
            return values[:4], values[end:]
        if count not in (4, 5, 6):
            raise InputError(
                f"{line.name}, row {line.row}: {count + 1} values; with kpt_shape {list(shape)} "
                f"there must be {end + 1}, or 5 for a box alone"
            )
    if count in (4, 5) or (count == 6 and (shape or _is_id(values[5], least=1))):
        return values[:4], values[4:]
    if count < 6:
        raise InputError(
            f"{line.name}, row {line.row}: {count + 1} values; must be class cx cy width height, "
            "optionally with confidence and track id, or a polygon"
        )
    if count % 2:
        return values[:-1], values[-1:]
    end = count - 2 if count > 6 and _is_id(values[-1], least=2) else count
    return values[:end], values[end:]


def _corners(values: array[float], line: Line) -> tuple[float, float, float, float]:
    """Return a box or polygon as xyxy."""
    if max(value if math.isfinite(value) else 0.0 for value in values) > 2:
        words = [f"{value:g}" for value in values[:4]]
        raise InputError(
            f"{line.name}, row {line.row}: {words} look like pixels; must be fractions of the "
            "image size"
        )
    if len(values) == 4:
        x0, y0, x1, y1 = from_cxcywh(np.array([values]))[0].tolist()
        return x0, y0, x1, y1
    points = np.array(values).reshape(-1, 2)
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return x0, y0, x1, y1


def _is_id(value: float, least: int) -> bool:
    return float(value).is_integer() and value >= least


def _are_tracks(lines: list[Line], shape: Shape | None) -> bool:
    """Say whether single values after the boxes are track ids: whole, and some above 1."""
    above = False
    for line in lines:
        try:
            tail = _parts(line, shape)[1]
        except InputError:  # reported with its line
            continue
        if len(tail) == 1:
            if not _is_id(tail[0], least=0):
                return False
            above |= tail[0] > 1
    return above


def _keypoints(lines: list[Line], builder: Builder) -> Shape | None:
    """Return the shape of keypoints that no file states, if lines are boxes with keypoints.

    All lines then have one length, and the points lie in the boxes. In a polygon, unlike there,
    the second pair of numbers is a point among the others.
    """
    counts = {len(line.values) for line in lines if len(line.values) > 6}
    if len(counts) != 1 or OBB in counts:
        return None
    (count,) = counts
    table = np.array([line.values for line in lines if len(line.values) == count])
    for each in (3, 2):
        number_of = (count - 4) // each
        if (count - 4) % each or number_of < 2:
            continue
        points = table[:, 4:].reshape(len(table), number_of, each)
        seen = (points[..., :2] != 0).any(2)
        flags = each == 3 and bool(np.isin(points[..., 2], (0, 1, 2)).all())
        if flags or (_in_boxes(table, points, seen) and not _among(table, points, seen)):
            builder.note(
                f"lines of {count + 1} values are read as a box and {number_of} keypoints of "
                f"{each} numbers; a data.yaml with kpt_shape: [{number_of}, {each}] would say so"
            )
            return number_of, each
    return None


def _in_boxes(
    table: NDArray[np.float64], points: NDArray[np.float64], seen: NDArray[np.bool_]
) -> bool:
    """Say whether all points lie in their boxes, with a tolerance of a quarter of their size."""
    centre, size = table[:, None, :2], table[:, None, 2:4]
    inside = (np.abs(points[..., :2] - centre) <= 0.75 * size).all(2)
    return bool((inside | ~seen).all() and seen.any(1).all())


def _among(
    table: NDArray[np.float64], points: NDArray[np.float64], seen: NDArray[np.bool_]
) -> bool:
    """Say whether the second pair of numbers of most lines is a point among the others."""
    there = np.where(seen[..., None], points[..., :2], math.nan)
    low, high = np.nanmin(there, axis=1), np.nanmax(there, axis=1)
    slack = 0.5 * (high - low)
    near = ((table[:, 2:4] >= low - slack) & (table[:, 2:4] <= high + slack)).all(1)
    return float(near.mean()) > 0.5


def _is_other(file: Path) -> bool:
    """Say whether a text file of an export holds no labels: class names, images, or a readme."""
    first = text_start(file, 4096).strip().partition("\n")[0].strip()
    of_images = os.path.splitext(first)[1].lower() in image_endings()
    return is_class_list(file.name) or file.name.upper().startswith("README") or of_images


def _looks(look: Look) -> Path | None:
    for file in look.some(".txt"):
        rows = [line.split() for line in look.lines(file)] if not _is_other(file) else []
        if not rows or len(rows[0]) < 5 or not numeric(rows[0]) or not _whole(rows[0][0]):
            continue
        if look.is_folder or all(_shares(row[1:5]) for row in rows):
            return file
    return None


def _whole(word: str) -> bool:
    return (key_of(word) or "").isdecimal()


def _shares(words: list[str]) -> bool:
    """Say whether numbers look like fractions of an image's size."""
    return numeric(words) and all(-0.5 <= float(word) <= 1.5 for word in words)


FORMAT = Format("yolo", "YOLO text", _looks, read_yolo, over=("text",))
