"""People and cameras as numbers, alike in every data set."""

from __future__ import annotations

import hashlib
from typing import Any

from patchit_hf.data.columns import NOBODY, missing

DIGITS = 15  # of a number at most; longer text is a name


def hashed(value: Any) -> int:
    """Return a number above 0 for whatever names a person or a camera."""
    digest = hashlib.blake2b(str(value).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 2) + 1


def camera_number(value: Any) -> int:
    """Return the number of a camera; -1 if it is unknown."""
    if missing(value, NOBODY):
        return -1
    value = plain(value)
    return value if isinstance(value, int) else hashed(value)


def plain(value: Any) -> Any:
    """Return a number without a fraction as a whole one: a blank makes a column of floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def numeral(value: Any) -> Any:
    """Return text that is a whole number as that number; ``0012`` in a file name is 12 in a table.

    Example:
        >>> numeral("0012"), numeral("ann"), numeral(7)
        (12, 'ann', 7)
    """
    text = value.strip() if isinstance(value, str) else ""
    short = len(text) <= DIGITS and text.isascii() and text.isdecimal()
    return int(text) if short else value
