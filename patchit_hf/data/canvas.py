"""One image to one canvas: decoded, upright, RGB, and never padded."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from patchit_hf.common.errors import InputError, one_line

Fit = Literal["squash", "cover"]
FITS: tuple[str, ...] = get_args(Fit)
RESAMPLE = Image.Resampling.BICUBIC  # the interpolation that the exported config names
MAX_PIXELS = 100_000_000  # a larger crop is a decompression bomb
SMALLEST = 8  # pixels a side; a smaller picture is a placeholder
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION = 0x0112  # EXIF tag


class UnusableError(ValueError):
    """An image that nothing can be made of; the message says why, without a path."""


class DamagedError(UnusableError):
    """An image that Pillow cannot decode."""


class UnreachableError(Exception):
    """A file that is there and cannot be read now: no right to, no network, too many files."""


class BadImageError(InputError):
    """An image that nothing can be learnt from.

    Attributes:
        file: its name, or None where it has none.
        reason: what is wrong with it, in words.
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
        fit: ``squash`` stretches the whole image to the canvas; ``cover`` keeps the aspect, covers
            the canvas and cuts off what stands over, half on each side.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    height, width = canvas
    if image.format == "JPEG":  # decodes at a fraction where that is large enough
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
    """Return 16-bit grey as 8-bit RGB, over its whole range."""
    return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert(
        "RGB"
    )


def decode(value: Any) -> Image.Image:
    """Open what an undecoded image column holds.

    Args:
        value: a mapping with ``bytes`` or ``path``, a path, or a PIL image.

    Raises:
        UnusableError: if the value is nothing of that kind, or no image that can be used.
        UnreachableError: if its file cannot be read for a reason that says nothing of the image.
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
    """Decode what an undecoded image column holds, upright and as RGB; see ``decode``."""
    image = decode(value)
    with decoding():
        return upright_rgb(image)


@contextmanager
def decoding() -> Iterator[None]:
    """Let Pillow work: whatever it raises on damaged bytes is one kind of error.

    Only Pillow's own calls belong in here: an error of ours would seem to be one of the image.

    Raises:
        UnusableError: if Pillow knows no such kind of image, or refuses its size.
        DamagedError: if it fails in any other way.
    """
    try:
        yield
    except (UnusableError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnusableError("no picture, or of an unknown kind") from None
    except Image.DecompressionBombError as error:  # WebP and TIFF are checked while they are read
        raise UnusableError(f"too large for Pillow, not decoded: {error}") from error
    except Exception as error:  # a decoder may raise anything at all on damaged bytes
        text = str(error).split("<_io.")[0].strip()
        raise DamagedError(one_line(text) if text else type(error).__name__) from error


def open_any_size(file: IO[bytes]) -> Image.Image:
    """Open an image by its header, whatever size that says: nothing is decoded yet.

    Pillow's own limit is the whole process's, so it stays as it is; what it refuses is given to
    Pillow's readers directly.
    """
    try:
        return Image.open(file)
    except Image.DecompressionBombError:
        file.seek(0)
        start = file.read(16)  # what Pillow knows kinds by
    for read, accepts in list(Image.OPEN.values()):
        if accepts is not None and accepts(start) is not True:
            continue
        file.seek(0)
        try:
            return read(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # another kind, as in Pillow
            continue
    raise UnidentifiedImageError


def check_usable(image: Image.Image, max_pixels: int = MAX_PIXELS, flag: str = "") -> Image.Image:
    """Check by its header that an image has a size and a kind that something can be made of.

    Args:
        image: not necessarily decoded.
        max_pixels: how many it may have.
        flag: what says so, if the user does.

    Raises:
        UnusableError: if it has not.
    """
    width, height = image.size
    if width * height > max_pixels:
        limit = f"{flag} {max_pixels}" if flag else f"{max_pixels:,}"
        raise UnusableError(f"{width}x{height} pixels, more than {limit}: not decoded")
    if min(width, height) < SMALLEST:
        raise UnusableError(f"{width}x{height} pixels: smaller than {SMALLEST} a side")
    if image.mode in ("I", "F"):
        raise UnusableError(f"pixels of mode {image.mode}: their range is not known")
    return image


def load_canvas(value: Any, canvas: tuple[int, int], fit: str, where: str) -> NDArray[np.uint8]:
    """Decode and fit, with an error that says which image it was.

    Args:
        value: see ``decode``.
        canvas: height and width, in pixels.
        fit: see ``to_canvas``.
        where: what the error names, such as ``row 17 of data/train``.

    Raises:
        BadImageError: if the image is missing, damaged, too large or too small.
        InputError: if its file cannot be read for another reason, which says nothing of the image.
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
        raise UnusableError(f"no image but {type(path).__name__}")
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
    except Exception as error:  # every file system has its own
        raise UnreachableError(one_line(error)) from error


def parse_canvas(text: str) -> tuple[int, int]:
    """Read ``200x100`` as height 200 and width 100.

    Raises:
        InputError: if the text is not two whole numbers of at least 8.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdecimal() for p in parts) or min(map(int, parts)) < 8:
        raise InputError(
            f"--canvas {text!r}: give HEIGHTxWIDTH in pixels, such as 200x100, each at least 8"
        )
    return int(parts[0]), int(parts[1])
