"""YOLO text: one file per image, ``class cx cy width height`` in fractions of its size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from patchit_hf.common.config import parse_yaml
from patchit_hf.common.errors import InputError
from patchit_hf.crops.boxes import from_cxcywh
from patchit_hf.crops.detections.table import Builder, Detections, number

NAMES = ("data.yaml", "dataset.yaml", "classes.txt", "obj.names")


def read_yolo(path: Path) -> Detections:
    """Read one file, or all files below a folder.

    Class names come from a file beside them (see ``NAMES``); without one, class 0 is a person. A
    line may add a confidence and a track id. A polygon is replaced by its bounding box. Boxes stay
    in fractions of the image's size.

    Raises:
        InputError: for a malformed line, or values that look like pixels.
    """
    builder = Builder("yolo")
    root = path.parent if path.is_file() else path
    names = _names(root)
    files = [path] if path.is_file() else sorted(root.rglob("*.txt"))
    for file in files:
        if file.name in NAMES:
            continue
        name = file.relative_to(root).as_posix()
        image = builder.picture(name.removesuffix(".txt"))
        for row, line in enumerate(_lines(file), 1):
            if line.strip():
                _add(builder, image, line.split(), names, name, row)
    return builder.done(persons=() if names else ("0",), relative=True)


def _add(
    builder: Builder, image: int, words: list[str], names: dict[str, str], name: str, row: int
) -> None:
    where = f"{name}, row {row}"
    values = [number(word, where, "value") for word in words[1:]]
    polygon = len(values) >= 6 and len(values) % 2 == 0 and not _tracked(values)
    if not polygon and len(values) not in (4, 5, 6):
        raise InputError(
            f"{where}: {len(words)} values; must be class cx cy width height, optionally with "
            "confidence and track id, or a polygon"
        )
    if max(map(_finite, values[: None if polygon else 4])) > 2:
        raise InputError(
            f"{where}: {words[1:5]} look like pixels; must be fractions of the image size"
        )
    if polygon:
        points = np.array(values).reshape(-1, 2)
        xyxy = [*points.min(0).tolist(), *points.max(0).tolist()]
    else:
        xyxy = from_cxcywh(np.array([values[:4]]))[0].tolist()
    builder.box(
        image,
        (xyxy[0], xyxy[1], xyxy[2], xyxy[3]),
        file=name,
        row=row,
        score=values[4] if not polygon and len(values) > 4 else math.nan,
        label=names.get(words[0], words[0]),
        track=words[6] if not polygon and len(values) > 5 else None,
    )


def _tracked(values: list[float]) -> bool:
    """Say whether six values are a box with confidence and track id rather than a triangle."""
    return len(values) == 6 and values[5].is_integer() and values[5] >= 1


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 text: {error.reason}") from error


def _names(root: Path) -> dict[str, str]:
    for folder in (root, root.parent):
        for file in (folder / name for name in NAMES):
            if not file.is_file():
                continue
            if file.suffix != ".yaml":
                return {str(i): line.strip() for i, line in enumerate(_lines(file))}
            loaded = parse_yaml("\n".join(_lines(file)), str(file))
            found = loaded.get("names") if isinstance(loaded, dict) else None
            if isinstance(found, list):
                found = dict(enumerate(found))
            if isinstance(found, dict):
                return {str(key): str(value) for key, value in found.items()}
    return {}
