"""Images of any kind that somebody has at hand, brought to canvases by the one decoder."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from patchit_hf.common.errors import InputError
from patchit_hf.data.canvas import check_usable, decode_rgb, decoding, load_canvas, naming
from patchit_hf.data.columns import find_image_column
from patchit_hf.data.image_values import ALLOWED, image_value
from patchit_hf.data.rows import ImageRows
from patchit_hf.data.transformed import image_rows

ImageInput: TypeAlias = (
    str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Tensor | Mapping[str, Any]
)
ImageInputs: TypeAlias = ImageInput | Iterable[ImageInput] | datasets.Dataset


class Images:
    """One or many images, decoded when they are asked for.

    Arrays have their channels last and tensors have them first: grey, RGB or RGBA, as uint8 or as
    floats from 0 to 1; grey may be uint16. Whatever is a file or a row of a data set is read as in
    training, where large JPEGs are shrunk while they are decoded; what is decoded already is
    resized from all its pixels. What is given stays as it is.

    Args:
        images: see ``ImageInputs``.
        image_column: the image column of a data set; found by itself where there is only one.

    Attributes:
        single: whether one image was given, and not a list of one.

    Raises:
        InputError: if they are nothing of that kind.

    Example:
        >>> images = Images([Image.new("RGB", (50, 100)), np.zeros((100, 50), np.uint8)])
        >>> len(images), images.single, images.canvas(1, (20, 10), "squash").shape
        (2, False, (20, 10, 3))
    """

    def __init__(self, images: ImageInputs, image_column: str | None = None) -> None:
        self._rows: ImageRows | None = None
        self._values: list[Any] = []
        if isinstance(images, datasets.Dataset):
            self._rows = image_rows(images, find_image_column(images, image_column, "images"))
        elif _is_column_of_images(images):
            self._rows = ImageRows(images.source, images.column_name)
        else:
            self._values, single = _listed(images)
        self.single = self._rows is None and single
        self._last: tuple[int, Image.Image] | None = None

    def __len__(self) -> int:
        return len(self._values) if self._rows is None else len(self._rows)

    def name(self, index: int) -> str:
        """Return what errors call an image."""
        return "the image" if self.single else f"image {index}"

    def rgb(self, index: int) -> Image.Image:
        """Return an image as it is shown, in RGB and decoded; the last one is kept.

        Raises:
            InputError: if it cannot be used; see ``canvas.load_canvas``.
        """
        if self._last is None or self._last[0] != index:
            value = self.value(index)
            with naming(self.name(index), value):
                self._last = index, decode_rgb(value)
        return self._last[1]

    def canvas(self, index: int, canvas: tuple[int, int], fit: str) -> NDArray[np.uint8]:
        """Return an image on the canvas, uint8 ``[H, W, 3]``.

        Args:
            index: of the image.
            canvas: height and width, in pixels.
            fit: see ``canvas.to_canvas``.

        Raises:
            InputError: if it cannot be used; see ``canvas.load_canvas``.
        """
        value, name = self.value(index), self.name(index)
        if isinstance(value, Image.Image):
            with naming(name, value):
                value = _untouched(check_usable(value))
        return load_canvas(value, canvas, fit, name)

    def batches(
        self, canvas: tuple[int, int], fit: str, size: int, rows: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Yield the images on the canvas, uint8 ``[B, 3, H, W]``, in order.

        Args:
            canvas: height and width, in pixels.
            fit: see ``canvas.to_canvas``.
            size: images of a batch.
            rows: which images, int64 ``[M]``; all by default.
        """
        chosen = torch.arange(len(self)) if rows is None else rows
        for part in chosen.split(check_batch_size(size)):
            yield stacked([self.canvas(index, canvas, fit) for index in part.tolist()])

    def encoded(self, index: int) -> dict[str, Any]:
        """Return an image as a data set stores it: ``bytes`` of a file, or the ``path`` of one.

        What is a file stays so; what is decoded already becomes PNG in RGB, without loss.

        Raises:
            InputError: if it cannot be used; see ``canvas.load_canvas``.
        """
        value = self.value(index)
        if isinstance(value, Image.Image):
            with naming(self.name(index), value):
                value = _untouched(check_usable(value))
        if isinstance(value, str | Path):
            return {"bytes": None, "path": str(value)}
        if isinstance(value, Mapping):
            return {"bytes": value.get("bytes"), "path": value.get("path")}
        with naming(self.name(index), value):
            pixels = decode_rgb(value)
        file = io.BytesIO()
        pixels.save(file, "PNG", compress_level=1)
        return {"bytes": file.getvalue(), "path": None}

    def value(self, index: int) -> Any:
        """Return an image as the decoder takes it: a PIL image, a path, or bytes and path.

        Raises:
            InputError: if it is nothing of that kind.
        """
        if self._rows is not None:
            return self._rows[index]
        return image_value(self._values[index], self.name(index))


def check_batch_size(size: int) -> int:
    """Return the number of images of a batch.

    Raises:
        InputError: if it is no whole number of at least 1.
    """
    if not isinstance(size, int) or size < 1:
        raise InputError(f"batch_size {size!r}: must be a whole number of at least 1")
    return size


def stacked(canvases: list[NDArray[np.uint8]]) -> Tensor:
    """Return canvases ``[H, W, 3]`` as a batch, uint8 ``[B, 3, H, W]``."""
    return torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2)


def _untouched(image: Image.Image) -> Any:
    """Return an image that may be changed in place of a given one.

    A JPEG that is not decoded yet is read again, so that it gives what its file gives: the decoder
    shrinks while it decodes.
    """
    file = getattr(image, "fp", None)
    with decoding():
        if image.format != "JPEG" or file is None or not getattr(image, "tile", None):
            return image.copy()
        position = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(position)
    return {"bytes": content, "path": getattr(image, "filename", None) or None}


def _is_column_of_images(images: Any) -> TypeGuard[Any]:
    column = getattr(datasets, "Column", None)  # datasets before version 4 give lists instead
    if column is None or not isinstance(images, column):
        return False
    of_images = isinstance(images.features, datasets.Image)
    return of_images and isinstance(images.source, datasets.Dataset)


def _listed(images: Any) -> tuple[list[Any], bool]:
    """Return images as a list, and whether it was a single one."""
    if isinstance(images, np.ndarray | Tensor):
        if images.ndim == 4:
            return list(images), False
        return [images], True
    if isinstance(images, str | bytes | os.PathLike | Image.Image | Mapping):
        return [images], True
    if isinstance(images, Iterable):
        return list(images), False
    raise InputError(f"images: {type(images).__name__}: must be {ALLOWED}")
