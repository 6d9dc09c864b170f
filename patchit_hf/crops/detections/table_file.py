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
            if path.suffix == ".parquet":
                self._table = pyarrow.parquet.read_table(path)
            else:
                self._table = self._read_csv(known)
        except (pyarrow.ArrowException, UnicodeError, csv.Error, OSError) as error:
            raise InputError(f"{path}: cannot be read: {one_line(error)}") from error
        self.names: list[str] = list(self._table.column_names)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def find(self, names: Collection[str]) -> str | None:
        """Return the column with the first of these lower-case names; None if there is none."""
        lower = {name.lower(): name for name in reversed(self.names)}
        return next((lower[name] for name in names if name in lower), None)

    def values(self, name: str) -> list[Any]:
        """Return a column."""
        result: list[Any] = self._table[name].to_pylist()
        return result

    def words(self, name: str) -> list[str | None]:
        """Return a column as text; None where it is empty, NaN or blank. 7.0 is ``7``."""
        return [as_word(value) for value in self.values(name)]

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
                found[row] = float(text.replace(",", ".") if self._comma else text)
            except ValueError:
                bad[row] = text
        return found, bad

    def _read_csv(self, known: Collection[str]) -> Any:
        first, delimiter, names = read_header(self.path, known)
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


def _cells(line: str, delimiter: str) -> list[str]:
    row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
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
