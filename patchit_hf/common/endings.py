"""Endings of files of tables and vectors. Imports nothing dear, for parsing of arguments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from patchit_hf.common.errors import InputError

TABLE = (".parquet", ".csv", ".json")
VECTORS = (".parquet", ".npy", ".csv")


def check_ending(path: str, allowed: Sequence[str], flag: str = "--output") -> None:
    """Refuse the name of a file that cannot be written as any of these kinds.

    Args:
        path: of the file.
        allowed: endings, each with its dot.
        flag: what named the file.

    Raises:
        InputError: if its ending is none of these, or it is a folder.

    Example:
        >>> check_ending("found.csv", TABLE)
    """
    file = Path(path).expanduser()
    if file.suffix.lower() not in allowed:
        raise InputError(f"{flag} {path!r}: must end in {', '.join(allowed[:-1])} or {allowed[-1]}")
    if file.is_dir():
        raise InputError(f"{flag} {path!r}: is a folder; must be a file")
