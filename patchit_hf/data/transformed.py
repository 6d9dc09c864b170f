"""Images as the transform of a data set makes them (``with_transform``, ``set_transform``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.data.canvas import decode_rgb, naming
from patchit_hf.data.image_values import image_value
from patchit_hf.data.rows import ImageRows


def transform_of(dataset: Any) -> Callable[..., Any] | None:
    """Return the transform of a data set, None for none.

    Example:
        >>> rows = datasets.Dataset.from_dict({"a": [1]})
        >>> transform_of(rows) is None, transform_of(rows.with_transform(dict)) is dict
        (True, True)
    """
    if not isinstance(dataset, datasets.Dataset) or dataset.format["type"] != "custom":
        return None
    transform: Callable[..., Any] = dataset.format["format_kwargs"]["transform"]
    return transform


def transform_name(dataset: Any) -> str | None:
    """Return what a record calls the transform of a data set, None for none."""
    transform = transform_of(dataset)
    if transform is None:
        return None
    return str(getattr(transform, "__qualname__", type(transform).__name__))


class TransformedRows(ImageRows):
    """The images of a data set, each transformed whenever it is read.

    Args:
        dataset: a ``datasets.Dataset`` with a transform.
        column: its image column; the transform may return its image as ``pixel_values`` instead.
    """

    def __init__(self, dataset: datasets.Dataset, column: str) -> None:
        self.transformed = dataset
        super().__init__(dataset, column)

    def __getitem__(self, row: int) -> Any:
        """Return the transformed image of a row: a PIL image, or a file.

        Raises:
            BadImageError: for an image that cannot be decoded.
            InputError: if the transform fails, or returns no image.
        """
        where = f"row {self.original(row)}"
        try:
            values = self.transformed[row]
        except Exception as error:  # of the image, or of the user's function
            raw = super().__getitem__(row)
            with naming(where, raw):
                decode_rgb(raw)
            raise InputError(
                f"{where}: the data set's transform fails: {type(error).__name__}: "
                f"{one_line(error)}"
            ) from error
        for name in (self.column, "pixel_values"):
            if name in values:
                return image_value(values[name], f"{where}: the data set's transform returns")
        raise InputError(
            f"{where}: the data set's transform returns no {self.column!r} (columns: "
            f"{', '.join(values)})"
        )


def image_rows(dataset: datasets.Dataset, column: str) -> ImageRows:
    """Return the images of a data set, through its transform if it has one."""
    if transform_of(dataset) is None:
        return ImageRows(dataset, column)
    return TransformedRows(dataset, column)
