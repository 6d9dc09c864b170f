"""Data sets of every kind that people pass to the trainers in Python, as those of ``datasets``.

A map-style data set stays as it is; images that are in no data set (lists, arrays, torch data sets)
become one in memory, losslessly.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import torch
from torch.utils.data import IterableDataset, Subset

from patchit_hf.common.errors import InputError
from patchit_hf.data.images import Images

Data: TypeAlias = datasets.Dataset | datasets.IterableDataset
Given: TypeAlias = Any  # see DATA

DATA = (
    "a datasets.Dataset or IterableDataset, a DatasetDict, a folder or a Hub id, what load_crops "
    "returns, a list of images, or a torch data set that yields images, or tuples that begin with "
    "one"
)
IMAGE = "image"  # the column of a data set that is made here
KEYS = (IMAGE, "img", "pixel_values")  # of dictionaries that a torch data set yields
FEATURES = datasets.Features({IMAGE: datasets.Image()})


def named_splits(value: Given) -> dict[str, Data] | None:
    """Return the splits of a ``DatasetDict`` or of a dictionary of data sets; None for others."""
    if not isinstance(value, Mapping):
        return None
    kinds = datasets.Dataset | datasets.IterableDataset
    wrong = next((name for name, part in value.items() if not isinstance(part, kinds)), None)
    if wrong is not None or not value:
        what = f"holds a {type(value[wrong]).__name__} as {wrong!r}" if value else "is empty"
        raise InputError(f"data set: a {type(value).__name__} that {what}; must be {DATA}")
    return dict(value)


def is_named(value: Given) -> bool:
    """Whether a data set is given by a folder or a Hub id."""
    return isinstance(value, str | os.PathLike)


def as_dataset(value: Given, what: str) -> Data:
    """Return a data set of ``datasets`` that holds what was given.

    Args:
        value: a data set of ``datasets`` or torch, or images; see ``DATA``.
        what: what errors call it, such as ``train_dataset``.

    Raises:
        InputError: if it is nothing of that kind.

    Example:
        >>> from PIL import Image
        >>> rows = as_dataset([Image.new("RGB", (10, 20))] * 3, "train_dataset")
        >>> len(rows), rows[0]["image"].size
        (3, (10, 20))
    """
    if isinstance(value, datasets.Dataset):
        return value
    if isinstance(value, datasets.IterableDataset):
        return declared(value, what)
    if isinstance(value, Subset) and isinstance(value.dataset, datasets.Dataset):
        return value.dataset.select(value.indices)
    if isinstance(value, IterableDataset):
        return declared(
            datasets.IterableDataset.from_generator(_rows, gen_kwargs={"of": value}), what
        )
    single = isinstance(value, str | bytes | Mapping) or not (
        isinstance(value, Iterable | torch.utils.data.Dataset)
        or (hasattr(value, "__getitem__") and hasattr(value, "__len__"))
    )
    if single or hasattr(value, "getpixel"):
        raise InputError(f"{what}: a {type(value).__name__}; must be {DATA}")
    return _in_memory(value, what)


def declared(stream: datasets.IterableDataset, what: str) -> datasets.IterableDataset:
    """Return a stream that says which of its columns hold images.

    A stream from a generator, or one that was mapped, says nothing of its columns, and may yield
    PIL images, arrays or tensors.

    Raises:
        InputError: if it yields nothing, or no image.
    """
    if stream.features is not None:
        return stream
    stream = stream.with_format(None)
    first = next(iter(stream), None)
    if first is None:
        raise InputError(f"{what}: the stream holds no crops")
    column = _image_key(first)
    if column is None:
        raise InputError(
            f"{what}: the stream has no images (columns: {', '.join(map(str, first))}); name the "
            "column 'image', or declare its features"
        )
    return stream.map(
        _stored,
        fn_kwargs={"column": column, "what": what},
        remove_columns=[name for name in first if name != column],
        features=datasets.Features({column: datasets.Image()}),
    )


def _stored(example: dict[str, Any], column: str, what: str) -> dict[str, Any]:
    return {column: encoded(example[column], f"{what}: an example of the stream")}


def _rows(of: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for number, item in enumerate(of):
        yield {IMAGE: encoded(_image_of(item, f"item {number}"), f"item {number}")}


def _in_memory(items: Any, what: str) -> datasets.Dataset:
    """Return images as a data set in memory; each becomes PNG, or stays the file that it is."""
    if isinstance(items, torch.utils.data.Dataset) or not isinstance(items, Iterable):
        try:
            sized: Any = items
            items = [sized[number] for number in range(len(sized))]
        except TypeError as error:
            raise InputError(
                f"{what}: a {type(items).__name__} without length; must be {DATA}"
            ) from error
    values = []
    for number, item in enumerate(items):
        where = f"{what}, item {number}"
        values.append(encoded(_image_of(item, where), where))
    return datasets.Dataset.from_dict({IMAGE: values}, features=FEATURES)


def encoded(value: Any, where: str) -> dict[str, Any]:
    """Return an image as a data set stores it, ``bytes`` and ``path``; see ``Images.encoded``.

    Raises:
        InputError: if it is no image, or one that cannot be used.
    """
    try:
        return Images([value]).encoded(0)
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('image 0: ')}") from error


def _image_of(item: Any, where: str) -> Any:
    """Return the image of an item of a torch data set."""
    if isinstance(item, Mapping):
        key = _image_key(item)
        if key is None:
            names = ", ".join(map(str, item))
            raise InputError(f"{where}: a dictionary without an image (keys: {names})")
        return item[key]
    if isinstance(item, tuple | list):
        if not item:
            raise InputError(f"{where}: an empty {type(item).__name__}; must begin with an image")
        return item[0]
    return item


def _image_key(item: Mapping[str, Any]) -> Any:
    """Return the key of the image in a dictionary; None if there is none, or no telling."""
    for key in KEYS:
        if key in item:
            return key
    kinds = [key for key, value in item.items() if hasattr(value, "getpixel") or _is_file(value)]
    return kinds[0] if len(kinds) == 1 else None


def _is_file(value: Any) -> bool:
    if isinstance(value, Mapping):
        return {"bytes", "path"} <= set(value)
    return isinstance(value, Path | bytes)
