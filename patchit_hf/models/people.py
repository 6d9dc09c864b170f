"""The people of images, one to a crop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from patchit_hf.common.errors import InputError
from patchit_hf.data.images import ImageInputs, Images
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.downstream.columns import column_values
from patchit_hf.downstream.joints import read_box
from patchit_hf.downstream.windows import Window

Boxes = Sequence[Any] | NDArray[Any] | Tensor


@dataclass(frozen=True)
class People:
    """Who is predicted.

    Attributes:
        images: one or many.
        boxes: x0, y0, x1, y1 in pixels of the images, ``[N, 4]``; None for whole images.
        whole: of which images the whole is taken although there are boxes, bool ``[N]``; or None.
        single: whether one result is wanted, and not a list of one.
    """

    images: Images
    boxes: NDArray[np.float64] | None
    single: bool
    whole: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.images) if self.boxes is None else len(self.boxes)

    def crop(
        self, index: int, task: DownstreamTask, canvas: tuple[int, int], fit: str
    ) -> tuple[NDArray[np.uint8], Window]:
        """Return a person on the canvas, uint8 ``[H, W, 3]``, and the window that it shows."""
        at = 0 if self.images.single else index
        if self.boxes is None or (self.whole is not None and self.whole[index]):
            if not task.cuts_windows:
                return self.images.canvas(at, canvas, fit), (0.0, 0.0, 1.0, 1.0)
            return task.cut(self.images.rgb(at), None, canvas, fit)
        image = self.images.rgb(at)
        x0, y0, x1, y1 = self.boxes[index].tolist()
        if not (x0 < x1 and y0 < y1):  # nor where one is not a number
            raise InputError(
                f"{self.images.name(at)}: box {[x0, y0, x1, y1]}: must be x0 < x1 and y0 < y1"
            )
        if x1 <= 0 or y1 <= 0 or x0 >= image.width or y0 >= image.height:
            raise InputError(
                f"{self.images.name(at)}: box {[x0, y0, x1, y1]}: lies outside of the image, which "
                f"has {image.width}x{image.height} pixels (width x height)"
            )
        return task.cut(image, (x0, y0, x1, y1), canvas, fit)


def open_people(
    task: DownstreamTask, images: ImageInputs, boxes: Boxes | None, image_column: str | None
) -> People:
    """Bring images and boxes together.

    Raises:
        InputError: if they are of the wrong kind, or not as many of the one as of the other.
    """
    column = getattr(task, "box_column", None)
    whole: NDArray[np.bool_] | None = None
    if boxes is None and column and isinstance(images, datasets.Dataset):
        if column in images.column_names:
            values = column_values(images, column)
            own = [read_box(value, row, column) for row, value in enumerate(values)]
            boxes = np.array([box or (0.0, 0.0, 0.0, 0.0) for box in own]).reshape(-1, 4)
            whole = np.array([box is None for box in own])
    found = Images(images, image_column)
    if boxes is None:
        return People(found, None, found.single)
    try:
        given = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"boxes: must be numbers [N, 4]: x0, y0, x1, y1 ({error})") from error
    if given.ndim == 2 and given.shape[1] == 4 and (found.single or len(given) == len(found)):
        return People(found, given, False, whole)
    if given.shape == (4,) and found.single:
        return People(found, given[None], True)
    if given.size == 0 and (found.single or not len(found)):
        return People(found, np.zeros((0, 4)), False)
    wanted = "[4] or [K, 4] for an image" if found.single else f"[{len(found)}, 4], one an image"
    raise InputError(f"boxes of shape {list(given.shape)}: must be {wanted}: x0, y0, x1, y1")
