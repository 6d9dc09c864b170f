"""YOLO's class names and the shape of its keypoints, from files beside or above the labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.common.names import is_hidden
from patchit_hf.common.text import read_lines, read_yaml

LISTS = ("classes.txt", "obj.names", "_darknet.labels", "class_names.txt", "labels.txt")
UP = 3  # folders above the labels: labels/train/a.txt belongs to data.yaml beside labels' folder


@dataclass(frozen=True)
class ClassNames:
    """What is known about the classes of a folder of labels.

    Attributes:
        names: their names by number, as text; empty if unknown.
        file: the file that names them; None if there is none.
        keypoints: number of keypoints and of numbers for each (``kpt_shape``); None if unknown.
        about: names of folders that the file seems to be about: its own, and its ``path``.
    """

    names: dict[str, str]
    file: Path | None = None
    keypoints: tuple[int, int] | None = None
    about: frozenset[str] = frozenset()


def find_class_names(folder: Path) -> ClassNames:
    """Find the names in the folder of the labels, else in the nearest of three folders above it.

    They are in a YAML file that has ``names``, or in a list such as ``classes.txt``. Of several
    files of one folder those count that are called like, or whose ``path`` is, a folder of labels.

    Raises:
        InputError: if the nearest such files of one folder contradict each other, or are damaged.
    """
    here = folder.resolve()
    for place in (here, *here.parents[:UP]):
        found = [known for file in _candidates(place) if (known := _read(file)) is not None]
        way = {place.name, *here.relative_to(place).parts}
        found = [known for known in found if known.about & way] or found
        for other in found[1:]:
            if other.names != found[0].names:
                raise InputError(
                    f"{folder}: the classes have other names in {found[0].file} than in "
                    f"{other.file}; remove the one that does not belong to these labels"
                )
        if found:
            return found[0]
    return ClassNames({})


def is_class_list(name: str) -> bool:
    """Say whether a text file is a list of classes rather than labels of an image."""
    return name in LISTS


def _candidates(folder: Path) -> list[Path]:
    """Return files that may name classes: lists, and YAML files with the usual names first."""
    try:
        files = [file for file in folder.iterdir() if not is_hidden(file.name) and file.is_file()]
    except OSError:
        return []
    known = [f for f in files if f.name in LISTS or f.suffix in (".yaml", ".yml", ".names")]
    return sorted(known, key=lambda f: (f.suffix not in (".yaml", ".yml"), f.name))


def _read(file: Path) -> ClassNames | None:
    """Return the names in a file; None if it has none."""
    if file.suffix not in (".yaml", ".yml"):
        lines = [line.strip() for line in read_lines(file)]
        while lines and not lines[-1]:
            lines.pop()
        return ClassNames({str(i): line for i, line in enumerate(lines)}, file) if lines else None
    try:
        loaded = read_yaml(file)
    except InputError:
        if file.name in ("data.yaml", "dataset.yaml"):
            raise
        return None  # a YAML file of something else
    names = loaded.get("names") if isinstance(loaded, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        return None
    words = {str(key): str(value).strip() for key, value in names.items()}
    about = {file.stem, PurePosixPath(str(loaded.get("path") or "")).name}
    return ClassNames(words, file, _shape(loaded.get("kpt_shape"), file), frozenset(about))


def _shape(value: Any, file: Path) -> tuple[int, int] | None:
    if value is None:
        return None
    if not (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(v, int) for v in value)
        and value[0] > 0
        and value[1] in (2, 3)
    ):
        raise InputError(
            f"{file}: kpt_shape {value!r}: must be the number of keypoints, and 2 or 3 numbers for "
            "each, such as [17, 3]"
        )
    return value[0], value[1]
