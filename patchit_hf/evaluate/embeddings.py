"""Embeddings of every crop of a data set, written as a table."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow
from numpy.typing import NDArray

from patchit_hf.common.errors import InputError
from patchit_hf.common.tables import write_vectors
from patchit_hf.data.columns import find_image_column
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.data.rows import ImageRows
from patchit_hf.evaluate.features import features, reestimated
from patchit_hf.finetune.labelled import open_crops_of
from patchit_hf.models.embed import Extractor

SOURCES = ("file_name", "file", "filename", "image_path", "path", "source", "__key__")
OWN = ("file", "split", "row", "embedding")  # the columns that are ours


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of crops, with where each comes from.

    Attributes:
        table: a row for each crop: ``file`` (the name of its file or source, or null), ``split``,
            ``row`` of the split, and the data set's own columns without images.
        vectors: float32 ``[N, C]``.
    """

    table: pyarrow.Table
    vectors: NDArray[np.float32]

    def write(self, file: Path) -> list[Path]:
        """Write them as the file's ending says; see ``write_vectors``.

        Args:
            file: its folder is made if missing.

        Returns:
            What was written.
        """
        columns = dict(zip(self.table.column_names, self.table.columns, strict=True))
        return write_vectors(file, self.vectors, columns)


def embed_splits(
    extractor: Extractor,
    splits: dict[str, datasets.Dataset],
    decode: DecodeArguments,
    *,
    name: str,
    folder: Path | None = None,
    reestimate: bool = True,
) -> Embeddings:
    """Return the embeddings of all crops of some splits.

    Args:
        extractor: the frozen backbone.
        splits: by name; empty ones are passed over.
        decode: how crops are decoded.
        name: name of the data in errors.
        folder: the data set's folder, which file names are relative to, if it has one.
        reestimate: whether batch statistics are estimated on the crops first.

    Raises:
        InputError: for damaged images, or no crops at all.
    """
    images = {
        split: find_image_column(rows, decode.image_column, name)
        for split, rows in splits.items()
        if len(rows)
    }
    if not images:
        raise InputError(f"{name}: is empty")
    column = next(iter(images.values()))
    parts = [_images(splits[split], image, column) for split, image in images.items()]
    whole = parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)
    data = open_crops_of(whole, extractor.geometry.canvas, decode, name)
    vectors = features(reestimated(extractor, data) if reestimate else extractor, data).numpy()
    tables = [_described(splits[split], split, image, folder) for split, image in images.items()]
    table = _joined(tables)
    return Embeddings(table.take(pyarrow.array(data.split_rows.numpy())), vectors)


def _images(rows: datasets.Dataset, image: str, column: str) -> datasets.Dataset:
    """Return the images of a split alone, in a column of another name."""
    bare = rows.select_columns([image])
    bare = bare if image == column else bare.rename_column(image, column)
    return bare.cast_column(column, datasets.Image())


def _described(
    rows: datasets.Dataset, split: str, image: str, folder: Path | None
) -> pyarrow.Table:
    """Return where each row of a split is from, and its other columns without images."""
    kept = [
        name
        for name, feature in rows.features.items()
        if name not in (image, *OWN) and not isinstance(feature, datasets.Image)
    ]
    own = rows.select_columns(kept).with_format("arrow")[:] if kept else pyarrow.table({})
    about = {
        "file": pyarrow.array(_files(rows, image, folder), pyarrow.string()),
        "split": pyarrow.array([split] * len(rows), pyarrow.string()),
        "row": pyarrow.array(np.arange(len(rows))),
    }
    return pyarrow.table({**about, **dict(zip(kept, own.columns, strict=True))})


def _files(rows: datasets.Dataset, image: str, folder: Path | None) -> list[str | None]:
    """Return the name of each row's file, else what the row says of its source."""
    source = next((name for name in SOURCES if _is_text(rows, name)), None)
    said = [None] * len(rows) if source is None else rows[source][:]
    paths = ImageRows(rows, image)
    found: list[str | None] = []
    for row, other in enumerate(said):
        path = paths.path(row)
        if path and folder is not None and Path(path).is_relative_to(folder):
            path = os.path.relpath(path, folder)
        found.append(path or other)
    return found


def _is_text(rows: datasets.Dataset, name: str) -> bool:
    feature = rows.features.get(name)
    return isinstance(feature, datasets.Value) and "string" in feature.dtype


def _joined(tables: list[pyarrow.Table]) -> pyarrow.Table:
    """Join tables; a column that some lack is null there, and one of several types is text."""
    types: dict[str, set[str]] = {}
    for table in tables:
        for item in table.schema:
            types.setdefault(item.name, set()).add(str(item.type))
    mixed = {name for name, kinds in types.items() if len(kinds - {"null"}) > 1}
    if mixed:
        tables = [_as_text(table, mixed) for table in tables]
    return pyarrow.concat_tables(tables, promote_options="default").combine_chunks()


def _as_text(table: pyarrow.Table, names: set[str]) -> pyarrow.Table:
    for index, name in enumerate(table.column_names):
        if name in names:
            words = [None if v is None else str(v) for v in table.column(name).to_pylist()]
            table = table.set_column(index, name, pyarrow.array(words, pyarrow.string()))
    return table
