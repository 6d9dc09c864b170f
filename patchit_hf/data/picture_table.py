"""Images that lie in Parquet files, whether or not these say so: bytes, or paths beside them."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow
import pyarrow.parquet

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.names import Matches, files_below, match_names
from patchit_hf.data.pictures import (
    BadPictureError,
    Picture,
    open_picture,
    read_picture,
    size_of,
)
from patchit_hf.data.reach import Reach

USUAL = (  # in this order
    "image", "img", "picture", "photo", "jpg", "png", "file_name", "filename", "image_path", "path"
)  # fmt: skip


class PictureTable:
    """The images in a Parquet file, or in those below a folder, one a row.

    Their column holds structs of ``bytes`` and ``path`` as ``datasets`` writes them, bytes, or
    paths of files relative to the Parquet file. An image is named by its path, or by file and row
    (``train.parquet#7``, counted from 1) where it has none of its own.

    Args:
        root: a file or a folder.

    Raises:
        InputError: if a file is damaged, or no column holds images.
    """

    def __init__(self, root: str | Path) -> None:
        path = Path(root).expanduser()
        self.root = path if path.is_dir() else path.parent
        self._tables = [path.name] if path.is_file() else files_below(path, (".parquet",))
        self._columns: dict[str, str] = {}
        self._group: tuple[str, int, list[Any]] | None = None
        named: dict[str, list[tuple[str, int]]] = {}  # where each name occurs: table, row from 0
        for table in self._tables:
            column = find_image_column(self.root / table)
            if column is None:
                raise InputError(
                    f"--images {str(root)!r}: no column of {table} holds images (bytes, structs of "
                    "bytes and path, or paths)"
                )
            self._columns[table] = column
            for row, name in enumerate(row_names(self.root / table, column)):
                named.setdefault(name, []).append((table, row))
        self._at: dict[str, tuple[str, int]] = {}
        for name, places in named.items():
            several = len({table for table, _ in places}) > 1
            for table, row in places:
                inside = PurePosixPath(table).parent if "#" in name else PurePosixPath(table)
                self._at.setdefault(str(inside / name) if several else name, (table, row))

    @cached_property
    def files(self) -> list[str]:
        """The names of all images, sorted."""
        return sorted(self._at)

    def match(self, names: list[str]) -> Matches:
        """Return the image of each name; see ``match_names``."""
        return match_names(names, self.files)

    def size(self, file: str, *, stored: bool) -> tuple[int, int] | None:
        """Return width and height of an image, as stored or as shown; None if it is damaged."""
        try:
            content = self._content(file)
        except BadPictureError:
            return None
        source = io.BytesIO(content) if isinstance(content, bytes) else content
        return None if source is None else size_of(source, stored=stored)

    def picture(self, file: str, max_pixels: int) -> Picture:
        """Decode an image; see ``open_picture``.

        Raises:
            BadPictureError: as ``open_picture``.
        """
        content = self._content(file)
        if isinstance(content, bytes):
            suffix = PurePosixPath(file).suffix.lower() if "#" not in file else ""
            return read_picture(io.BytesIO(content), suffix, max_pixels)
        if content is None:
            raise BadPictureError("the row holds no image")
        return open_picture(content, max_pixels)

    def close(self) -> None:
        """Forget the rows that were read last."""
        self._group = None

    def _content(self, file: str) -> bytes | Path | None:
        """Return the bytes of an image, or the path of its file.

        Raises:
            BadPictureError: for a path that leads out of the folder.
        """
        table, row = self._at[file]
        value = self._value(table, row)
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return value
        if value is None:
            return None
        path = (self.root / table).parent / str(value)
        problem = Reach(str(self.root)).problem(str(path))
        if problem is not None:
            raise BadPictureError(f"the row names {str(value)!r}, which {problem}")
        return path

    def _value(self, table: str, row: int) -> Any:
        """Return a value; the row group that it is in stays in memory."""
        if self._group is not None:
            name, start, values = self._group
            if name == table and start <= row < start + len(values):
                return values[row - start]
        with pyarrow.parquet.ParquetFile(self.root / table) as file:
            start = 0
            for number in range(file.num_row_groups):
                count = file.metadata.row_group(number).num_rows
                if row < start + count:
                    column = file.read_row_group(number, columns=[self._columns[table]])
                    values = column.column(0).to_pylist()
                    self._group = (table, start, values)
                    return values[row - start]
                start += count
        raise BadPictureError("no such row")


def find_image_column(file: Path) -> str | None:
    """Return the column of a Parquet file that holds images: the first of the usual names, if any.

    Raises:
        InputError: if the file is damaged.
    """
    kinds = image_columns(_schema(file))
    order = [*USUAL, *(name.lower() for name in kinds)]
    held = [name for name, kind in kinds.items() if kind != "path"]
    for names in (held, [name for name in kinds if name.lower() in USUAL]):
        if names:
            return min(names, key=lambda name: order.index(name.lower()))
    return None


def image_columns(schema: Any) -> dict[str, str]:
    """Return the columns that may hold images: ``struct``, ``bytes`` or ``path`` (text) by name."""
    kinds = {}
    for field in schema:
        kind = field.type
        if pyarrow.types.is_struct(kind):
            if {"bytes", "path"} & {kind.field(i).name for i in range(kind.num_fields)}:
                kinds[field.name] = "struct"
        elif pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
            kinds[field.name] = "bytes"
        elif pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
            kinds[field.name] = "path"
    return kinds


def row_names(file: Path, column: str) -> list[str]:
    """Return the name of the image in each row: its path if each row has another, else the row.

    Raises:
        InputError: if the file is damaged.
    """
    kind, inside = image_columns(_schema(file)).get(column, ""), f"{column}.path"
    if kind == "path":
        return [value or "" for value in _column(file, column)]
    paths: list[str | None] = []
    if kind == "struct" and _has_paths(_schema(file).field(column).type):
        paths = [value["path"] if value else None for value in _column(file, inside)]
    count = len(paths) or _read(file, lambda: pyarrow.parquet.read_metadata(file)).num_rows
    if paths and all(paths) and len(set(paths)) == len(paths):
        return [str(path) for path in paths]
    return [f"{file.name}#{row}" for row in range(1, count + 1)]


def _has_paths(kind: Any) -> bool:
    return "path" in {kind.field(i).name for i in range(kind.num_fields)}


def _column(file: Path, name: str) -> list[Any]:
    """Return a column, or one field of its structs."""
    with _read(file, lambda: pyarrow.parquet.ParquetFile(file)) as opened:
        table = _read(file, lambda: opened.read(columns=[name]))
    values: list[Any] = table.column(0).to_pylist()
    return values


def _schema(file: Path) -> Any:
    return _read(file, lambda: pyarrow.parquet.read_schema(file))


def _read(file: Path, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: cannot be read: {one_line(error)}") from error
