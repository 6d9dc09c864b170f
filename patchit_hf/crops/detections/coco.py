"""COCO JSON: ground truth and lists of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.table import Builder, Detections, four, number


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: if it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
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
    boxes = value if isinstance(value, list) else value.get("annotations")
    about = read_json(image_list) if image_list else value
    if not isinstance(about, dict):
        about = {}
    if not isinstance(boxes, list):
        raise InputError(f"{path}: is not COCO; must hold 'annotations', or be a list of results")
    builder = Builder("coco")
    images = _images(about, builder, image_list or path)
    named = {entry["id"]: str(entry["name"]) for entry in about.get("categories", [])}
    for row, entry in enumerate(boxes, 1):
        where = f"{path.name}, entry {row}"
        if not isinstance(entry, dict) or "bbox" not in entry or "image_id" not in entry:
            raise InputError(f"{where}: must hold 'image_id' and 'bbox'")
        image = images.get(entry["image_id"])
        if image is None:
            if images:
                raise InputError(f"{where}: image_id {entry['image_id']!r} is not among the images")
            image = builder.picture(str(entry["image_id"]))
        x, y, width, height = four(list(entry["bbox"]), where)
        category = entry.get("category_id")
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
    videos = {video["id"]: str(video.get("name", video["id"])) for video in about.get("videos", [])}
    images = {}
    for row, entry in enumerate(about.get("images", []), 1):
        if "id" not in entry or "file_name" not in entry:
            raise InputError(f"{path}: image {row}: must hold 'id' and 'file_name'")
        size = (int(entry.get("width") or 0), int(entry.get("height") or 0))
        video = entry.get("video_id")
        source = "" if video is None else videos.get(video, str(video))
        images[entry["id"]] = builder.picture(str(entry["file_name"]), size, source)
    return images


def _looks(look: Look) -> Path | None:
    for file in look.some(".json"):
        bracket, keys = look.keys(file)
        if bracket == "{" and keys & {"images", "annotations"} and "shapes" not in keys:
            return file
        if bracket == "[" and ("image_id" in keys or not keys):
            return file
    return None


FORMAT = Format("coco", "COCO JSON", _looks, read_coco, options=("image_list",))
