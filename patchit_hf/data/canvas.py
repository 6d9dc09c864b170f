"""Decode an image and bring it to the canvas: upright, RGB, never padded."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.data import heif
from patchit_hf.data.choices import FITS as FITS
from patchit_hf.data.choices import Fit as Fit
from patchit_hf.data.choices import parse_canvas as parse_canvas
from patchit_hf.data.formats import known_formats, open_image

RESAMPLE = Image.Resampling.BICUBIC  # the interpolation that the exported config names
MAX_PIXELS = 100_000_000  # a larger crop is a decompression bomb
SMALLEST = 8  # pixels per side; a smaller image is a placeholder
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION = 0x0112  # EXIF tag


class UnusableError(ValueError):
    """An image that cannot be used; the message says why, without a path."""


class DamagedError(UnusableError):
    """An image that Pillow cannot decode."""


class UnreachableError(Exception):
    """A file that exists but cannot be read now: no permission, no network, too many files."""


class BadImageError(InputError):
    """An image that cannot be decoded or used.

    Attributes:
        file: its file name, or None if it has none.
        reason: what is wrong with it.
    """

    def __init__(self, where: str, file: str | None, reason: str) -> None:
        named = f" (file {file})" if file else ""
        super().__init__(f"{where}{named}: not a readable image: {reason}")
        self.file, self.reason = file, reason


def to_canvas(image: Image.Image, canvas: tuple[int, int], fit: str) -> NDArray[np.uint8]:
    """Bring an image to the canvas.

    Args:
        image: any PIL image; its EXIF orientation is applied.
        canvas: height and width, in pixels.
        fit: ``squash`` stretches the whole image to the canvas; ``cover`` keeps the aspect ratio,
            fills the canvas and trims both sides equally.

    Returns:
        uint8 ``[H, W, 3]``.

    Example:
        >>> from PIL import Image
        >>> to_canvas(Image.new("L", (30, 90)), (200, 100), "cover").shape
        (200, 100, 3)
    """
    height, width = canvas
    if image.format == "JPEG":  # decode at a reduced size if that is large enough
        lying = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
        image.draft("RGB", (height, width) if lying else (width, height))
    image = upright_rgb(image)
    if fit == "cover":
        image = ImageOps.fit(image, (width, height), method=RESAMPLE)
    elif image.size != (width, height):
        image = image.resize((width, height), RESAMPLE)
    return np.asarray(image, dtype=np.uint8)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return an image as it is shown: turned as its EXIF tag says, in 8-bit RGB."""
    image = ImageOps.exif_transpose(image)
    return to_8_bits(image) if image.mode in DEEP else image.convert("RGB")


def to_8_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit grey to 8-bit RGB, scaling the whole range."""
    return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert(
        "RGB"
    )


def decode(value: Any) -> Image.Image:
    """Open a value of an undecoded image column.

    Args:
        value: a mapping with ``bytes`` or ``path``, a path, or a PIL image.

    Raises:
        UnusableError: if the value is of another type, or not a usable image.
        UnreachableError: if its file exists but cannot be read now.
    """
    if isinstance(value, Image.Image):
        return check_usable(value)
    content = value.get("bytes") if isinstance(value, Mapping) else None
    if content is None:
        content = _read(value.get("path") if isinstance(value, Mapping) else value)
    if not content:
        raise UnusableError("the file is empty")
    with decoding():
        image = open_any_size(io.BytesIO(content))
    return check_usable(image)


def decode_rgb(value: Any) -> Image.Image:
    """Decode a value of an undecoded image column as RGB; see ``decode``."""
    image = decode(value)
    with decoding():
        return upright_rgb(image)


@contextmanager
def decoding() -> Iterator[None]:
    """Turn whatever Pillow raises on damaged bytes into one kind of error.

    Wrap only calls of Pillow: an error in our own code would look like a damaged image.

    Raises:
        UnusableError: if Pillow does not know the image format, or refuses its size.
        DamagedError: if it fails in any other way.
    """
    try:
        yield
    except (UnusableError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnusableError("not an image, or of an unknown format") from None
    except Image.DecompressionBombError as error:  # WebP and TIFF are checked while they are read
        raise UnusableError(f"too large for Pillow, not decoded: {error}") from error
    except Exception as error:  # a decoder may raise anything at all on damaged bytes
        text = str(error).split("<_io.")[0].strip()
        raise DamagedError(one_line(text) if text else type(error).__name__) from error


def open_any_size(file: IO[bytes]) -> Image.Image:
    """Open an image of any size by its header, without decoding it.

    Pillow's size limit holds for the whole process and is left alone. An image that it refuses is
    given directly to Pillow's format readers.

    Raises:
        UnidentifiedImageError: if no reader knows the format.
        UnusableError: for a HEIC image without the package that reads it.
    """
    start = file.read(64)
    file.seek(0)
    if heif.is_heif(start):
        return _open_heif(file)
    with suppress(Image.DecompressionBombError):
        return open_image(file)
    for read, accepts in [Image.OPEN[name] for name in known_formats()]:
        if accepts is not None and accepts(start[:16]) is not True:  # as Pillow asks
            continue
        file.seek(0)
        try:
            return read(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # another format, as in Pillow
            continue
    raise UnidentifiedImageError


def _open_heif(file: IO[bytes]) -> Image.Image:
    try:
        return heif.open_heif(file)
    except ImportError:
        raise UnusableError(
            f"a HEIC image, which needs the package pillow-heif ({heif.HINT})"
        ) from None


def check_usable(image: Image.Image, max_pixels: int = MAX_PIXELS, flag: str = "") -> Image.Image:
    """Check by its header that an image has a usable size and mode, and return it.

    Args:
        image: the image; need not be decoded.
        max_pixels: largest number of pixels.
        flag: the flag that sets ``max_pixels``, for the message; empty if none does.

    Raises:
        UnusableError: if the image is too large or too small, or of a mode with unknown range.
    """
    width, height = image.size
    if width * height > max_pixels:
        limit = f"{flag} {max_pixels}" if flag else f"{max_pixels:,}"
        raise UnusableError(f"{width}x{height} pixels, more than {limit}: not decoded")
    if min(width, height) < SMALLEST:
        raise UnusableError(f"{width}x{height} pixels: smaller than {SMALLEST} a side")
    if image.mode in ("I", "F"):
        raise UnusableError(f"pixels of mode {image.mode}, whose range is unknown")
    return image


def load_canvas(value: Any, canvas: tuple[int, int], fit: str, where: str) -> NDArray[np.uint8]:
    """Decode an image and bring it to the canvas; errors say which image it was.

    Args:
        value: see ``decode``.
        canvas: height and width, in pixels.
        fit: see ``to_canvas``.
        where: location for the error, such as ``row 17 of data/train``.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        BadImageError: if the image is missing, damaged, too large or too small.
        InputError: if its file exists but cannot be read now.
    """
    with naming(where, value):
        image = decode(value)
        with decoding():
            return to_canvas(image, canvas, fit)


@contextmanager
def naming(where: str, value: Any) -> Iterator[None]:
    """Let an image be decoded: an error says which image it was.

    Args:
        where: what the error names, such as ``row 17 of data/train``.
        value: what is decoded, see ``decode``.

    Raises:
        BadImageError: if the image is missing, damaged, too large or too small.
        InputError: if its file cannot be read for another reason, which says nothing of the image.
    """
    path = value.get("path") if isinstance(value, Mapping) else None
    path = str(value) if isinstance(value, str | Path) else path
    try:
        yield
    except (UnreachableError, MemoryError) as error:
        raise InputError(f"{where} (file {path}): cannot be read: {one_line(error)}") from error
    except UnusableError as error:
        raise BadImageError(where, path, str(error)) from error


def _read(path: Any) -> bytes:
    if not isinstance(path, str | Path):
        raise UnusableError(f"is {type(path).__name__}, not an image")
    try:
        return _fetch(str(path)) if "://" in str(path) else Path(path).read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise UnusableError("no such file") from None
    except OSError as error:
        raise UnreachableError(error.strerror or str(error)) from error


def _fetch(path: str) -> bytes:
    """Read a file inside an archive or on a remote file system."""
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            content: bytes = file.read()
            return content
    except FileNotFoundError:
        raise
    except Exception as error:  # each file system raises its own
        raise UnreachableError(one_line(error)) from error
