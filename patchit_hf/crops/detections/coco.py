"""COCO JSON: ground truth and lists of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from patchit_hf.common.errors import InputError
from patchit_hf.common.text import read_json_value
from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.joined import Part, joined
from patchit_hf.crops.detections.layout import (
    files_below,
    relative,
    settle_splits,
    split_in,
    split_of,
)
from patchit_hf.crops.detections.table import (
    Builder,
    Detections,
    four,
    key_of,
    number,
    numbers_in,
    pixels,
)

MANY = 20  # images by which the folder of images is found
NO = ("", "0", "0.0", "false", "no", "none", "null")


def read_coco(path: Path, image_list: Path | None = None) -> Detections:
    """Read ground truth, or a list of results, or all ground truth below a folder.

    Of a folder, the files ``instances_*.json`` count if there are any. The images lie beside the
    file (``_annotations.coco.json``), or in a folder of its split (``train2017``,
    ``images/train``).

    A crowd (``iscrowd``) gets the label ``crowd``, since its box is not that of one person. Without
    ``image_list``, the images of a list of results are known only by their ids, and the file names
    have to contain these numbers. Ids may be numbers or text. A box that is missing is that of the
    polygon.

    Args:
        path: the file with the boxes.
        image_list: for a list of results, the ground truth that holds their images and classes.

    Raises:
        InputError: for a damaged file, an entry whose image is missing, or two files of a folder
            about one image.
    """
    if path.is_dir():
        return _read_folder(path)
    value = read_json_value(path)
    boxes = value.get("annotations") if isinstance(value, dict) else value
    about = read_json_value(image_list) if image_list else value
    if not isinstance(about, dict):
        about = {}
    if not isinstance(boxes, list):
        raise InputError(f"{path}: is not COCO; must hold 'annotations', or be a list of results")
    builder = Builder("coco")
    images = _images(about, builder, image_list or path)
    named, only = _categories(about, image_list or path)
    for row, entry in enumerate(boxes, 1):
        where = f"{path.name}, entry {row}"
        image = _image_of(entry, images, builder, where)
        try:
            x, y, width, height = _box(entry, where)
            score = number(_one(entry.get("score"), "nan"), where, "score")
        except InputError as error:
            builder.unreadable(image, error, file=path.name, row=row)
            continue
        category = key_of(entry.get("category_id"))
        label = only if only or category is None else named.get(category, category)
        builder.box(
            image,
            (x, y, x + width, y + height),
            file=path.name,
            row=row,
            score=score,
            label="crowd" if _yes(entry.get("iscrowd")) else label,
            track=key_of(entry.get("track_id", entry.get("instance_id"))),
        )
    if named or only:
        return builder.done()
    if _list(about, "categories", path):
        return builder.done()  # several, which nothing tells apart: --classes has to
    builder.assume("1", path.name)
    return builder.done(persons=("1",))


def _images(about: dict[str, Any], builder: Builder, path: Path) -> dict[str, int]:
    videos = {
        key_of(video["id"]): str(video.get("name", video["id"]))
        for video in _list(about, "videos", path)
        if isinstance(video, dict) and "id" in video
    }
    images: dict[str, int] = {}
    names: dict[str, str] = {}
    for row, entry in enumerate(_list(about, "images", path), 1):
        key = key_of(entry.get("id")) if isinstance(entry, dict) else None
        if key is None or not entry.get("file_name"):
            raise InputError(f"{path}: image {row}: must hold 'id' and 'file_name'")
        name = str(entry["file_name"])
        if names.setdefault(key, name) != name:
            raise InputError(
                f"{path}: image {row}: two images have the id {key}, {names[key]} and {name}; it "
                "would be unclear whose boxes are whose; give each an id of its own"
            )
        size = (pixels(entry.get("width")), pixels(entry.get("height")))
        video = key_of(entry.get("video_id"))
        source = "" if video is None else videos.get(video, video)
        images[key] = builder.picture(name, size, source)
    return images


def _categories(about: dict[str, Any], path: Path) -> tuple[dict[str, str], str | None]:
    """Return the names of the classes by id; and the name of the only class, if it has no id."""
    entries = [e for e in _list(about, "categories", path) if isinstance(e, dict) and e.get("name")]
    named: dict[str, str] = {}
    for entry in entries:
        key, name = key_of(entry.get("id")), str(entry["name"]).strip()
        if key is not None and named.setdefault(key, name) != name:
            raise InputError(
                f"{path}: two classes have the id {key}, {named[key]!r} and {name!r}; give each an "
                "id of its own"
            )
    only = str(entries[0]["name"]).strip() if len(entries) == 1 and not named else None
    return named, only


def _image_of(entry: Any, images: dict[str, int], builder: Builder, where: str) -> int:
    key = key_of(entry.get("image_id")) if isinstance(entry, dict) else None
    if key is None:
        raise InputError(f"{where}: must hold 'image_id' and 'bbox'")
    image = images.get(key)
    if image is None:
        if images:
            raise InputError(f"{where}: image_id {entry['image_id']!r} is not among the images")
        image = builder.picture(key)
    return image


def _box(entry: dict[str, Any], where: str) -> tuple[float, float, float, float]:
    """Return left, top, width and height: of the box, else of the polygon."""
    box = entry.get("bbox")
    if isinstance(box, str):
        box = numbers_in(box)
    if box:
        return four(list(box) if isinstance(box, list | tuple) else [box], where)
    polygons = entry.get("segmentation")
    if isinstance(polygons, list) and polygons:
        flat = [v for part in polygons for v in (part if isinstance(part, list) else [part])]
        points = np.array([number(value, where, "polygon") for value in flat])
        if len(points) >= 6 and len(points) % 2 == 0:
            x, y = points.reshape(-1, 2).T
            return float(x.min()), float(y.min()), float(np.ptp(x)), float(np.ptp(y))
    raise InputError(f"{where}: must hold 'image_id' and 'bbox'; it has no box and no polygon")


def _list(about: dict[str, Any], key: str, path: Path) -> list[Any]:
    value = about.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{path}: {key!r} must be a list")
    return value


def _one(value: object, missing: str) -> object:
    return missing if value is None or value == "" else value


def _yes(value: object) -> bool:
    return str(value).strip().lower() not in NO


def _read_folder(path: Path) -> Detections:
    look = Look(path)
    files = [file for file in files_below(path, ".json") if _is_truth(look, file)]
    files = [file for file in files if file.name.startswith("instances_")] or files
    if not files:
        raise InputError(f"{path}: no file of the folder is COCO ground truth")
    parts = []
    for file in files:
        found, name = read_coco(file), relative(file, path)
        split = split_in(file.stem) or split_of(name)
        parts.append(Part(found, name, _images_folder(path, name, found), split))
    return settle_splits(joined("coco", parts))


def _images_folder(path: Path, name: str, found: Detections) -> str:
    """Return the folder that holds most images of a file, as far as they lie below the path."""
    here, _, stem = name.removesuffix(".json").rpartition("/")
    above, subset = here.rpartition("/")[0], stem.rpartition("_")[2]
    folders = [here] if stem.startswith("_") else []
    folders += [f"{above}/{subset}", f"{above}/images/{subset}", f"{above}/images", above, here]
    folders = [folder.strip("/") for folder in folders]
    some = found.images[:MANY]
    hits = {folder: sum((path / folder / image).is_file() for image in some) for folder in folders}
    best = max(folders, key=lambda folder: hits[folder])
    return best if hits[best] or stem.startswith("_") or split_in(subset) else above


def _is_truth(look: Look, file: Path) -> bool:
    bracket, keys = look.keys(file)
    return bracket == "{" and bool(keys & {"images", "annotations"}) and "shapes" not in keys


def _looks(look: Look) -> Path | None:
    for file in look.some(".json"):
        bracket, keys = look.keys(file)
        empty = look.start(file).split() in (["[]"], ["[", "]"])
        results = bracket == "[" and ("image_id" in keys or empty)
        if _is_truth(look, file) or (results and not look.is_folder):
            return file
    return None


FORMAT = Format("coco", "COCO JSON", _looks, read_coco, options=("image_list",))
