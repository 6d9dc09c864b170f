"""Find images in a folder, open them safely, and convert them to 8-bit RGB."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchit_hf.common.errors import InputError, one_line
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
Key = Callable[[str], str]
SOLID = 128  # of 255; pixels of lower alpha count as transparent


class BadPictureError(Exception):
    """An image that crops cannot be cut from; the message says why, without a path."""


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: RGB, upright.
        hidden: where it is transparent ``[H, W]``, or None if nowhere.
        stored: width and height before it was rotated.
        orientation: value of the EXIF tag, 1 to 8.
        notes: what was unusual, as the report spells it.
    """

    pixels: Image.Image
    hidden: NDArray[np.bool_] | None
    stored: tuple[int, int]
    orientation: int
    notes: tuple[str, ...]


def open_picture(path: Path, max_pixels: int) -> Picture:
    """Decode an image, or the first frame of an animation.

    16-bit grey is scaled to 8 bits over its whole range. Floating-point and 32-bit grey have no
    known range, so such an image is bad.

    Args:
        path: the file.
        max_pixels: largest number of pixels.

    Raises:
        BadPictureError: if it is missing, empty, damaged, too large or too small.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged tags; what matters raises
            with path.open("rb") as file:
                if not path.stat().st_size:
                    raise BadPictureError("the file is empty")
                with decoding():
                    image = open_any_size(file)
                return _decode(image, path.suffix.lower(), max_pixels)
    except DamagedError as error:
        raise BadPictureError(f"damaged: {error}") from error
    except UnusableError as error:
        raise BadPictureError(str(error)) from error
    except FileNotFoundError:
        raise BadPictureError("no such file") from None
    except OSError as error:
        raise BadPictureError(f"cannot be read: {error.strerror or one_line(error)}") from error


def size_of(path: Path) -> tuple[int, int] | None:
    """Return the stored width and height from the file's header; None if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(path) as image:
                return image.size
    except Exception:  # decoding will report it
        return None


def orientation_of(path: Path) -> int:
    """Return the EXIF orientation from the file's header; 1 if it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(path) as image:
                return _orientation(image)
    except Exception:
        return 1


def _decode(image: Image.Image, suffix: str, max_pixels: int) -> Picture:
    stored = check_usable(image, max_pixels, "--max-pixels").size
    notes = []
    expected = Image.registered_extensions().get(suffix)
    if expected and image.format and expected != image.format and image.format != "MPO":
        notes.append(f"named {suffix}, is {image.format}")
    with decoding():
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            notes.append("animated, first frame taken")
        orientation = _orientation(image)
        image.load()
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
    return Picture(pixels, hidden if hides else None, stored, orientation, tuple(notes))


def _shown(image: Image.Image, orientation: int) -> tuple[Image.Image, NDArray[np.bool_] | None]:
    """Return a decoded image upright as RGB, and where its alpha channel hides it."""
    alpha = image.has_transparency_data
    image = image.convert("RGBA") if alpha else image
    image = image.transpose(TURNS[orientation]) if orientation in TURNS else image
    hidden = np.asarray(image.getchannel("A")) < SOLID if alpha else None
    return image.convert("RGB"), hidden


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(ORIENTATION, 1)
    return value if value in TURNS else 1


class PictureFolder:
    """The images below a folder, found by the names that detections use.

    Args:
        root: the folder.

    Raises:
        InputError: if there is no such folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise InputError(f"--images {str(root)!r}: no such folder")
        check_links(self.root, f"--images {str(root)!r}")

    def size(self, file: str, *, stored: bool) -> tuple[int, int] | None:
        """Return width and height of a file from its header; None if it cannot be read.

        Args:
            file: path relative to the folder.
            stored: whether to return the size as stored, before rotation by the EXIF tag.
        """
        size = size_of(self.root / file)
        if size and not stored and orientation_of(self.root / file) >= 5:
            return size[1], size[0]
        return size

    def picture(self, file: str, max_pixels: int) -> Picture:
        """Decode a file; see ``open_picture``."""
        return open_picture(self.root / file, max_pixels)

    def locate(self, names: list[str]) -> list[str | None]:
        """Return the file of each name, relative to the folder; None if there is none.

        A name is looked up as it is, then without its folders, then without its extension, then as
        a number: ``139`` finds ``000000000139.jpg``. A name that matches several files finds none.
        """
        files = self.files
        there = set(files)
        indexes: dict[Key, dict[str, str]] = {}  # made when a name first needs them
        found: list[str | None] = []
        for name in names:
            clean = PurePosixPath(name).as_posix().removeprefix("./")
            if clean in there:
                found.append(clean)
                continue
            match = None
            for key in (_name, _trunk, _stem, _number):
                if key not in indexes:
                    indexes[key] = _index(files, key)
                match = indexes[key].get(key(clean))
                if match:
                    break
            found.append(match or None)
        return found

    @cached_property
    def files(self) -> list[str]:
        """All images below the folder, relative to it and sorted."""
        known = Image.registered_extensions()
        files = []
        for folder, _, names in os.walk(self.root, followlinks=True):
            inside = Path(folder).relative_to(self.root)
            files += [
                (inside / name).as_posix()
                for name in names
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in known
            ]
        return sorted(files)


def _index(files: list[str], key: Key) -> dict[str, str]:
    """Return files by key; a key that several files share gives an empty string."""
    index: dict[str, str] = {}
    for file in files:
        word = key(file)
        if word:
            index[word] = "" if word in index else file
    return index


def _name(file: str) -> str:
    return PurePosixPath(file).name


def _trunk(file: str) -> str:
    """Return the whole path, without its extension if that is of an image."""
    path = PurePosixPath(file)
    known = path.suffix.lower() in Image.registered_extensions()
    return path.with_suffix("").as_posix() if known else file


def _stem(file: str) -> str:
    return PurePosixPath(_trunk(file)).name


def _number(file: str) -> str:
    stem = _stem(file)
    return str(int(stem)) if stem.isdecimal() else ""
