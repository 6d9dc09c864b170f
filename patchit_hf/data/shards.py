"""How a local folder of shards is read: Parquet, Arrow, WebDataset, CSV and JSON.

``datasets`` takes the columns of the first shard for those of all, the fields of the first examples
for those of all, and the words "test", "train" or "val" in a file's name for all there is. Where
that would lose rows, this module says what to read instead.
"""

from __future__ import annotations

import glob
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet

from patchit_hf.common.walk import private, walk
from patchit_hf.data.split_names import IN_NAME, SPLIT_OF

KINDS = {
    ".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset", ".csv": "csv",
    ".tsv": "csv", ".jsonl": "json", ".json": "json",
}  # fmt: skip
IMAGES = {"jpg", "jpeg", "jpe", "png", "webp", "bmp", "tif", "tiff", "gif", "avif", "ppm"}
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json",
            "config.json"}  # fmt: skip
SHARDED = re.compile(r"(^|/)data/(?P<split>[-\w]+)-\d{5}-of-\d{5}")


@dataclass
class Plan:
    """How to read a folder of shards.

    Attributes:
        kind: the builder of ``datasets``; None lets it look at the folder itself.
        options: further arguments of ``load_dataset``.
        notes: what is left out, and why.
    """

    kind: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def plan(folder: Path, *, beside: bool = False) -> Plan:
    """Say how to read a folder of shards.

    Args:
        folder: the folder.
        beside: whether they are Parquet files beside the images that they name.
    """
    root, made = folder.resolve(), Plan()
    files: dict[str, list[str]] = {}
    for inside, entries in walk(root, skip=private):
        for entry in entries:
            ending = os.path.splitext(entry.name)[1].lower()
            if entry.name == "README.md" and _has_header(Path(entry.path)):
                return made  # which may define what is read
            if ending in KINDS and entry.name not in NOT_DATA and entry.name[0] not in "._":
                files.setdefault(ending, []).append(os.path.join(inside, entry.name))
    if not files:
        return made
    ending = ".parquet" if beside else max(files, key=lambda key: len(files[key]))
    kind, shards = KINDS[ending], sorted(files[ending])
    shards, empty = _with_rows(root, shards, kind)
    if empty:
        made.notes.append(f"{len(empty)} {ending} files have no rows (the first: {empty[0]})")
    splits, lost = _splits(shards)
    if lost:
        made.notes.append(
            f"{len(lost)} {ending} files are left out: they are in none of the splits that the "
            f"others name (the first: {lost[0]})"
        )
    features = _features(kind, [root / file for file in shards])
    if features is not None:
        made.options["features"] = features
    if splits or empty or beside or any(sign in str(root) for sign in "*[]?"):
        made.kind = kind
        every = splits or _as_named(shards)
        made.options["data_files"] = {
            split: [glob.escape(str(root / file)) for file in some] for split, some in every.items()
        }
    return made


def _with_rows(root: Path, files: list[str], kind: str) -> tuple[list[str], list[str]]:
    """Return the files with rows, and those without, which datasets refuses."""
    if kind != "parquet":
        return files, []
    try:
        counts = [pyarrow.parquet.read_metadata(root / file).num_rows for file in files]
    except (OSError, pyarrow.ArrowException):  # datasets says which file it is
        return files, []
    full = [file for file, count in zip(files, counts, strict=True) if count]
    return (full, [file for file in files if file not in full]) if full else (files, [])


def names_images(folder: Path) -> bool:
    """Say whether a Parquet file names images of its folder, as a table beside them does.

    Args:
        folder: the folder.
    """
    for inside, entries in walk(folder.resolve(), skip=private):
        tables = sorted(e.name for e in entries if e.name.lower().endswith(".parquet"))
        for name in tables[:1]:
            try:
                file = pyarrow.parquet.ParquetFile(folder / inside / name)
                rows = next(file.iter_batches(1), None)
            except (OSError, pyarrow.ArrowException):
                return False
            values = rows.to_pylist()[0].values() if rows is not None and len(rows) else ()
            return any(_is_there(value, folder) for value in values)
    return False


def _is_there(value: Any, folder: Path) -> bool:
    """Say whether a value is the path of an image in the folder, or a struct with one."""
    path = value.get("path") if isinstance(value, dict) else value
    if not isinstance(path, str) or path.rpartition(".")[2].lower() not in IMAGES:
        return False
    return (folder / path).is_file()


def _has_header(file: Path) -> bool:
    with file.open("rb") as text:
        return text.read(3) == b"---"


def _mark(file: str) -> str:
    """Return the split that a file's name says; "" for none."""
    sharded = SHARDED.search(file)
    if sharded:
        return SPLIT_OF.get(sharded["split"], sharded["split"])
    inside, name = os.path.split(file)
    for part in inside.split(os.sep):
        if part in SPLIT_OF:
            return SPLIT_OF[part]
    match = IN_NAME.search(inside) or IN_NAME.search(os.path.splitext(name)[0])
    return SPLIT_OF[match.group(2)] if match else ""


def _splits(files: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the files of each split where ``datasets`` would take too few, and the files left out.

    Files without the word of a split are for training, unless others say that they are.
    """
    marks = _as_named(files, "")
    plain = marks.get("", [])
    if not plain or len(marks) == 1:
        return {}, []
    if "train" in marks:
        return {}, plain
    return {"train": plain, **{split: some for split, some in marks.items() if split}}, []


def _as_named(files: list[str], other: str = "train") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(_mark(file) or other, []).append(file)
    return found


def _features(kind: str, files: list[Path]) -> Any:
    """Return the columns of all shards where those of the first are not all of them, else None."""
    if kind == "parquet":
        return _parquet_features(files)
    return _tar_features(files) if kind == "webdataset" else None


def _parquet_features(files: list[Path]) -> Any:
    try:
        schemas = [pyarrow.parquet.read_schema(file) for file in files]
    except (OSError, pyarrow.ArrowException):  # datasets says which file it is
        return None
    if all(set(schema.names) == set(schemas[0].names) for schema in schemas):
        return None
    found = datasets.Features()
    for schema in schemas:
        own = datasets.Features.from_arrow_schema(schema)
        found.update({name: feature for name, feature in own.items() if name not in found})
    return found


def _tar_features(files: list[Path]) -> Any:
    """Return the fields of all examples if their images are of several kinds, else None."""
    fields: dict[str, list[bytes]] = {}  # the first contents of each
    for name, content in _members(files, fields):
        fields.setdefault(name, []).append(content)
    images = [name for name in fields if name.rpartition(".")[2].lower() in IMAGES]
    if len(images) < 2:
        return None
    found = datasets.Features()
    for name, contents in fields.items():
        found[name] = datasets.Image() if name in images else _feature(name, contents)
    for name in ("__key__", "__url__"):
        found[name] = datasets.Value("string")
    return found


def _members(files: list[Path], known: dict[str, list[bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yield field name and content of the first members of each field, and only those."""
    for file in files:
        try:
            with tarfile.open(file, "r:*") as archive:
                for member in archive:
                    name = os.path.basename(member.name).partition(".")[2]
                    if not member.isfile() or not name or len(known.get(name, ())) >= 5:
                        continue
                    part = archive.extractfile(member)
                    image = name.rpartition(".")[2].lower() in IMAGES
                    yield name, b"" if image or part is None else part.read()
        except (OSError, tarfile.TarError):  # datasets says which file it is
            return


def _feature(name: str, contents: list[bytes]) -> Any:
    """Return the type of a field that is no image, as datasets decodes it."""
    try:
        from datasets.packaged_modules.webdataset.webdataset import WebDataset
    except ImportError:
        return datasets.Value("binary")
    decode = WebDataset.DECODERS.get(name.rpartition(".")[2].lower())
    try:
        values = [decode(content) if decode else content for content in contents]
        schema = pyarrow.Table.from_pylist([{name: value} for value in values]).schema
    except (ValueError, TypeError, pyarrow.ArrowException):
        return datasets.Value("binary")
    return datasets.Features.from_arrow_schema(schema)[name]
