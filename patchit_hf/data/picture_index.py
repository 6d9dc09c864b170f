"""Index a folder of plain images in one pass.

``datasets`` lists such a folder once per file pattern and looks at every file, which takes most of
an hour for a million images; and of some folders it takes only a part (see ``picture_survey``).
This module makes an Arrow file of the paths in one pass, in the order of ``datasets``, with the
same splits and labels (except that the folder of a split is no label). A folder that is not plain
is left to ``datasets``: one with tables of metadata, archives, more shards than images, or splits
by words in names.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.compute

from patchit_hf.common.files import replacing_folder
from patchit_hf.common.resources import ResourceError
from patchit_hf.data import heif
from patchit_hf.data.cached import cache_path
from patchit_hf.data.picture_survey import CHUNK, Survey, folder_rules, survey
from patchit_hf.data.rows import open_arrow
from patchit_hf.data.split_names import IN_NAME, SEARCHED, SPLIT_OF, WORDS

logger = logging.getLogger(__name__)


def survey_pictures(folder: Path) -> Survey | None:
    """Look over a folder; None if the rules of this version of ``datasets`` are not known.

    Raises:
        OSError: for a folder that cannot be read.
    """
    try:
        return survey(folder, folder_rules())
    except (ImportError, AttributeError) as error:
        logger.warning(
            "datasets %s has to list the folder itself, which may take long: %s",
            datasets.__version__,
            error,
        )
        return None


def index_pictures(folder: Path, key: str, found: Survey | None = None) -> dict[str, Any] | None:
    """Return the splits of a folder of plain images; None if ``datasets`` has to read it.

    That is so if the folder is not plain, or if the rules of this version of ``datasets`` are not
    known.

    Args:
        folder: the folder.
        key: string that identifies the state of the folder.
        found: what ``survey_pictures`` says of it, if that is known.
    """
    root = folder.resolve()
    found = found or survey_pictures(folder)
    if found is None or not found.plain or (found.deep and not found.misread and not found.ours):
        return None
    key += " heif" if found.heif and heif.readable() else ""
    order = [*WORDS, *SEARCHED]
    names = {
        name: pyarrow.chunked_array(found.paths[name]).combine_chunks()
        for name in sorted(found.paths, key=order.index)
    }
    where: set[str] = set()  # the directories that hold images
    for paths in names.values():
        parents = pyarrow.compute.replace_substring_regex(paths, "/[^/]*$", "")
        where |= set(parents.unique().to_pylist())
    labels, depths = {os.path.basename(d) for d in where}, {d.count("/") for d in where}
    columns: dict[str, Any] = {"image": datasets.Image()}
    classes = not all(_is_split(Path(d), root) for d in where)  # a split's name is not a class
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


def _is_split(folder: Path, root: Path) -> bool:
    """Say whether a folder below ``root`` bears the name of a split."""
    if folder == root:
        return False
    name = folder.name
    return name in SPLIT_OF or name in SEARCHED or IN_NAME.search(name) is not None


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


def write_rows(paths: Any, features: Any, split: str, key: str) -> Any:
    """Return rows of images without values in any other column, from a cached Arrow file.

    Args:
        paths: absolute paths, an Arrow array of text.
        features: of the rows; ``image`` is the column of images.
        split: name of the split.
        key: string that identifies the state of the folder.
    """
    target = cache_path("pictures-{}", f"{key} unnamed {split} {features}")
    schema = features.arrow_schema
    with replacing_folder(target, shared=True) as draft:
        with pyarrow.ipc.new_stream(str(draft / f"{split}.arrow"), schema) as out:
            for start in range(0, len(paths), CHUNK):
                some = paths.slice(start, CHUNK)
                nothing = pyarrow.nulls(len(some), pyarrow.binary())
                images = pyarrow.StructArray.from_arrays([nothing, some], ["bytes", "path"])
                columns = [
                    images if item.name == "image" else pyarrow.nulls(len(some), item.type)
                    for item in schema
                ]
                out.write_batch(pyarrow.RecordBatch.from_arrays(columns, schema=schema))
        datasets.DatasetInfo(features=features).write_to_directory(str(draft))
    return _open(target, split, f"{key} unnamed")
