"""Folders of labels: which files they hold, which image a file is about, and its split."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from patchit_hf.common import names
from patchit_hf.common.text import read_lines
from patchit_hf.crops.detections.table import Detections

IMAGES = {  # the folder of the images beside a folder of labels
    "labels": "images", "annotations": "images", "Annotations": "JPEGImages",
    "label_2": "image_2", "label_3": "image_3", "label_02": "image_02", "label_03": "image_03",
}  # fmt: skip
SPLIT = re.compile(r"(?:^|[_-])(train|training|val|valid|validation|test|testing)(?=$|[\d_-])")
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}


def files_below(root: Path, *suffixes: str) -> list[Path]:
    """Return the files below a folder, sorted; see ``patchit_hf.common.names.files_below``.

    Args:
        root: the folder; links to folders are followed.
        suffixes: endings such as ``.txt``; all files if there are none.
    """
    return [root / name for name in names.files_below(root, suffixes)]


def label_files(path: Path, suffix: str, *folders: str) -> list[Path]:
    """Return a file itself, or the files of labels below a folder.

    Args:
        path: the file or folder.
        suffix: ending of the files.
        folders: names of folders for labels; where there is one, only its files count.
    """
    if path.is_file():
        return [path]
    files = files_below(path, suffix)
    inside = [f for f in files if set(folders) & set(f.relative_to(path).parts[:-1])]
    return inside or files


def relative(file: Path, path: Path) -> str:
    """Return the name of a file below a path, or of the path itself, with slashes."""
    return file.name if file == path else file.relative_to(path).as_posix()


def image_of(name: str) -> str:
    """Return the image that a file of labels is about, without ending.

    Example:
        >>> image_of("train/labels/a.txt"), image_of("b.txt")
        ('train/images/a', 'b')
    """
    path = PurePosixPath(name).with_suffix("")
    parts = list(path.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] in IMAGES:
            parts[i] = IMAGES[parts[i]]
            break
    return "/".join(parts)


def split_of(name: str) -> str:
    """Return the split that a path speaks of; empty if none.

    Example:
        >>> split_of("labels/val2017/a.txt"), split_of("valid/a.txt"), split_of("trains/a.txt")
        ('validation', 'validation', '')
    """
    for part in reversed(PurePosixPath(name).parts[:-1]):
        match = SPLIT.search(part.lower())
        if match:
            return SPLITS.get(match[1], "validation")
    return ""


def settle_splits(found: Detections) -> Detections:
    """Keep the splits of an export only where every image has one, and there are several."""
    several = len(set(found.splits)) > 1 and all(found.splits)
    return found if several else replace(found, splits=[])


def lines_of(file: Path) -> list[str]:
    """Return the lines of a text file.

    Raises:
        InputError: if it is not UTF-8.
    """
    return read_lines(file)
