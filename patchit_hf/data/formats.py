"""The image formats that are read, and the only place where Pillow opens an image file.

Pillow recognises an image by its content, not by its name, and starts Ghostscript for PostScript.
Only formats that Pillow decodes itself are on the list, so that a file of somebody else's data set
starts no other program, whatever it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from PIL import Image

# MPO, several JPEGs in one file, is read as JPEG. TGA has no mark that it is recognised by, and
# comes last.
FORMATS = (
    "JPEG", "PNG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA",
)  # fmt: skip


def open_image(file: str | Path | IO[bytes]) -> Image.Image:
    """Open an image by its header, without decoding it.

    Raises:
        UnidentifiedImageError: if it is of none of the ``FORMATS``.

    Example:
        >>> import io
        >>> buffer = io.BytesIO()
        >>> Image.new("RGB", (50, 100)).save(buffer, "PNG")
        >>> open_image(buffer).size
        (50, 100)
    """
    return Image.open(file, formats=known_formats())


def known_formats() -> tuple[str, ...]:
    """Return those of the ``FORMATS`` that this Pillow reads; some are missing from older ones."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
