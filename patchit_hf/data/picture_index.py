"""Index a large folder of plain images in one pass.

``datasets`` lists such a folder once per file pattern and looks at every file, which takes most of
an hour for a million images. This module makes the same result in one pass: an Arrow file of paths
in the same order, with the same splits and labels (except that the folder of a split is no label).
Files that ``datasets`` would ignore are ignored. A folder that is not plain is left to
``datasets``: one with tables of metadata, archives, splits by words in file names, or more other
data files than images.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.compute

from patchit_hf.common.files import replacing_folder
from patchit_hf.common.resources import ResourceError
from patchit_hf.data.cached import cache_path
from patchit_hf.data.rows import open_arrow

logger = logging.getLogger(__name__)

WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
_WORD = re.compile(rf"(^|[-._ 0-9/])({'|'.join(SPLIT_OF)})([-._ 0-9/]|$)")
CHUNK = 10_000


@dataclass(frozen=True)
class FolderRules:
    """The rules by which ``datasets`` reads a folder.

    Attributes:
        images: file extensions of images.
        read: file extensions of all kinds of data; the most frequent one decides what is read.
        metadata: file names of tables of metadata.
        ignored: file names that it ignores.
    """

    images: frozenset[str]
    read: frozenset[str]
    metadata: frozenset[str]
    ignored: frozenset[str]


def folder_rules() -> FolderRules:
    """Return the rules of the installed version of ``datasets``, where they are private.

    Raises:
        ImportError: if that version has other names for them.
        AttributeError: likewise.
    """
    from datasets.data_files import FILES_TO_IGNORE
    from datasets.packaged_modules import _ALL_ALLOWED_EXTENSIONS, _ALL_METADATA_FILENAMES
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    return FolderRules(
        frozenset(ImageFolder.EXTENSIONS),
        frozenset(_ALL_ALLOWED_EXTENSIONS),
        frozenset(_ALL_METADATA_FILENAMES),
        frozenset(FILES_TO_IGNORE),
    )


def index_pictures(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the splits of a folder of plain images; None if ``datasets`` has to read it.

    That is so if the folder is not plain, or if the rules of this version of ``datasets`` are not
    known.

    Args:
        folder: the folder.
        key: string that identifies the state of the folder.
    """
    root = folder.resolve()
    try:
        rules = folder_rules()
    except (ImportError, AttributeError) as error:
        logger.warning(
            "datasets %s has to list the folder itself, which may take long: %s",
            datasets.__version__,
            error,
        )
        return None
    found = _paths(root, rules)
    if found is None:
        return None
    names = {str(name): pyarrow.chunked_array(parts).combine_chunks() for name, parts in found}
    where: set[str] = set()  # the directories that hold images
    for paths in names.values():
        parents = pyarrow.compute.replace_substring_regex(paths, "/[^/]*$", "")
        where |= set(parents.unique().to_pylist())
    labels, depths = {os.path.basename(d) for d in where}, {d.count("/") for d in where}
    columns: dict[str, Any] = {"image": datasets.Image()}
    classes = not where <= {
        str(root / name) for name in SPLIT_OF
    }  # the name of a split is not a class
    if classes and len(labels) > 1 and len(depths) == 1:
        columns["label"] = datasets.ClassLabel(names=sorted(labels))
    features = datasets.Features(columns)
    target = cache_path("pictures-{}", key)
    if _is_damaged(target, {name: len(paths) for name, paths in names.items()}):
        logger.warning("the index %s is damaged and made anew", target)
        shutil.rmtree(target, ignore_errors=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(target, shared=True) as draft:
            for name, paths in names.items():
                _write(draft / f"{name}.arrow", paths, features)
            datasets.DatasetInfo(features=features).write_to_directory(str(draft))
    except (OSError, ResourceError):
        if not target.exists():  # unless another process has made the same folder
            raise
    return {name: _open(target, name, key) for name in names}


def _is_damaged(target: Path, counts: dict[str, int]) -> bool:
    """Whether an index that is there lacks rows, or cannot be opened."""
    if not target.exists():
        return False
    try:
        return any(
            len(open_arrow(str(target / f"{name}.arrow"))) != count
            for name, count in counts.items()
        )
    except (OSError, ValueError, pyarrow.ArrowException):
        return True


def _paths(root: Path, rules: FolderRules) -> Iterator[tuple[str, Any]] | None:
    """Return the splits with their absolute paths; None if the folder is not plain."""
    parts: dict[str, list[Any]] = {}
    found: dict[str, Counter[str]] = {}  # by split, the number of files with each extension
    named = False  # whether names of other files hold the name of a split
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        top, _, rest = inside.partition("/")
        split = SPLIT_OF.get(top, "")
        if _WORD.search(rest if split else inside):
            return None
        endings = found.setdefault(split, Counter())
        with os.scandir(root / inside) as entries:
            while chunk := list(islice(entries, CHUNK)):
                names = []
                for entry in chunk:
                    where = f"{inside}/{entry.name}" if inside else entry.name
                    if entry.name.startswith((".", "__")):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(where)
                    elif (ending := os.path.splitext(entry.name)[1].lower()) in rules.images:
                        if _WORD.search(os.path.splitext(entry.name)[0]):
                            return None
                        endings[ending] += 1
                        names.append(f"{root}/{where}")
                    elif _is_read(root / where, rules):
                        return None
                    elif entry.name not in rules.ignored:
                        endings[ending] += ending in rules.read
                        named |= _WORD.search(os.path.splitext(entry.name)[0]) is not None
                if names:
                    array = pyarrow.array(names, pyarrow.large_string())
                    parts.setdefault(split, []).append(array)
    # Folders of splits take precedence over words in names. Images inside and outside of such
    # folders: not plain.
    if "" in parts and (named or len(parts) > 1):
        return None
    if any(found[split].most_common(1)[0][0] not in rules.images for split in parts):
        return None
    order = [name for name in ("", *WORDS) if name in parts]
    return iter([(name or "train", parts[name]) for name in order]) if order else None


def _is_read(file: Path, rules: FolderRules) -> bool:
    """Say whether this one file, which is not an image, changes how ``datasets`` reads a folder."""
    if file.name == "README.md":
        with file.open("rb") as text:
            return text.read(3) == b"---"  # a YAML header, which may define the data
    return (
        file.name in rules.metadata
        or file.name in ("task.toml", "instruction.md")
        or file.suffix.lower() in (".zip", ".eval")
    )


def _write(file: Path, paths: Any, features: Any) -> None:
    paths = paths.take(pyarrow.compute.sort_indices(paths)).cast(pyarrow.string())
    schema = features.arrow_schema
    names = features["label"].names if "label" in features else []
    numbers = {name: number for number, name in enumerate(names)}
    with pyarrow.ipc.new_stream(str(file), schema) as out:
        for start in range(0, len(paths), CHUNK):
            some = paths.slice(start, CHUNK)
            nothing = pyarrow.nulls(len(some), pyarrow.binary())
            columns = [pyarrow.StructArray.from_arrays([nothing, some], ["bytes", "path"])]
            if names:
                words = (os.path.basename(os.path.dirname(path)) for path in some.to_pylist())
                columns.append(pyarrow.array([numbers[w] for w in words], pyarrow.int64()))
            out.write_batch(pyarrow.RecordBatch.from_arrays(columns, schema=schema))


def _open(folder: Path, split: str, key: str) -> Any:
    whole = open_arrow(str(folder / f"{split}.arrow"))
    word = hashlib.blake2b(f"{key} {split}".encode(), digest_size=8).hexdigest()
    return datasets.Dataset(
        whole.data, info=whole.info, split=datasets.Split(split), fingerprint=word
    )
