"""PARSE-27k's ``annotations.sqlite3``: its splits, and its rows."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError

# The split of each sequence.
SPLITS = {1: "train", 4: "train", 5: "train", 2: "validation", 7: "validation", 8: "validation",
          3: "test", 6: "test"}  # fmt: skip


def read_rows(path: Path, query: str) -> list[Any]:
    """Return the rows of a query on the PARSE-27k database, which is opened read-only.

    Raises:
        InputError: if the file is not the PARSE-27k database.
    """
    try:
        base = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            return base.execute(query).fetchall()
        finally:
            base.close()
    except sqlite3.Error as error:
        raise InputError(f"{path}: is not the PARSE-27k database: {error}") from error
