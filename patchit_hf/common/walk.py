"""Walk over a folder, through links to other folders, without walking in a circle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def walk(
    folder: str | Path, *, skip: Callable[[str], bool] | None = None, again: bool = False
) -> Iterator[tuple[str, Iterator[os.DirEntry[str]]]]:
    """Yield every directory below a folder, relative to it, with the entries of its files.

    Links to folders are followed, except to one that holds the folder, or the link itself. The
    entries of a directory have to be read before the next one is asked for.

    Args:
        folder: the folder.
        skip: says by its name which folder is left out.
        again: whether a folder that several links lead to is yielded under each of its names,
            instead of once.

    Raises:
        OSError: for a folder that cannot be read.
    """
    root = os.path.realpath(folder)
    known: set[tuple[int, int]] = set()
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        path, above = waiting.pop()
        state = os.stat(os.path.join(folder, path))
        this = (state.st_dev, state.st_ino)
        if this in (above if again else known):
            continue
        known.add(this)
        inside: list[str] = []

        def entries(path: str = path, inside: list[str] = inside) -> Iterator[os.DirEntry[str]]:
            with os.scandir(os.path.join(folder, path)) as found:
                for entry in found:
                    if not entry.is_dir():
                        yield entry
                    elif (skip is None or not skip(entry.name)) and not _leads_back(entry, root):
                        inside.append(os.path.join(path, entry.name))

        yield path, entries()
        waiting += [(name, above | {this}) for name in sorted(inside)]


def private(name: str) -> bool:
    """Say whether a name begins with a dot or two underscores: nobody's data.

    Example:
        >>> private(".git"), private("__MACOSX"), private("images")
        (True, True, False)
    """
    return name.startswith((".", "__"))


def dangling(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a link to a file that is not there."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def _leads_back(entry: os.DirEntry[str], root: str) -> bool:
    """Say whether an entry is a link to a folder that holds ``root``, or the entry itself."""
    if not entry.is_symlink():
        return False
    target, here = os.path.realpath(entry.path), os.path.realpath(os.path.dirname(entry.path))
    return any(f"{inner}{os.sep}".startswith(f"{target.rstrip(os.sep)}{os.sep}")
               for inner in (root, here))  # fmt: skip
