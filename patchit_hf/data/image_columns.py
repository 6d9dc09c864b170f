"""Columns of images that are not declared as such: structs, the bytes of files, and paths."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from patchit_hf.data.canvas import UnreachableError, UnusableError, decode
from patchit_hf.data.dataset_state import stream_features
from patchit_hf.data.heif import ENDINGS as HEIF
from patchit_hf.data.shards import IMAGES

logger = logging.getLogger(__name__)

LOOKED_AT = 20  # rows
STRUCT, BYTES, PATHS = "a struct of bytes and path", "bytes of files", "paths of files"


def with_images(dataset: Any, column: str | None, root: Path | None) -> Any:
    """Return a split whose images are declared as such, where that is clear.

    Structs of ``bytes`` and ``path``, the bytes of image files, and paths of image files become a
    column of images: the one that is named, else the only one of the first of these three kinds.
    Columns named after kinds of images, of which each row has one, become one column.

    Args:
        dataset: a split, or a stream of one.
        column: the column that the user names, or None.
        root: the folder that relative paths are relative to, or None.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (50, 100)).save(file, "PNG")
        >>> rows = datasets.Dataset.from_dict({"photo": [file.getvalue()], "hat": [1]})
        >>> with_images(rows, None, None)[0]["photo"].size
        (50, 100)
    """
    features = stream_features(dataset)
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if column in images:
        return dataset
    if column is None and images:
        kinds = [name for name in images if name.lower().rpartition(".")[2] in IMAGES]
        return _united(dataset, images) if len(kinds) == len(images) > 1 else dataset
    if column is not None:
        kind = _kind(features.get(column))
        return dataset if kind is None else _declared(dataset, column, kind, root)
    chosen = _undeclared(dataset, features, root)
    return dataset if chosen is None else _declared(dataset, *chosen, root)


def _kind(feature: Any) -> str | None:
    if isinstance(feature, dict):
        return STRUCT if {"bytes"} <= set(feature) <= {"bytes", "path"} else None
    if not isinstance(feature, datasets.Value):
        return None
    if "binary" in feature.dtype:
        return BYTES
    return PATHS if "string" in feature.dtype else None


def _undeclared(dataset: Any, features: Any, root: Path | None) -> tuple[str, str] | None:
    """Return the only column that looks like images, and its kind; None if it is not clear."""
    kinds = {name: kind for name, feature in features.items() if (kind := _kind(feature))}
    if not kinds:
        return None
    limit = LOOKED_AT
    if isinstance(dataset, datasets.Dataset):  # before 5.2, no more than there are
        limit = min(limit, len(dataset))
    rows = list(dataset.select_columns(list(kinds)).take(limit))
    for kind in (STRUCT, BYTES, PATHS):
        found = []
        for name in (name for name, own in kinds.items() if own == kind):
            values = [row[name] for row in rows if row[name] is not None]
            if values and all(_is_image(value, kind, root) for value in values):
                found.append(name)
        if found:
            return (found[0], kind) if len(found) == 1 else None
    return None


def _is_image(value: Any, kind: str, root: Path | None) -> bool:
    if kind == PATHS:
        ending = os.path.splitext(value)[1].lower()
        known = ending[1:] in IMAGES or ending in HEIF
        return known and os.path.exists(resolved(value, root))
    content = value if kind == BYTES else value.get("bytes")
    if content is None:
        return _is_image(value.get("path") or "", PATHS, root)
    try:
        decode({"bytes": content, "path": None})
    except UnusableError as error:
        return "unknown format" not in str(error)  # one that is damaged or tiny is an image, too
    except UnreachableError:
        return False
    return True


def resolved(path: str, root: Path | None) -> str:
    """Return a path of a row: relative to the data set's folder, or an address or absolute path.

    Example:
        >>> resolved("a/1.jpg", Path("/data")), resolved("/b/2.jpg", Path("/data"))
        ('/data/a/1.jpg', '/b/2.jpg')
    """
    if root is None or "://" in path or os.path.isabs(path):
        return path
    return os.path.join(root, path)


def _declared(dataset: Any, column: str, kind: str, root: Path | None) -> Any:
    logger.info("column %s: holds %s; taken for images", column, kind)
    feature = stream_features(dataset)[column]
    if kind == BYTES and getattr(feature, "dtype", "") == "binary_view":
        dataset = dataset.cast_column(column, datasets.Value("binary"))
    if kind != BYTES and root is not None:
        features = datasets.Features({**stream_features(dataset), column: datasets.Image()})
        move = partial(_moved, column=column, root=root)
        options: dict[str, Any] = {"batched": True, "input_columns": [column]}
        if isinstance(dataset, datasets.Dataset):
            options["desc"] = "paths"
            relative = any(
                _is_relative(value) for value in dataset.select_columns([column])[column]
            )
            if not relative:
                return dataset.cast_column(column, datasets.Image())
        return dataset.map(move, features=features, **options)
    return dataset.cast_column(column, datasets.Image())


def _is_relative(value: Any) -> bool:
    path = value.get("path") if isinstance(value, dict) else value
    inside = isinstance(value, dict) and value.get("bytes") is not None
    return bool(path) and not inside and resolved(str(path), Path("/")) != path


def _moved(values: list[Any], *, column: str, root: Path) -> dict[str, list[Any]]:
    """Return values of a column with their paths below the data set's folder."""
    made = []
    for value in values:
        content = value.get("bytes") if isinstance(value, dict) else None
        path = value.get("path") if isinstance(value, dict) else value
        if path and content is None:
            path = resolved(path, root)
        made.append(None if value is None else {"bytes": content, "path": path})
    return {column: made}


def _united(dataset: Any, columns: list[str]) -> Any:
    """Make one column of several, of which each row has one; the same if a row has more."""
    bare = dataset
    for name in columns:
        bare = bare.cast_column(name, datasets.Image(decode=False))
    several = partial(_has_several, columns=columns)
    if isinstance(dataset, datasets.Dataset):
        held = [dataset.data.column(name).is_valid() for name in columns]
        counts = sum(column.to_numpy().astype(int) for column in held)
        if bool((counts > 1).any()):
            return dataset
    elif any(several(row) for row in bare.select_columns(columns).take(LOOKED_AT)):
        return dataset
    name = "image" if "image" not in stream_features(dataset) else columns[0]
    rest = {k: v for k, v in stream_features(dataset).items() if k not in columns}
    features = datasets.Features({**rest, name: datasets.Image()})
    one = partial(_one, columns=columns, name=name)
    options = {"desc": "images"} if isinstance(dataset, datasets.Dataset) else {}
    logger.info("columns %s: each row has one; taken for one column", ", ".join(columns))
    return bare.map(one, remove_columns=columns, features=features, **options)


def _has_several(row: dict[str, Any], columns: list[str]) -> bool:
    return sum(row[name] is not None for name in columns) > 1


def _one(row: dict[str, Any], columns: list[str], name: str) -> dict[str, Any]:
    return {name: next((row[column] for column in columns if row[column] is not None), None)}
