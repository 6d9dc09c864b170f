"""Open CSV as spreadsheets and scripts write it, and Parquet, as columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.text import encoding_of, read_lines, text_start
from patchit_hf.data.picture_table import image_columns, row_names

DELIMITERS = (",", ";", "\t", "|")


class TableFile:
    """The columns of a CSV or Parquet file.

    Columns are separated by a comma, semicolon, tab or bar. Spaces around values do not count; with
    semicolons, numbers may have a decimal comma.

    Args:
        path: the file; Parquet if it ends so.
        known: lower-case names of columns, to tell what separates them.

    Attributes:
        names: names of the columns.
        longer: number of values of those rows that have more than the header, by row from 0.

    Raises:
        InputError: if it cannot be read.
    """

    def __init__(self, path: Path, known: Collection[str] = ()) -> None:
        self.path = path
        self._comma = False  # whether a comma may stand for a decimal point
        self.longer: dict[int, int] = {}
        try:
            self._pictures: set[str] = set()  # columns of bytes, which are not read
            if path.suffix == ".parquet":
                self._table = self._read_parquet()
            else:
                self._table = self._read_csv(known)
        except (pyarrow.ArrowException, UnicodeError, csv.Error, OSError) as error:
            raise InputError(f"{path}: cannot be read: {one_line(error)}") from error
        self.names: list[str] = [*self._table.column_names, *sorted(self._pictures)]

    def __len__(self) -> int:
        return self._rows

    def find(self, names: Collection[str]) -> str | None:
        """Return the column with the first of these lower-case names; None if there is none.

        A field of a struct may be named alone: ``bbox`` for ``objects.bbox``.
        """
        lower = {name.lower().rpartition(".")[2]: name for name in reversed(self.names)}
        lower |= {name.lower(): name for name in reversed(self.names)}
        return next((lower[name] for name in names if name in lower), None)

    def values(self, name: str) -> list[Any]:
        """Return a column."""
        result: list[Any] = self._table[name].to_pylist()
        return result

    def words(self, name: str) -> list[Any]:
        """Return a column as text, or lists of text; None where it is empty, NaN or blank.

        Numbers of a class become its name where ``datasets`` wrote the names beside them, and
        images the names that ``PictureTable`` gives them.
        """
        if name in self._pictures:
            return list(row_names(self.path, name))
        known = self._classes(name)
        return [
            [_named(v, known) for v in value] if isinstance(value, list) else _named(value, known)
            for value in self.values(name)
        ]

    def number(self, text: str) -> float:
        """Return a number written as the table writes them.

        Raises:
            ValueError: if it is none.
        """
        return float(text.replace(",", ".") if self._comma else text)

    def numbers(self, name: str) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Return a column as numbers, NaN where it holds none, and what it holds there, by row."""
        column = self._table[name]
        try:
            floats = pyarrow.compute.cast(column, pyarrow.float64())
            if not floats.null_count:
                return np.asarray(floats.to_numpy(), dtype=np.float64), {}
        except pyarrow.ArrowException:
            pass
        found, bad = np.full(len(column), math.nan), {}
        for row, value in enumerate(column.to_pylist()):
            text = str(value).strip().strip("\"'") if value is not None else ""
            try:
                found[row] = self.number(text)
            except ValueError:
                bad[row] = text
        return found, bad

    def _classes(self, name: str) -> list[str]:
        """Return the names of a column's classes as ``datasets`` wrote them; empty without."""
        if self.path.suffix != ".parquet":
            return []
        schema = pyarrow.parquet.read_schema(self.path)
        if b"huggingface" not in (schema.metadata or {}):
            return []
        from datasets import ClassLabel, Features

        feature: Any = Features.from_arrow_schema(schema)
        for part in (*name.split("."), ""):
            while not isinstance(feature, dict) and hasattr(feature, "feature"):
                feature = feature.feature
            feature = feature[0] if isinstance(feature, list) else feature
            feature = feature.get(part) if part and isinstance(feature, dict) else feature
        return list(feature.names) if isinstance(feature, ClassLabel) else []

    def _read_parquet(self) -> Any:
        """Read all columns but those with the bytes of images; fields of structs are columns."""
        schema = pyarrow.parquet.read_schema(self.path)
        kinds = image_columns(schema)
        self._pictures = {name for name, kind in kinds.items() if kind != "path"}
        others = [name for name in schema.names if name not in self._pictures]
        table = pyarrow.parquet.read_table(self.path, columns=others)
        self._rows = int(pyarrow.parquet.read_metadata(self.path).num_rows)
        return table.flatten()

    def _read_csv(self, known: Collection[str]) -> Any:
        first, delimiter, names = read_header(self.path, known)
        if not names:
            raise InputError(f"{self.path}: the first line is empty; it must name the columns")
        self._comma = delimiter != ","
        with self.path.open("rb") as file:
            encoding = encoding_of(file.read(4)).replace("-sig", "")
        try:
            table = pyarrow.csv.read_csv(
                self.path,
                read_options=pyarrow.csv.ReadOptions(
                    column_names=names, skip_rows=first + 1, encoding=encoding
                ),
                parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pyarrow.string()), strings_can_be_null=True
                ),
            )
        except pyarrow.ArrowInvalid:  # lines of other lengths, or quotes after a space
            table, self.longer = _line_by_line(self.path, first, delimiter, names)
        trimmed = [pyarrow.compute.utf8_trim_whitespace(table[name]) for name in names]
        self._rows = int(table.num_rows)
        return pyarrow.table(dict(zip(names, trimmed, strict=True)))


def read_header(path: Path, known: Collection[str] = ()) -> tuple[int, str, list[str]]:
    """Return the number of lines before the header, what separates columns, and their names."""
    if path.suffix == ".parquet":
        return 0, ",", list(pyarrow.parquet.read_schema(path).names)
    lines = text_start(path).split("\n")
    first, delimiters = 0, list(DELIMITERS)
    if lines[0].lower().startswith("sep=") and len(lines) > 1:  # Excel says so
        first, delimiters = 1, [lines[0][4:5] or ","]
    options = {mark: _cells(lines[first], mark) for mark in delimiters}
    best = max(options, key=lambda mark: (_familiar(options[mark], known), len(options[mark])))
    return first, best, _distinct(options[best])


def as_word(value: object) -> str | None:
    """Return a value as text; None for what stands for nothing: None, NaN, blank.

    Example:
        >>> as_word(7.0), as_word(" a "), as_word(float("nan"))
        ('7', 'a', None)
    """
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else value
    text = "" if value is None else str(value).strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return text or None


def _named(value: object, classes: list[str]) -> str | None:
    word = as_word(value)
    if classes and word is not None and word.isdecimal() and int(word) < len(classes):
        return classes[int(word)]
    return word


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # Python 3.10 reads no NUL, which no table has
        return []
    return [cell.strip() for cell in row]


def _familiar(cells: list[str], known: Collection[str]) -> int:
    return sum(cell.lower() in known for cell in cells)


def _distinct(names: list[str]) -> list[str]:
    """Return names without repetitions and without blanks."""
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        seen[name if name and name not in seen else f"{name or 'column'} {i + 1}"] = i
    return list(seen)


def _line_by_line(
    path: Path, first: int, delimiter: str, names: list[str]
) -> tuple[Any, dict[int, int]]:
    """Read lines that may be too short or too long; also return how long the latter are."""
    columns: list[list[str | None]] = [[] for _ in names]
    longer: dict[int, int] = {}
    lines = read_lines(path)[first + 1 :]
    for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True):
        if not row:
            continue
        if any(cell.strip() for cell in row[len(names) :]):
            longer[len(columns[0])] = len(row)
        cells: list[str | None] = [*row, *[None] * len(names)]
        for cell, column in zip(cells, columns, strict=False):
            column.append(cell or None)
    arrays = [pyarrow.array(column, pyarrow.string()) for column in columns]
    return pyarrow.table(dict(zip(names, arrays, strict=True))), longer
