"""COCO JSON: ground truth and lists of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections.table import MOST_PIXELS, Builder, Detections, four, number


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: if it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise InputError(f"{path}: is damaged: its values are nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{path}: is damaged: {error}") from error


def read_coco(path: Path, image_list: Path | None = None) -> Detections:
    """Read ground truth, or a list of results.

    A crowd (``iscrowd``) gets the label ``crowd``, since its box is not that of one person. Without
    ``image_list``, the images of a list of results are known only by their ids, and the file names
    have to contain these numbers.

    Args:
        path: the file with the boxes.
        image_list: for a list of results, the ground truth that holds their images and classes.

    Raises:
        InputError: for a damaged file, or an entry whose image is missing.
    """
    value = read_json(path)
    boxes = value.get("annotations") if isinstance(value, dict) else value
    about = read_json(image_list) if image_list else value
    if not isinstance(about, dict):
        about = {}
    if not isinstance(boxes, list):
        raise InputError(f"{path}: is not COCO; must hold 'annotations', or be a list of results")
    builder = Builder("coco")
    images = _images(about, builder, image_list or path)
    categories = _entries(about, "categories", image_list or path, "id", "name")
    named = {entry["id"]: str(entry["name"]) for entry in categories}
    for row, entry in enumerate(boxes, 1):
        where = f"{path.name}, entry {row}"
        if not isinstance(entry, dict) or not isinstance(entry.get("bbox"), list):
            raise InputError(f"{where}: must hold 'image_id', and 'bbox' with four numbers")
        _check_id(entry.get("image_id"), where, "image_id")
        image = images.get(entry["image_id"])
        if image is None:
            if images:
                raise InputError(f"{where}: image_id {entry['image_id']!r} is not among the images")
            image = builder.picture(str(entry["image_id"]))
        x, y, width, height = four(list(entry["bbox"]), where)
        category = entry.get("category_id")
        _check_id(0 if category is None else category, where, "category_id")
        label = None if category is None else named.get(category, str(category))
        track = entry.get("track_id", entry.get("instance_id"))
        builder.box(
            image,
            (x, y, x + width, y + height),
            file=path.name,
            row=row,
            score=number(entry.get("score", "nan"), where, "score"),
            label="crowd" if entry.get("iscrowd") else label,
            track=None if track is None else str(track),
        )
    return builder.done(persons=() if named else ("1",))


def _images(about: dict[str, Any], builder: Builder, path: Path) -> dict[Any, int]:
    named = _entries(about, "videos", path, "id")
    videos = {video["id"]: str(video.get("name", video["id"])) for video in named}
    images = {}
    for row, entry in enumerate(_entries(about, "images", path, "id", "file_name"), 1):
        where = f"{path}: image {row}"
        size = (_pixels(entry, "width", where), _pixels(entry, "height", where))
        video = entry.get("video_id")
        _check_id(0 if video is None else video, where, "video_id")
        source = "" if video is None else videos.get(video, str(video))
        images[entry["id"]] = builder.picture(str(entry["file_name"]), size, source)
    return images


def _entries(about: dict[str, Any], key: str, path: Path, *needed: str) -> list[dict[str, Any]]:
    """Return a list of a COCO file, empty if there is none; the first needed key is an id."""
    entries = about.get(key) or []
    if not isinstance(entries, list):
        raise InputError(f"{path}: {key!r} must be a list")
    for row, entry in enumerate(entries, 1):
        where = f"{path}: {key.removesuffix('s')} {row}"
        if not isinstance(entry, dict) or any(name not in entry for name in needed):
            raise InputError(f"{where}: must hold {' and '.join(map(repr, needed))}")
        _check_id(entry[needed[0]], where, needed[0])
    return entries


def _check_id(value: object, where: str, what: str) -> None:
    if not isinstance(value, int | str | float):
        raise InputError(f"{where}: {what} {value!r}: must be a number or text")


def _pixels(entry: dict[str, Any], key: str, where: str) -> int:
    """Return a stated width or height, 0 where there is none."""
    value = number(entry.get(key) or 0, where, key)
    if not 0 <= value < MOST_PIXELS:
        raise InputError(f"{where}: {key} {entry[key]!r}: must be a number of pixels")
    return int(value)
