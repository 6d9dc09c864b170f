"""Folders of labels: which files they hold, which image a file is about, and its split."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from patchit_hf.common import names
from patchit_hf.common.text import read_lines
from patchit_hf.crops.detections.table import Detections

IMAGES = {  # the folder of the images beside a folder of labels
    "labels": "images", "annotations": "images", "Annotations": "JPEGImages",
    "label_2": "image_2", "label_3": "image_3", "label_02": "image_02", "label_03": "image_03",
}  # fmt: skip
WORDS = r"(?:^|[_-])(train|training|val|valid|validation|test|testing)"
SPLIT = re.compile(WORDS + r"(?=$|[\d_-])")  # in the name of a file
FOLDER = re.compile(WORDS + r"(?:[_-]?(?:\d+|images?|labels?|set|data|dev|challenge))?$")
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


def image_of(name: str, **other: str) -> str:
    """Return the image that a file of labels is about, without ending.

    Args:
        name: the file of labels.
        **other: the folder of images for a folder of labels, where it is another than usual.

    Example:
        >>> image_of("train/labels/a.txt"), image_of("b.txt")
        ('train/images/a', 'b')
    """
    folders = {**IMAGES, **other}
    *parts, last = name.split("/")
    for i in range(len(parts) - 1, -1, -1):
        if parts[i] in folders:
            parts[i] = folders[parts[i]]
            break
    return "/".join([*parts, os.path.splitext(last)[0]])


def beside(name: str, stated: str) -> str:
    r"""Return the image that a file of labels names; a name is relative to the file's folder.

    Of a path on another machine, only the last part counts.

    Example:
        >>> beside("day/labels/a.json", "..\\images\\a.jpg"), beside("a.json", "C:\\b.jpg")
        ('day/images/a.jpg', 'b.jpg')
    """
    stated = stated.replace("\\", "/").strip()
    if not stated:
        return ""
    if stated.startswith("/") or re.match(r"[A-Za-z]:", stated):
        stated = stated.rpartition("/")[2].rpartition(":")[2]
    path = os.path.normpath(f"{name.rpartition('/')[0]}/{stated}".lstrip("/")).replace("\\", "/")
    while path.startswith("../"):
        path = path[3:]
    return path


def split_of(name: str) -> str:
    """Return the split that the folders of a path speak of; empty if none.

    Example:
        >>> split_of("labels/val2017/a.txt"), split_of("valid/a.txt"), split_of("train_tracks/a")
        ('validation', 'validation', '')
    """
    for folder in reversed(name.split("/")[:-1]):
        if match := FOLDER.search(folder.lower()):
            return SPLITS.get(match[1], "validation")
    return ""


def split_in(stem: str) -> str:
    """Return the split that the name of a file speaks of; empty if none.

    Example:
        >>> split_in("annotation_train"), split_in("oidv6-test-annotations"), split_in("trainer")
        ('train', 'test', '')
    """
    match = SPLIT.search(stem.lower())
    return SPLITS.get(match[1], "validation") if match else ""


def splits_by_folder(found: Detections) -> Detections:
    """Take the splits of an export from its folders (``train``, ``valid``), unless it states them.

    They count where every image has one and there are several.
    """
    if found.splits:
        return found
    return settle_splits(replace(found, splits=[split_of(name) for name in found.images]))


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
