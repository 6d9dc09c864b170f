"""The state of the files that a data set of paths names: their pixels may change under a cache."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from patchit_hf.data.rows import ImageRows


@dataclass(frozen=True)
class FileStates:
    """The state of the files of a data set's images.

    Attributes:
        key: hash of path, size and modification time of each.
        newest: the latest time at which one of them was changed, moved or made, in nanoseconds.
    """

    key: str
    newest: int


def file_states(rows: ImageRows) -> FileStates | None:
    """Return the state of the files that rows name; None if the table holds all images itself.

    A file that is not there, or not on this machine, has its path alone.

    Args:
        rows: the images.
    """
    digest, newest, count = hashlib.blake2b(digest_size=12), 0, 0
    for path in rows.paths():
        count += 1
        try:
            state = os.stat(path)
        except (OSError, ValueError):
            digest.update(f"{path}\n".encode("utf-8", "surrogateescape"))
            continue
        newest = max(newest, state.st_mtime_ns, state.st_ctime_ns)
        words = f"{path} {state.st_size} {state.st_mtime_ns}\n"
        digest.update(words.encode("utf-8", "surrogateescape"))
    return FileStates(digest.hexdigest(), newest) if count else None
