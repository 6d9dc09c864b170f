"""Label Studio's JSON and JSON-MIN: shapes in per cent of the image's size."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from patchit_hf.common.errors import InputError
from patchit_hf.common.text import read_json_value
from patchit_hf.crops.boxes import Box, around, turned
from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.layout import files_below, relative
from patchit_hf.crops.detections.table import Builder, Detections, number, pixels

LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "keypointlabels")
KEYS = ("annotations", "completions", "predictions")  # completions: up to Label Studio 0.9
UPLOADED = re.compile(r"/upload/\d+/[0-9a-f]{8}-(?=.)")  # what Label Studio puts before a name
AGAIN = "another annotation"


def read_labelstudio(path: Path) -> Detections:
    """Read one file, or all Label Studio files below a folder; other JSON files are passed over.

    Of several annotations of an image, the ground truth counts, else the first that was not
    cancelled; shapes of the others get the label ``another annotation``. Predictions are read only
    where no image has an annotation. A shape is replaced by its bounding box. A box's row is its
    number among those of its image, and its file names the task.

    Raises:
        InputError: for a damaged file, for labels of a video, or if half of the shapes are
            malformed.
    """
    builder = Builder("labelstudio")
    for file in [path] if path.is_file() else files_below(path, ".json"):
        value, name = read_json_value(file), relative(file, path)
        tasks = [_task(entry) for entry in (value if isinstance(value, list) else [value])]
        if None in tasks:
            if file == path:
                raise InputError(
                    f"{file}: entry {tasks.index(None) + 1}: is not a task of Label Studio; must "
                    "hold 'data' and 'annotations', or an image and its labels (JSON-MIN)"
                )
            continue
        known = [task for task in tasks if task is not None]
        keys = KEYS[:2] if any(task[key] for task in known for key in KEYS[:2]) else KEYS
        for number_, task in enumerate(known, 1):
            _read(builder, task, keys, f"{name}, task {task.get('id') or number_}")
    return builder.done(relative=True)


def _task(entry: Any) -> dict[str, Any] | None:
    """Return the image, id and annotations of an entry; None if it is no task."""
    if not isinstance(entry, dict):
        return None
    if isinstance(entry.get("task"), dict) and isinstance(entry.get("result"), list):
        entry = {**entry["task"], "annotations": [entry]}  # one annotation a file, as stored
    about = entry.get("data")
    if isinstance(about, dict) and any(key in entry for key in KEYS):
        found = {key: entry.get(key) or [] for key in KEYS}
        return {"id": entry.get("id"), "image": _image_in(about), **found}
    shapes = [
        shape
        for value in entry.values()
        if isinstance(value, list)
        for shape in value
        if isinstance(shape, dict) and any(key in shape for key in LABELS)
    ]
    image = _image_in(entry)
    if image is None or not (shapes or "annotator" in entry):
        return None
    result = [
        {"value": s, **{k: s.get(k) for k in ("original_width", "original_height")}} for s in shapes
    ]
    empty: dict[str, Any] = {key: [] for key in KEYS}
    return {**empty, "id": entry.get("id"), "image": image, "annotations": [{"result": result}]}


def _read(builder: Builder, task: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    image, chosen, others = str(task["image"] or ""), None, []
    if not image or image.startswith("data:"):
        raise InputError(f"{where}: 'data' holds no name of an image")
    for key in keys:
        whole = [one for one in task[key] if isinstance(one, dict) and not one.get("was_cancelled")]
        chosen = chosen or next((one for one in whole if one.get("ground_truth")), None)
        chosen = chosen or next(iter(whole), None)
        others += [one for one in whole if one is not chosen]
    if chosen is None:
        return
    row = _shapes(builder, image, chosen, where, 0, None)
    for one in others:
        row = _shapes(builder, image, one, where, row, AGAIN)


def _shapes(
    builder: Builder,
    image: str,
    annotation: dict[str, Any],
    where: str,
    row: int,
    label: str | None,
) -> int:
    """Add the shapes of an annotation, and return the number of the last."""
    result = annotation.get("result") or []
    if not isinstance(result, list) or not all(isinstance(shape, dict) for shape in result):
        raise InputError(f"{where}: 'result' must be a list of objects")
    named = {s.get("id"): s["value"] for s in result if isinstance(s.get("value"), dict)}
    labels = {key: _label(value) for key, value in named.items() if _label(value)}
    name, uploaded = _name(image)
    seen = set[str]()
    for shape in result:
        value, its = shape.get("value"), f"{where}, shape {row + 1}"
        if not isinstance(value, dict) or not _is_shape(value, its):
            continue
        own = str(shape.get("id") or f"shape {row}")
        if own in seen:  # what else was said of a shape repeats it, such as a choice
            continue
        seen.add(own)
        row += 1
        sides = [pixels(shape.get(f"original_{side}")) for side in ("width", "height")]
        picture = builder.picture(name, (sides[0], sides[1]), other=uploaded)
        score = shape.get("score", annotation.get("score"))
        try:
            box = _box(value, sides, its)
            sure = math.nan if score is None else number(score, its, "score")
        except InputError as error:
            builder.unreadable(picture, error, file=where, row=row)
            continue
        said = label or _label(value) or labels.get(shape.get("id"))
        said = "on a turned image" if shape.get("image_rotation") else said
        builder.box(picture, box, file=where, row=row, score=sure, label=said)
    return row


def _is_shape(value: dict[str, Any], where: str) -> bool:
    if "sequence" in value:
        raise InputError(f"{where}: is of a video; label its frames as images, or export CVAT XML")
    return bool({"x", "points", "rle"} & set(value))


def _label(value: dict[str, Any]) -> str | None:
    for key in (*LABELS, "labels"):
        if isinstance(value.get(key), list) and value[key]:
            return str(value[key][0])
    return None


def _box(value: dict[str, Any], sides: list[int], where: str) -> Box:
    """Return the bounding box of a shape, in fractions of the image's size."""
    read = {
        key: number(value[key], where, key)
        for key in ("x", "y", "width", "height", "radiusX", "radiusY", "rotation")
        if value.get(key) is not None
    }
    if "rle" in value or ("points" not in value and not {"x", "y"} <= set(read)):
        return around([])
    if "points" in value:
        points = value["points"]
        if not isinstance(points, list) or not all(isinstance(p, list | tuple) for p in points):
            raise InputError(f"{where}: points must be a list of [x, y]")
        if any(len(point) != 2 for point in points):
            raise InputError(f"{where}: points must be a list of [x, y]")
        return around([[number(v, where, "point") / 100 for v in point] for point in points])
    x, y, about = read["x"], read["y"], (read["x"], read["y"])
    if "radiusX" in read:
        across, down = read["radiusX"], read.get("radiusY", math.nan)
        box = (x - across, y - down, x + across, y + down)
    else:
        box = (x, y, x + read.get("width", math.nan), y + read.get("height", math.nan))
    degrees = read.get("rotation", 0.0)
    if not degrees:
        return box[0] / 100, box[1] / 100, box[2] / 100, box[3] / 100
    if not all(sides):
        raise InputError(f"{where}: is turned, but original_width and original_height are missing")
    a, b, c, d = (v * sides[i % 2] / 100 for i, v in enumerate(box))
    middle = (about[0] * sides[0] / 100, about[1] * sides[1] / 100)
    a, b, c, d = turned((a, b, c, d), degrees, middle)
    return a / sides[0], b / sides[1], c / sides[0], d / sides[1]


def _image_in(about: dict[str, Any]) -> str | None:
    """Return what is said of the image: under a usual key, else what looks like a file."""
    from PIL import Image

    texts = {key: value for key, value in about.items() if isinstance(value, str)}
    for key in ("image", "img", "image_url", "ocr", "photo", "url"):
        if texts.get(key):
            return texts[key]
    ends = tuple(Image.registered_extensions())
    return next((v for v in texts.values() if urlsplit(v).path.lower().endswith(ends)), None)


def _name(stated: str) -> tuple[str, str]:
    """Return an image's name, and what it was called before it was uploaded, if it was."""
    parts = urlsplit(stated.replace("\\", "/"))
    local = parse_qs(parts.query).get("d")
    if local:
        return local[0].lstrip("/"), ""
    if len(parts.scheme) < 2 and not parts.path.startswith("/data/"):
        return stated.lstrip("/"), ""
    path = unquote(parts.path)
    match = UPLOADED.search(path)
    if match:
        return path.rpartition("/")[2], path[match.end() :]
    return path.lstrip("/"), ""


def _looks(look: Look) -> Path | None:
    for file in look.some(".json"):
        bracket, keys = look.keys(file)
        if keys & set(KEYS) and ("data" in keys or "task" in keys):
            return file
        if bracket and "result" in keys and "task" in keys:
            return file
        if bracket == "[" and any(f'"{key}"' in look.start(file) for key in LABELS):
            return file
    return None


FORMAT = Format("labelstudio", "Label Studio JSON", _looks, read_labelstudio, over=("coco",))
