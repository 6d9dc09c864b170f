"""Find images in a folder, open them safely, and convert them to 8-bit RGB."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.names import Matches, files_below, image_endings, match_names
from patchit_hf.data.canvas import (
    DEEP,
    ORIENTATION,
    DamagedError,
    UnusableError,
    check_usable,
    decoding,
    open_any_size,
    to_8_bits,
)
from patchit_hf.data.formats import open_image
from patchit_hf.data.frame_names import match_frames
from patchit_hf.data.reach import check_links

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Shrink = Callable[[tuple[int, int]], int]
FLIPPED = ((2, 3, 6, 7), (3, 4, 7, 8))  # orientations whose x, whose y runs backwards
SOLID = 128  # of 255; pixels of lower alpha count as transparent


class BadPictureError(Exception):
    """An image that crops cannot be cut from; the message says why, without a path."""


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: RGB, upright; a JPEG may be decoded at a part of its size, see ``shrunk``.
        hidden: where it is transparent ``[H, W]``, or None if nowhere.
        stored: width and height before it was rotated.
        orientation: value of the EXIF tag, 1 to 8.
        notes: what was unusual, as the report spells it.
        shrunk: how many times higher and wider the image is than ``pixels``: 1, 2, 4 or 8.
    """

    pixels: Image.Image
    hidden: NDArray[np.bool_] | None
    stored: tuple[int, int]
    orientation: int
    notes: tuple[str, ...]
    shrunk: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole image, upright."""
        width, height = self.stored
        return (height, width) if self.orientation >= 5 else (width, height)

    def in_pixels(self, window: Sequence[float]) -> tuple[float, ...]:
        """Return a window of the whole image, xyxy, in ``pixels``.

        An odd side is rounded up when it is halved, at the end that was the right or the lower one
        before the image was turned.
        """
        spare = [
            (side - whole / self.shrunk) * (self.orientation in flips)
            for side, whole, flips in zip(self.pixels.size, self.size, FLIPPED, strict=True)
        ]
        return tuple(v / self.shrunk + s for v, s in zip(window, (*spare, *spare), strict=True))


def open_picture(path: Path, max_pixels: int, shrink: Shrink | None = None) -> Picture:
    """Decode an image, or the first frame of an animation.

    16-bit grey is scaled to 8 bits over its whole range. Floating-point and 32-bit grey have no
    known range, so such an image is bad.

    Args:
        path: the file.
        max_pixels: largest number of pixels.
        shrink: from the width and height as stored to how many times smaller a JPEG may be decoded:
            1, 2, 4 or 8. Decoding at a half takes about half of the time.

    Raises:
        BadPictureError: if it is missing, empty, damaged, too large or too small.
    """
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise BadPictureError("the file is empty")
            return read_picture(file, path.suffix.lower(), max_pixels, shrink)
    except FileNotFoundError:
        raise BadPictureError("no such file") from None
    except OSError as error:
        raise BadPictureError(f"cannot be read: {error.strerror or one_line(error)}") from error


def read_picture(
    file: BinaryIO, suffix: str, max_pixels: int, shrink: Shrink | None = None
) -> Picture:
    """Decode an image from an open file; see ``open_picture``.

    Args:
        file: the content.
        suffix: lower-case ending that the file has, such as ``.jpg``; empty if unknown.
        max_pixels: largest number of pixels.
        shrink: see ``open_picture``.

    Raises:
        BadPictureError: as ``open_picture``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged tags; what matters raises
            with decoding():
                image = open_any_size(file)
            return _decode(image, suffix, max_pixels, shrink)
    except DamagedError as error:
        raise BadPictureError(f"damaged: {error}") from error
    except UnusableError as error:
        raise BadPictureError(str(error)) from error


def size_of(source: Path | BinaryIO, *, stored: bool) -> tuple[int, int] | None:
    """Return width and height from an image's header; None if it cannot be read.

    Args:
        source: the file.
        stored: whether to return the size as stored, before rotation by the EXIF tag.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(source) as image:
                width, height = image.size
                turned = not stored and _orientation(image) >= 5
                return (height, width) if turned else (width, height)
    except Exception:  # decoding will report it
        return None


def _decode(image: Image.Image, suffix: str, max_pixels: int, shrink: Shrink | None) -> Picture:
    stored = check_usable(image, max_pixels, "--max-pixels").size
    notes = []
    expected = Image.registered_extensions().get(suffix)
    if expected and image.format and expected != image.format and image.format != "MPO":
        notes.append(f"named {suffix}, is {image.format}")
    with decoding():
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            notes.append("animated, first frame taken")
        orientation = _orientation(image)
        if shrink is not None and image.format in ("JPEG", "MPO") and (times := shrink(stored)) > 1:
            image.draft(image.mode, (stored[0] // times, stored[1] // times))
        image.load()
    shrunk = round(stored[0] / image.width)
    if image.mode in DEEP:
        notes.append("16-bit, brought to 8 bits")
        image = to_8_bits(image)
    elif image.mode == "CMYK":
        notes.append("CMYK, brought to RGB")
    with decoding():
        pixels, hidden = _shown(image, orientation)
    if hidden is not None:
        notes.append("alpha channel dropped")
    if orientation in TURNS:
        notes.append("turned by its EXIF tag")
    hides = hidden is not None and bool(hidden.any())
    return Picture(pixels, hidden if hides else None, stored, orientation, tuple(notes), shrunk)


def _shown(image: Image.Image, orientation: int) -> tuple[Image.Image, NDArray[np.bool_] | None]:
    """Return a decoded image upright as RGB, and where its alpha channel hides it."""
    alpha = image.has_transparency_data
    image = image.convert("RGBA") if alpha else image
    image = image.transpose(TURNS[orientation]) if orientation in TURNS else image
    hidden = np.asarray(image.getchannel("A")) < SOLID if alpha else None
    return image if image.mode == "RGB" else image.convert("RGB"), hidden


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(ORIENTATION, 1)
    return value if value in TURNS else 1


class PictureFolder:
    """The images below a folder, found by the names that detections use.

    Args:
        root: the folder.
        first: number of the first frame in the boxes, if they name frames of a video whose files
            are to be counted; None to go by the numbers in the files' names.

    Raises:
        InputError: if there is no such folder.
    """

    def __init__(self, root: str | Path, first: int | None = None) -> None:
        self.root, self.first = Path(root).expanduser(), first
        if not self.root.is_dir():
            raise InputError(f"--images {str(root)!r}: no such folder")
        check_links(self.root, f"--images {str(root)!r}")

    def size(self, file: str, *, stored: bool) -> tuple[int, int] | None:
        """Return width and height of a file from its header; None if it cannot be read.

        Args:
            file: path relative to the folder.
            stored: whether to return the size as stored, before rotation by the EXIF tag.
        """
        return size_of(self.root / file, stored=stored)

    def picture(self, file: str, max_pixels: int) -> Picture:
        """Decode a file; see ``open_picture``."""
        return open_picture(self.root / file, max_pixels)

    def match(self, names: list[str]) -> Matches:
        """Return the file of each name, relative to the folder, and why others have none.

        See ``match_names``; frames of a video (``cam.mp4#17``) are found in a folder of frames.
        """
        return match_frames(match_names(names, self.files), names, self.files, self.first)

    @cached_property
    def files(self) -> list[str]:
        """All images below the folder, relative to it and sorted; hidden ones are left out."""
        return sorted(files_below(self.root, image_endings()))
