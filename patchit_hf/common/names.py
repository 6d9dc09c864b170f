"""Which files lie below a folder, and which of them a name in somebody's labels means.

Names in labels were written on another machine, by another tool, in another folder. Parts of a name
may be dropped to find its file, but only as long as it cannot be confused with any other.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from patchit_hf.common.walk import walk

NOT_CONTENT = ("__macosx", "@eadir", "$recycle.bin", "thumbs.db", "desktop.ini")
KINDS = {  # folders that say what they hold: labels/a.txt is of images/a.jpg
    "images", "image", "imgs", "img", "img1", "jpegimages", "frames", "labels", "label",
    "annotations", "annotation", "xmls", "xml", "jsons", "json", "obj_train_data",
}  # fmt: skip
HEIF = {".heic", ".heif", ".hif"}  # read with the help of pillow-heif
NO_IMAGES = {".mpg", ".mpeg"}  # videos, which Pillow recognises but does not decode
Key = Callable[[str], str | None]


def is_hidden(name: str) -> bool:
    """Say whether a file or folder is one that systems make for themselves, such as ``._a.jpg``."""
    return name.startswith(".") or name.lower() in NOT_CONTENT


def files_below(root: str | Path, endings: Collection[str] = ()) -> list[str]:
    """Return the files below a folder, relative to it, sorted folder by folder.

    Hidden files and folders are left out (see ``is_hidden``). Linked folders are followed, but not
    round in circles.

    Args:
        root: the folder.
        endings: lower-case endings such as ``.txt``; any if empty.

    Raises:
        OSError: for a folder that cannot be read.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.txt", "._b.txt", "a.TXT", "c.png"):
        ...     (folder / name).touch()
        >>> files_below(folder, (".txt",))
        ['a.TXT', 'b.txt']
    """
    if not os.path.isdir(root):
        return []
    found = [
        Path(folder, entry.name).as_posix()
        for folder, entries in walk(root, skip=is_hidden, again=True)
        for entry in entries
        if not is_hidden(entry.name)
        and (not endings or os.path.splitext(entry.name)[1].lower() in endings)
    ]
    return sorted(found, key=lambda name: name.split("/"))


@dataclass
class Matches:
    """Which file each name means.

    Attributes:
        files: the file of each name, or None.
        why: for names without a file, why: they are missing, or could be confused.
        moved: names whose file lies in another folder than they say, and that file.
    """

    files: list[str | None]
    why: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)


def match_names(
    names: Sequence[str], files: Sequence[str], endings: Collection[str] | None = None
) -> Matches:
    """Find the file that each name means.

    A name is looked up as it is; then without its ending; then without regard to capitals, percent
    codes and Unicode's two ways to write an accent; then without folders such as ``labels`` and
    ``images``; then as a number in its folder: ``a/139`` finds ``a/000000000139.jpg``; then all of
    this by its last folders and name, as many as possible. What is dropped has to leave the name
    unique among all names and all files. Where two folders of names could be the same folder of
    files, neither is taken.

    Args:
        names: the names, with ``/`` between folders.
        files: the files, relative to their folder.
        endings: endings that may be dropped; those of images if None.

    Returns:
        The files, and why a name has none. No two different names get the same file.

    Example:
        >>> files = ["cam1/0001.jpg", "cam1/0002.jpg"]
        >>> match_names(["/old/cam1/0001", "2"], files).files
        ['cam1/0001.jpg', 'cam1/0002.jpg']
        >>> found = match_names(["a/1", "b/1"], ["a/1.jpg"])
        >>> found.files, found.why
        (['a/1.jpg', None], {'b/1': "no such file; a/1.jpg is another image's, a/1"})
    """
    search = _Search(names, files, image_endings() if endings is None else endings)
    for key in search.levels():
        if not search.open:
            break
        search.level(key)
    return search.done()


class _Search:
    """The state of ``match_names``: what is open, taken and in doubt."""

    def __init__(
        self, names: Sequence[str], files: Sequence[str], endings: Collection[str]
    ) -> None:
        self.given, self.all_files, self.endings = names, files, endings
        self.names = {name: _clean(name) for name in names}
        there = set(files)
        self.found: dict[str, str] = {n: c for n, c in self.names.items() if c in there}
        self.owner: dict[str, str] = {file: name for name, file in self.found.items()}
        self.open = [name for name in self.names if name not in self.found]
        self.why: dict[str, str] = {}
        # Folders of names that could be one folder of files, with what to say about them.
        self.doubt: dict[tuple[str, str], str] = {}

    def levels(self) -> Iterator[Key]:
        """Yield ways to shorten a name, the mildest first."""
        trunk: Key = lambda name: _trunk(name, self.endings)  # noqa: E731
        loose: Key = lambda name: _plain(_trunk(name, self.endings))  # noqa: E731
        bare: Key = lambda name: _without_kinds(_plain(_trunk(name, self.endings)))  # noqa: E731
        counted: Key = lambda name: _counted(bare(name))  # noqa: E731
        yield from (trunk, loose, bare, counted)
        depth = min(_depth(self.names.values()), _depth(self.all_files))
        for last in range(depth, 0, -1):
            for way in (str, trunk, loose, bare, counted):
                yield lambda name, way=way, last=last: _tail(way(name), last)  # type: ignore[misc]

    def level(self, key: Key) -> None:
        """Look all open names up by one way to shorten them."""
        files = _index(self.all_files, key)
        wanted = {k for name in self.open if (k := key(self.names[name])) in files}
        if not wanted:
            return
        sharing: dict[str, list[str]] = {}
        for name, clean in self.names.items():
            if (k := key(clean)) in wanted and k is not None:
                sharing.setdefault(k, []).append(name)
        sure: list[tuple[str, str]] = []
        for k, alike in sharing.items():
            self._decide(alike, files[k], sure)
        for name, file in sure:
            pair = (_folder(self.names[name]), _folder(file))
            if pair in self.doubt:
                self.why[name] = self.doubt[pair]
            else:
                self.found[name], self.owner[file] = file, name
        self.open = [n for n in self.open if n not in self.found and n not in self.why]

    def _decide(self, alike: list[str], files: list[str], sure: list[tuple[str, str]]) -> None:
        """Decide on names that are alike when shortened, and the files that they could mean."""
        waiting = [name for name in alike if name not in self.found and name not in self.why]
        if len(files) > 1:
            for name in waiting:
                self.why[name] = f"several files could be it: {files[0]}, {files[1]}"
            return
        file = files[0]
        owner = self.owner.get(file)
        for name in waiting:
            others = [other for other in (owner, *alike) if other not in (None, name)]
            if not others:
                sure.append((name, file))
                continue
            other = str(others[0])
            self.why[name] = (
                f"no such file; {file} is another image's, {other}"
                if owner
                else f"no such file; {file} could be {name} or {other}"
            )
            here, there = _folder(self.names[name]), _folder(self.names[other])
            if here != there:
                text = f"no such file; the folder {_folder(file) or '.'} could be {here or '.'} or "
                text += there or "."
                self.doubt[here, _folder(file)] = self.doubt[there, _folder(file)] = text

    def done(self) -> Matches:
        files = [self.found.get(name) for name in self.given]
        missing = {name: self.why.get(name, "no such file") for name in self.names}
        why = {name: text for name, text in missing.items() if name not in self.found}
        moved = {
            name: file
            for name, file in self.found.items()
            if _folder(self.names[name]) != _folder(file)
            and not _same_place(_folder(_bare(self.names[name])), _folder(_bare(file)))
        }
        return Matches(files, why, moved)


@cache
def image_endings() -> frozenset[str]:
    """Return the endings of all kinds of images, such as ``.jpg``: what Pillow knows, and HEIC."""
    from PIL import Image

    return frozenset(Image.registered_extensions()) - NO_IMAGES | HEIF


def _index(files: Iterable[str], key: Key) -> dict[str | None, list[str]]:
    """Return up to two files by key."""
    index: dict[str | None, list[str]] = {}
    for file in files:
        word = key(file)
        if word is not None:
            there = index.setdefault(word, [])
            if len(there) < 2:
                there.append(file)
    return index


# These are called for each of a million names and files, several times.


def _clean(name: str) -> str:
    return PurePosixPath(name).as_posix() if "//" in name or "./" in name else name


def _trunk(name: str, endings: Collection[str]) -> str:
    trunk, dot, ending = name.rpartition(".")
    return trunk if trunk and f"{dot}{ending}".lower() in endings else name


def _plain(name: str) -> str:
    if name.isascii() and "%" not in name:
        return name.lower()
    return unicodedata.normalize("NFC", unquote(name)).casefold()


def _without_kinds(name: str) -> str:
    *folders, last = name.split("/")
    return "/".join([*(word for word in folders if word not in KINDS), last])


def _bare(name: str) -> str:
    return _without_kinds(_plain(name))


def _tail(name: str | None, last: int) -> str | None:
    if name is None or last == 1:
        return None if name is None else name.rpartition("/")[2]
    parts = name.split("/")
    return "/".join(parts[-last:]) if len(parts) >= last else None


def _counted(name: str | None) -> str | None:
    """Return a name that is a number, without leading zeros; None for any other."""
    folder, slash, stem = (name or "").rpartition("/")
    return f"{folder}{slash}{int(stem)}" if stem.isdecimal() else None


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _depth(names: Iterable[str]) -> int:
    return max((name.count("/") + 1 for name in names), default=0)


def _same_place(one: str, other: str) -> bool:
    """Say whether one folder's path ends in the other's."""
    return not (one and other) or f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")
