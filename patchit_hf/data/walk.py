"""Walk over a folder, through links to other folders, without walking in a circle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

HIDDEN = (".", "__")  # how the names of files and folders begin that are nobody's data


def walk(folder: Path, *, hidden: bool = True) -> Iterator[tuple[str, Iterator[os.DirEntry[str]]]]:
    """Yield every directory below a folder, relative to it, with the entries of its files.

    Links to folders are followed, except to one that holds the folder itself. The entries of a
    directory have to be read before the next one is asked for.

    Args:
        folder: the folder.
        hidden: whether to go into folders whose names begin with a dot or two underscores.

    Raises:
        OSError: for a folder that cannot be read.
    """
    root = os.path.realpath(folder)
    waiting, known = [""], set()
    while waiting:
        path = waiting.pop()
        state = os.stat(folder / path)
        if (state.st_dev, state.st_ino) in known:  # two links to one folder
            continue
        known.add((state.st_dev, state.st_ino))
        inside: list[str] = []

        def entries(path: str = path, inside: list[str] = inside) -> Iterator[os.DirEntry[str]]:
            with os.scandir(folder / path) as found:
                for entry in found:
                    if not entry.is_dir():
                        yield entry
                    elif (hidden or not entry.name.startswith(HIDDEN)) and not _above(entry, root):
                        inside.append(os.path.join(path, entry.name))

        yield path, entries()
        waiting += sorted(inside)


def dangling(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a link to a file that is not there."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def _above(entry: os.DirEntry[str], root: str) -> bool:
    """Say whether an entry is a link to a folder that holds ``root``, or to ``root`` itself."""
    if not entry.is_symlink():
        return False
    target = os.path.realpath(entry.path)
    return root == target or root.startswith(target.rstrip(os.sep) + os.sep)
