"""What a data set holds, as one number per image or file: what a resumed run compares.

``content_hashes`` makes these numbers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchit_hf.common.files import replacing

TOLD = 3  # names in a message

Digests = NDArray[np.uint64]


@dataclass(frozen=True)
class Contents:
    """What a part of a data set holds.

    Attributes:
        digests: a hash per image or file, uint64 ``[N]``, in order.
        names: their names; empty if there are too many, or they have none.

    Example:
        >>> old = Contents(np.array([1, 2, 3], np.uint64), ("a.png", "b.png", "c.png"))
        >>> new = Contents(np.array([1, 9, 4], np.uint64), ("a.png", "b.png", "d.png"))
        >>> new.changes_since(old)
        '1 changed (b.png), 1 gone (c.png), 1 new (d.png)'
    """

    digests: Digests
    names: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """A hash of all of it."""
        total = hashlib.blake2b(self.digests.astype("<u8").tobytes(), digest_size=8)
        return total.hexdigest()

    def changes_since(self, old: Contents) -> str:
        """Say how it differs from what it was; empty if it does not."""
        if np.array_equal(self.digests, old.digests):
            return ""
        if self._are_names(old) and set(self.names) != set(old.names):
            return self._by_name(old)
        if len(self.digests) == len(old.digests):
            rows = np.flatnonzero(self.digests != old.digests).tolist()
            return _part("changed", len(rows), [self._name(row) for row in rows[:TOLD]])
        here, there = Counter(self.digests.tolist()), Counter(old.digests.tolist())
        new = [row for row, value in enumerate(self.digests.tolist()) if value not in there]
        parts = [
            _part("gone", (there - here).total(), []),
            _part("new", (here - there).total(), [self._name(row) for row in new[:TOLD]]),
        ]
        return ", ".join(filter(None, parts))

    def _by_name(self, old: Contents) -> str:
        here = dict(zip(self.names, self.digests.tolist(), strict=True))
        there = dict(zip(old.names, old.digests.tolist(), strict=True))
        found = {
            "changed": [n for n in here if n in there and here[n] != there[n]],
            "gone": [n for n in there if n not in here],
            "new": [n for n in here if n not in there],
        }
        parts = [_part(w, len(n), [_short(x) for x in n[:TOLD]]) for w, n in found.items()]
        return ", ".join(filter(None, parts)) or "their order changed"

    def _are_names(self, old: Contents) -> bool:
        return bool(self.names and old.names) and all(
            len(set(part.names)) == len(part.names) for part in (self, old)
        )

    def _name(self, row: int) -> str:
        return _short(self.names[row]) if self.names else f"row {row}"


def _part(what: str, count: int, names: list[str]) -> str:
    more = ", ..." if len(names) < count and names else ""
    named = f" ({', '.join(names)}{more})" if names else ""
    return f"{count:,} {what}{named}" if count else ""


def _short(name: str) -> str:
    return "/".join(Path(name).parts[-2:])


def write_contents(file: Path, parts: dict[str, Contents]) -> None:
    """Write what the parts of a data set hold; see ``read_contents``."""
    arrays: dict[str, Any] = {}
    for part, contents in parts.items():
        arrays[f"{part} digests"] = contents.digests
        arrays[f"{part} names"] = np.array(
            [name.encode(errors="backslashreplace") for name in contents.names] or [b""]
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as draft, draft.open("wb") as out:
        np.savez_compressed(out, **arrays)


def read_contents(file: Path) -> dict[str, Contents]:
    """Read what the parts of a data set held; empty if it was not written, or is damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            found = {}
            for key in stored.files:
                part, _, what = key.rpartition(" ")
                if what == "digests":
                    names = [name.decode() for name in stored[f"{part} names"].tolist() if name]
                    digests = stored[key].astype(np.uint64)
                    kept = tuple(names) if len(names) == len(digests) else ()
                    found[part] = Contents(digests, kept)
            return found
    except Exception:  # it only explains what changed
        return {}
