"""CrowdHuman's ``.odgt``: one JSON object a line, an image with its people."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.crops.boxes import Box
from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.layout import (
    files_below,
    lines_of,
    relative,
    settle_splits,
    split_in,
)
from patchit_hf.crops.detections.table import Builder, Detections, four, number

LISTS = ("gtboxes", "dtboxes")
BODIES = ("fbox", "box", "vbox")  # whole body, a detector's box, visible part


def read_crowdhuman(path: Path) -> Detections:
    """Read one file, or all ``.odgt`` files below a folder, whose names tell their split.

    A person's box is that of the whole body, which may leave the image (Shao et al., arXiv
    1805.00123). Heads get the label ``head``; what is to be ignored (``mask``, ``ignore``),
    ``ignored``. A box's row is its number in the line of its image.

    Raises:
        InputError: for a line that is damaged or not CrowdHuman, or if half of the boxes are.
    """
    builder = Builder("crowdhuman")
    for file in [path] if path.is_file() else files_below(path, ".odgt"):
        name, split = relative(file, path), split_in(file.stem)
        for line, text in enumerate(lines_of(file), 1):
            if text.strip():
                _image(builder, _parsed(text, f"{name}, line {line}"), f"{name}:{line}", split)
    return settle_splits(builder.done())


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is damaged: {one_line(error)}") from error
    lists = [key for key in LISTS if isinstance(value, dict) and isinstance(value.get(key), list)]
    if not lists or "ID" not in value:
        raise InputError(f"{where}: is not CrowdHuman; must be an object with 'ID' and 'gtboxes'")
    return {"image": str(value["ID"]), "boxes": value[lists[0]]}


def _image(builder: Builder, entry: dict[str, Any], name: str, split: str) -> None:
    image = builder.picture(entry["image"], split=split)
    for row, item in enumerate(entry["boxes"], 1):
        where = f"{name}, box {row}"
        try:
            found = _person(item if isinstance(item, dict) else {}, where)
        except InputError as error:
            builder.unreadable(image, error, file=name, row=row)
            continue
        for box, label, score in found:
            builder.box(image, box, file=name, row=row, score=score, label=label)


def _person(item: dict[str, Any], where: str) -> list[tuple[Box, str, float]]:
    """Return box, label and score of a body, and of its head."""
    body = next((item[key] for key in BODIES if key in item), None)
    if not isinstance(body, list):
        raise InputError(f"{where}: must be an object with 'tag' and 'fbox'")
    tag = str(item.get("tag", "person"))
    unsure = tag == "mask" or _flag(item, "extra")
    label = "ignored" if unsure else "person" if tag == "1" else tag
    found = [(_xyxy(body, where), label, number(item.get("score", "nan"), where, "score"))]
    if isinstance(item.get("hbox"), list) and not unsure:
        head = "ignored" if _flag(item, "head_attr") else "head"
        found.append((_xyxy(item["hbox"], where), head, math.nan))
    return found


def _xyxy(box: list[Any], where: str) -> Box:
    x, y, width, height = four(box, where)
    return x, y, x + width, y + height


def _flag(item: dict[str, Any], key: str) -> bool:
    about = item.get(key)
    return isinstance(about, dict) and about.get("ignore") in (1, True)


def _looks(look: Look) -> Path | None:
    for file in look.some(".odgt"):
        bracket, keys = look.keys(file)
        if bracket == "{" and "ID" in keys and keys & set(LISTS):
            return file
    return None


FORMAT = Format("crowdhuman", "CrowdHuman (.odgt)", _looks, read_crowdhuman)
