"""What a format of boxes is, and what is seen of a path to tell in which format it is."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from patchit_hf.common.text import text_start
from patchit_hf.crops.detections.layout import files_below
from patchit_hf.crops.detections.table import Detections

SAMPLE = 65536  # bytes of a file that are looked at
FEW, MANY = 3, 60  # files that are looked at, by suffix: of one folder, and of all
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:]')
TAG = re.compile(r"<([A-Za-z_][\w.-]*)")


@dataclass(frozen=True)
class Format:
    """A format of boxes: a module of this folder that has a ``FORMAT`` is one.

    Attributes:
        name: what ``--format`` calls it.
        title: what people call it.
        looks: returns the file that shows that a path is in this format, else None.
        read: reads a path; takes those of ``options`` by name.
        options: which of ``image_list``, ``columns`` and ``box_format`` it takes.
        over: names of less specific formats, which do not count where this one is seen.
    """

    name: str
    title: str
    looks: Callable[[Look], Path | None]
    read: Callable[..., Detections]
    options: tuple[str, ...] = ()
    over: tuple[str, ...] = ()


class Look:
    """The files at a path, and how they begin.

    Args:
        path: a file or a folder.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.is_folder = path, path.is_dir()
        self.start = lru_cache(maxsize=None)(self._start)

    @cached_property
    def files(self) -> list[Path]:
        """The file itself, or all files below the folder."""
        return files_below(self.path) if self.is_folder else [self.path]

    def some(self, *suffixes: str) -> list[Path]:
        """Return the file itself, whatever its suffix, or some files of a folder that hold text."""
        if not self.is_folder:
            return [self.path]
        found: list[Path] = []
        folders: Counter[Path] = Counter()
        for file in self.files:
            if file.suffix.lower() in suffixes and folders[file.parent] < FEW:
                if self.start(file).strip():
                    found.append(file)
                    folders[file.parent] += 1
            if len(found) == MANY:
                break
        return found

    def lines(self, file: Path) -> list[str]:
        """Return the first lines of a file, without blank ones and comments."""
        text = self.start(file)
        lines = text.splitlines()
        whole = lines[:-1] if len(text) >= SAMPLE // 4 and len(lines) > 1 else lines
        return [line for line in whole if line.strip() and not line.startswith("#")][:100]

    def keys(self, file: Path) -> tuple[str, set[str]]:
        """Return how a JSON file begins: its bracket, and the keys of its (first) object."""
        text = self.start(file).lstrip()
        if text[:1] not in ("{", "["):
            return "", set()
        return text[0], _keys(text)

    def tag(self, file: Path) -> str:
        """Return the name of an XML file's root; empty if it is no XML."""
        text = self.start(file).lstrip()
        if not text.startswith("<"):
            return ""
        match = TAG.search(re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL))
        return match[1] if match else ""

    def _start(self, file: Path) -> str:
        return text_start(file, SAMPLE)


def numeric(words: list[str]) -> bool:
    """Say whether there are words and all of them are numbers."""
    try:
        return bool([float(word) for word in words])
    except ValueError:
        return False


def _text(token: str) -> str:
    """Return a JSON text without its quotes; one that is damaged as it stands there."""
    try:
        return str(json.loads(token, strict=False))
    except ValueError:
        return token.strip('"')


def _keys(text: str) -> set[str]:
    level, depth = 1 if text[0] == "{" else 2, 0
    keys, last = set(), ""
    for token in TOKEN.findall(text):
        if token in ("{", "["):
            depth += 1
        elif token in ("}", "]"):
            depth -= 1
            if depth < level:
                break
        elif token == ":" and depth == level and last.startswith('"'):
            keys.add(_text(last))
        last = token
    return keys
