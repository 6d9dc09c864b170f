"""What arguments about images may be, without the libraries that read images.

``--help`` and the check of the arguments need these, and importing NumPy and Pillow takes longer
than both.
"""

from __future__ import annotations

from typing import Literal, get_args

from patchit_hf.common.errors import InputError

Fit = Literal["squash", "cover"]
FITS: tuple[str, ...] = get_args(Fit)
OnBad = Literal["raise", "skip", "replace"]
ON_BAD: tuple[str, ...] = get_args(OnBad)


def parse_canvas(text: str, flag: str = "--canvas") -> tuple[int, int]:
    """Parse ``HEIGHTxWIDTH``, in pixels.

    Args:
        text: what was given.
        flag: where it was given.

    Raises:
        InputError: if the text is not two whole numbers of at least 8.

    Example:
        >>> parse_canvas("200x100")
        (200, 100)
    """
    parts = str(text).lower().split("x")
    if len(parts) != 2 or not all(p.isdecimal() for p in parts) or min(map(int, parts)) < 8:
        raise InputError(
            f"{flag} {text!r}: must be HEIGHTxWIDTH in pixels, each at least 8, such as 200x100"
        )
    return int(parts[0]), int(parts[1])
