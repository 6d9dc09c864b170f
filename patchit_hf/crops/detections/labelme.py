"""LabelMe: one JSON file an image, with its shapes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.crops.boxes import Box, around
from patchit_hf.crops.detections.coco import read_json
from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.layout import beside, files_below, relative
from patchit_hf.crops.detections.table import Builder, Detections, number


def read_labelme(path: Path) -> Detections:
    """Read one file, or all LabelMe files below a folder; other JSON files are passed over.

    A shape of any kind is replaced by its bounding box. Shapes of one label that share a
    ``group_id`` are one object. A point has no area, and is reported so.

    Raises:
        InputError: for a damaged file or a malformed shape.
    """
    builder = Builder("labelme")
    for file in [path] if path.is_file() else files_below(path, ".json"):
        value, name = read_json(file), relative(file, path)
        if not isinstance(value, dict) or not isinstance(value.get("shapes"), list):
            if file == path:
                raise InputError(f"{file}: is not LabelMe; must be an object with 'shapes'")
            continue
        _image(builder, value, name)
    return builder.done()


def _image(builder: Builder, value: dict[str, Any], name: str) -> None:
    sides = [value.get(key) for key in ("imageWidth", "imageHeight")]
    size = tuple(int(number(side or 0, name, "image size")) for side in sides)
    image = builder.picture(
        beside(name, str(value.get("imagePath") or Path(name).stem)), (size[0], size[1])
    )
    objects: dict[tuple[str, Any], tuple[int, list[Box]]] = {}
    for row, shape in enumerate(value["shapes"], 1):
        where = f"{name}, shape {row}"
        if not isinstance(shape, dict) or not isinstance(shape.get("points"), list):
            raise InputError(f"{where}: must be an object with 'label' and 'points'")
        label, group = str(shape.get("label", "")), shape.get("group_id")
        key = (label, row if group is None else f"group {group}")
        objects.setdefault(key, (row, []))[1].append(_box(shape, where))
    for (label, _), (row, boxes) in objects.items():
        box = around(corner for box in boxes for corner in (box[:2], box[2:]))
        builder.box(image, box, file=name, row=row, label=label or None)


def _box(shape: dict[str, Any], where: str) -> Box:
    points = [_point(point, where) for point in shape["points"]]
    if shape.get("shape_type") == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return x - radius, y - radius, x + radius, y + radius
    return around(points)


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
