"""Reopen a folder of images without looking at every file.

``datasets`` lists all files of a folder each time it opens it, which takes minutes for a million
images. This module saves a note of the Arrow files that it made, and of the state of the folder.
For a folder of up to ``FILES`` files, the note has size and modification time of every file. For a
larger folder, it has those of the directories and of the files that are not images. An image that
was added, deleted or renamed is then noticed; one that was overwritten is simply read anew.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.files import read_json, write_text
from patchit_hf.common.resources import ResourceError
from patchit_hf.common.walk import walk
from patchit_hf.data import heif
from patchit_hf.data.cached import cache_path
from patchit_hf.data.dataset_state import dataset_fingerprint, row_order
from patchit_hf.data.picture_survey import Survey
from patchit_hf.data.reach import Reach
from patchit_hf.data.rows import open_arrow

logger = logging.getLogger(__name__)

VERSION = 1  # of the notes' format
FILES = 10_000  # largest folder whose files are all compared


def recall(folder: Path, reach: Reach | None = None) -> dict[str, Any] | None:
    """Return the splits of a folder from its note; None if it has to be opened anew.

    Args:
        folder: the folder.
        reach: where its images may be read, in the folder by default; a folder that was opened with
            this check is not checked again.
    """
    file = _note(folder)
    if not file.exists():
        return None
    try:
        note = read_json(file)
        if note["seen"] != _look_again(folder, note["seen"]):
            return None
        if note["heif"] not in (None, heif.readable()):
            return None
        splits = {name: _open(name, split) for name, split in note["splits"].items()}
        for split in splits.values() if not note.get("inside") else ():
            (reach or Reach(str(folder))).check(split)
        tell(folder, note["notes"])
        return splits
    except (
        InputError,
        OSError,
        KeyError,
        TypeError,
        ValueError,
    ):  # files are gone, or the note is damaged
        return None


def remember(
    folder: Path,
    seen: dict[str, Any],
    splits: dict[str, Any],
    found: Survey | None = None,
    *,
    inside: bool = False,
) -> dict[str, Any]:
    """Write the note of a folder, and return its splits as they will be reopened.

    Args:
        folder: the folder.
        seen: its state before it was opened; see ``look``.
        splits: result of ``datasets.load_dataset``; if one is in memory, no note is written.
        found: what was left out of the folder, and why.
        inside: whether all images were found to lie in the folder.
    """
    files = {name: [f["filename"] for f in split.cache_files] for name, split in splits.items()}
    try:
        plain = all(files.values()) and all(row_order(s) is None for s in splits.values())
    except AttributeError:
        return splits
    if not plain:
        return splits
    note = _note(folder)
    made = {
        name: {
            "fingerprint": dataset_fingerprint(split),
            "rows": len(split),
            "files": [[file, os.path.getsize(file)] for file in files[name]],
        }
        for name, split in splits.items()
    }
    known = {
        "folder": str(folder.resolve()),
        "inside": inside,
        "seen": seen,
        "notes": found.notes if found else [],
        "heif": heif.readable() if found and found.heif else None,
        "splits": made,
    }
    text = json.dumps(known)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_text(note, text, shared=True)
    except (OSError, ResourceError) as error:  # it is looked through again next time
        logger.warning("the note about %s is not kept: %s", folder, one_line(error))
    return {name: _open(name, split) for name, split in made.items()}


def tell(folder: Path, notes: list[str]) -> None:
    """Say what is left out of a folder, and why."""
    for line in notes:
        logger.warning("data set '%s': %s", folder.name, line)


def holds_files(folder: Path) -> bool:
    """Say whether a folder or its subfolders hold any file that is not hidden."""
    return any(not name.startswith(".") for _, names in _walk(folder) for name in names)


def look(folder: Path) -> dict[str, Any]:
    """Return the state of a folder: modification times of directories and files, file sizes."""
    known = Image.registered_extensions()
    directories, files, others, count = [], [], [], 0
    for path, names in _walk(folder):
        directories.append(path)
        for name in names:
            count += 1
            where = os.path.join(path, name)
            if os.path.splitext(name)[1].lower() not in known:
                others.append(where)
            if count <= FILES:
                files.append(where)
    seen = files if count <= FILES else others
    return {
        "count": count,
        "directories": {path: os.stat(folder / path).st_mtime_ns for path in directories},
        "files": {path: _state(folder / path) for path in seen},
    }


def _look_again(folder: Path, seen: dict[str, Any]) -> dict[str, Any]:
    """Return the present state of just those directories and files that ``seen`` lists."""
    return {
        "count": seen["count"],
        "directories": {path: os.stat(folder / path).st_mtime_ns for path in seen["directories"]},
        "files": {path: _state(folder / path) for path in seen["files"]},
    }


def _walk(folder: Path) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield every directory below a folder, relative to it, with the names of its files."""
    for path, entries in walk(folder):
        yield path, (entry.name for entry in entries)


def _state(file: Path) -> list[int]:
    try:
        state = os.stat(file)
    except FileNotFoundError:  # a link to nowhere
        state = os.lstat(file)
    return [state.st_size, state.st_mtime_ns]


def _note(folder: Path) -> Path:
    key = json.dumps([VERSION, datasets.__version__, str(folder.resolve())])
    return cache_path("{}.opened.json", key)


def _open(name: str, split: dict[str, Any]) -> Any:
    parts = []
    for file, size in split["files"]:
        if os.path.getsize(file) != size:
            raise OSError(f"{file}: is another file now")
        parts.append(open_arrow(file))
    info = datasets.DatasetInfo.from_directory(os.path.dirname(split["files"][0][0]))
    whole = datasets.concatenate_datasets(parts)
    if len(whole) != split["rows"]:
        raise OSError(f"{name}: holds other rows now")
    return datasets.Dataset(
        whole.data, info=info, split=datasets.Split(name), fingerprint=split["fingerprint"]
    )
