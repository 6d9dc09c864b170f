"""LabelMe: one JSON file an image, with its shapes."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.common.text import read_json_value
from patchit_hf.crops.boxes import Box, around
from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.layout import beside, files_below, relative
from patchit_hf.crops.detections.table import Builder, Detections, number, pixels


def read_labelme(path: Path) -> Detections:
    """Read one file, or all LabelMe files below a folder; other JSON files are passed over.

    The image is the one that is called like the JSON file; if there is none, the one that
    ``imagePath`` states. A shape of any kind is replaced by its bounding box. Shapes of one label
    that share a ``group_id`` are one object. A point has no area, and is reported so.

    Raises:
        InputError: for a damaged file, or if half of the shapes are malformed.
    """
    builder = Builder("labelme")
    for file in [path] if path.is_file() else files_below(path, ".json"):
        value, name = read_json_value(file), relative(file, path)
        if not isinstance(value, dict) or not isinstance(value.get("shapes"), list):
            if file == path:
                raise InputError(f"{file}: is not LabelMe; must be an object with 'shapes'")
            continue
        _image(builder, value, name)
    return builder.done()


def _image(builder: Builder, value: dict[str, Any], name: str) -> None:
    size = (pixels(value.get("imageWidth")), pixels(value.get("imageHeight")))
    own, stated = (
        PurePosixPath(name).with_suffix(""),
        beside(name, str(value.get("imagePath") or "")),
    )
    if PurePosixPath(stated).stem == own.name:
        image = builder.picture(stated, size)
    else:
        image = builder.picture(own.as_posix(), size, other=stated)
    objects: dict[tuple[str, Any], tuple[int, list[Box]]] = {}
    for row, shape in enumerate(value["shapes"], 1):
        try:
            label, group, box = _shape(shape, f"{name}, shape {row}")
        except InputError as error:
            builder.unreadable(image, error, file=name, row=row)
            continue
        key = (label, row if group is None else f"group {group}")
        objects.setdefault(key, (row, []))[1].append(box)
    for (label, _), (row, boxes) in objects.items():
        whole = around(corner for box in boxes for corner in (box[:2], box[2:]))
        builder.box(image, whole, file=name, row=row, label=label or None)


def _shape(shape: Any, where: str) -> tuple[str, Any, Box]:
    """Return label, group and bounding box of a shape."""
    if not isinstance(shape, dict) or not isinstance(shape.get("points"), list):
        raise InputError(f"{where}: must be an object with 'label' and 'points'")
    points = [_point(point, where) for point in shape["points"]]
    box = around(points)
    if shape.get("shape_type") == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        box = x - radius, y - radius, x + radius, y + radius
    return str(shape.get("label") or ""), shape.get("group_id"), box


def _point(point: Any, where: str) -> tuple[float, float]:
    if not isinstance(point, list) or len(point) != 2:
        raise InputError(f"{where}: point {point!r}: must be two numbers")
    return number(point[0], where, "point"), number(point[1], where, "point")


def _looks(look: Look) -> Path | None:
    for file in look.some(".json"):
        bracket, keys = look.keys(file)
        if bracket == "{" and "shapes" in keys and keys & {"imagePath", "version", "flags"}:
            return file
    return None


FORMAT = Format("labelme", "LabelMe", _looks, read_labelme)
