"""HEIC and HEIF images, which Pillow reads only with the help of ``pillow-heif``."""

from __future__ import annotations

from importlib.util import find_spec
from typing import IO, Any

from PIL import Image

ENDINGS = (".heic", ".heif", ".hif")
BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
HINT = "pip install pillow-heif"


def readable() -> bool:
    """Say whether HEIC images can be read here."""
    return find_spec("pillow_heif") is not None


def is_heif(start: bytes) -> bool:
    r"""Say whether a file that begins so, with 64 bytes, is a HEIC or HEIF image.

    Example:
        >>> is_heif(b"\x00\x00\x00\x18ftypheic"), is_heif(b"\xff\xd8\xff")
        (True, False)
    """
    return start[4:8] == b"ftyp" and start[8:12] in BRANDS and b"avif" not in start


def open_heif(file: IO[bytes]) -> Image.Image:
    """Open a HEIC image by its header, upright as it is shown.

    Raises:
        ImportError: without ``pillow-heif``.
    """
    import pillow_heif

    reader: Any = pillow_heif.HeifImageFile
    file.seek(0)
    image: Image.Image = reader(file)
    return image
