"""Tables of results, as parquet, CSV, JSON or NumPy: one writer for every command."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchit_hf.common.files import replacing, write_text


def write_columns(path: Path, columns: Mapping[str, Sequence[Any]]) -> list[Path]:
    """Write columns of equal length, whole or not at all.

    Args:
        path: ends in ``.parquet``, or ``.csv``, where a list becomes a column for each entry.
        columns: each column's values by its name, also as arrays of pyarrow; lists that are None
            everywhere are left out.

    Returns:
        The files.

    Example:
        >>> import tempfile
        >>> (file,) = write_columns(
        ...     Path(tempfile.mkdtemp(), "found.csv"), {"file": ["a.jpg"], "v": [[1.0, 2.0]]})
        >>> print(file.read_text())
        file,v_0,v_1
        a.jpg,1.0,2.0
        <BLANKLINE>
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        name: values
        for name, values in columns.items()
        if not isinstance(values, list) or any(value is not None for value in values)
    }
    if path.suffix.lower() == ".csv":
        write_text(path, _as_csv(kept))
        return [path]
    import pyarrow.parquet

    with replacing(path) as draft:
        pyarrow.parquet.write_table(pyarrow.table(dict(kept)), draft)
    return [path]


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write records as a JSON list, one to a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    write_text(path, f"[\n{lines}\n]\n")
    return [path]


def write_vectors(
    path: Path, vectors: NDArray[np.float32], columns: Mapping[str, Sequence[Any]]
) -> list[Path]:
    """Write vectors beside the names of what they belong to.

    Args:
        path: ends in ``.parquet``, ``.csv`` or ``.npy``; the latter holds the vectors alone, and
            a ``.rows.csv`` beside it the names, line by line. In ``.csv`` the vectors are ``e0``,
            ``e1``, ...; in ``.parquet`` lists of float32 in a column ``embedding``.
        vectors: float32 ``[N, C]``.
        columns: names and the like, ``N`` of each; see ``write_columns``.

    Returns:
        The files.
    """
    ending = path.suffix.lower()
    if ending == ".csv":
        each = {
            f"e{place}": [str(x) for x in vectors[:, place]] for place in range(vectors.shape[1])
        }
        return write_columns(path, {**columns, **each})
    if ending == ".parquet":
        import pyarrow

        flat = pyarrow.array(vectors.reshape(-1), pyarrow.float32())
        column = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        return write_columns(path, {**columns, "embedding": column})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft, draft.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)
    return [path, *write_columns(path.with_suffix(".rows.csv"), columns)]


def _as_csv(columns: Mapping[str, Sequence[Any]]) -> str:
    flat: dict[str, Sequence[Any]] = {}
    for name, given in columns.items():
        values = given.to_pylist() if hasattr(given, "to_pylist") else given
        first = next((value for value in values if value is not None), None)
        if isinstance(first, list | tuple | np.ndarray):
            for place in range(len(first)):
                flat[f"{name}_{place}"] = [_plain(value[place]) for value in values]
        else:
            flat[name] = values
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(flat)
    writer.writerows(zip(*flat.values(), strict=True))
    return text.getvalue()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
