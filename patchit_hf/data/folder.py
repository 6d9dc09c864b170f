"""Open a local folder of images, tables or shards, whatever its files are called."""

from __future__ import annotations

import errno
import glob
import json
import os
import warnings
from pathlib import Path
from typing import Any

import datasets
import pyarrow
from yaml import YAMLError

from patchit_hf.common.errors import InputError, did_you_mean_file, one_line, reading
from patchit_hf.common.resources import SPACE, ResourceError, lack, number_of
from patchit_hf.data import opened, shards
from patchit_hf.data.picture_index import index_pictures, survey_pictures, write_rows
from patchit_hf.data.picture_survey import Survey
from patchit_hf.data.reach import Reach, check_links


def open_folder(path: Path, name: str, streaming: bool, reach: Reach) -> dict[str, Any]:
    """Return the splits of a folder, and say what is left out of it.

    Args:
        path: the folder.
        name: what the user called it.
        streaming: whether to read it as a stream.
        reach: where its images may be read.

    Raises:
        InputError: if it is empty or cannot be read, or names files elsewhere.
    """
    known = None if streaming else opened.recall(path, reach)
    if known is not None:
        return known
    check_links(path, f"--dataset {name!r}")
    reach.check_card()
    try:
        if not opened.holds_files(path):
            raise InputError(f"--dataset {name!r}: the folder is empty")
        seen = opened.look(path)
        found = survey_pictures(path)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise InputError(
            f"--dataset {name!r}: cannot be read{where}: {error.strerror or one_line(error)}"
        ) from error
    try:
        splits = reach.check_splits(_splits(path, name, streaming, seen, found))
    except InputError:
        if found is not None and found.notes and not found.count:  # that is why
            raise InputError(f"--dataset {name!r}: {'; '.join(found.notes)}") from None
        raise
    opened.tell(path, found.notes if found else [])
    return (
        splits
        if streaming
        else opened.remember(path, seen, splits, found, inside=not reach.allow_urls)
    )


def _splits(
    path: Path, name: str, streaming: bool, seen: dict[str, Any], found: Survey | None
) -> dict[str, Any]:
    key = json.dumps([str(path.resolve()), seen])
    if found is None:
        return load(str(path), name, streaming)
    beside = found.plain and found.shards > 0 and shards.names_images(path)
    if found.plain and not beside:
        large = seen["count"] > opened.FILES and not streaming
        splits = None
        if large or found.misread or found.ours:
            splits = index_pictures(path, key, found)
        if splits is None:
            return load(str(path), name, streaming)
        return _streamed(splits) if streaming else splits
    if found.tables and found.count:
        named = _with_tables(path, name, found)
        splits = _with_unnamed(named, found, key)
        if not streaming:
            return splits
        if found.misread or splits is not named:
            return _streamed(splits)
    plan = shards.plan(path, beside=beside)
    found.notes = [*plan.notes, *([] if beside else found.notes)]
    return load(plan.kind or str(path), name, streaming, **plan.options)


def _streamed(splits: dict[str, Any]) -> dict[str, Any]:
    return {key: split.to_iterable_dataset(num_shards=4) for key, split in splits.items()}


def _with_tables(path: Path, name: str, found: Survey) -> dict[str, Any]:
    """Return the splits of a folder of images with ``metadata.csv`` or the like."""
    if not found.misread:
        return load(str(path), name, False)
    root = path.resolve()
    if len(found.paths) == 1:
        return load("imagefolder", name, False, data_files={next(iter(found.paths)): _all(root)})
    files: dict[str, list[str]] = {}
    for split, parts in found.paths.items():
        inside = {os.path.relpath(p, root).split(os.sep)[0] for a in parts for p in a.to_pylist()}
        files[split] = [pattern for top in sorted(inside) for pattern in _all(root / top)]
    return load("imagefolder", name, False, data_files=files)


def _all(folder: Path) -> list[str]:
    return [f"{glob.escape(str(folder))}/**"]


def _with_unnamed(splits: dict[str, Any], found: Survey, key: str) -> dict[str, Any]:
    """Add the images that no table names, without labels; the same splits if there are none."""
    made = {}
    for split, rows in splits.items():
        images = [k for k, f in rows.features.items() if isinstance(f, datasets.Image)]
        if images != ["image"] or split not in found.paths:
            continue
        bare = rows.select_columns(images).cast_column("image", datasets.Image(decode=False))
        named = {os.path.realpath(v["path"]) for v in bare["image"] if v and v["path"]}
        paths = sorted(p for part in found.paths[split] for p in part.to_pylist())
        rest = [p for p in paths if os.path.realpath(p) not in named]
        if not rest:
            continue
        more = write_rows(pyarrow.array(rest, pyarrow.string()), rows.features, split, key)
        made[split] = datasets.concatenate_datasets([rows, more], info=rows.info, split=rows.split)
        found.notes.append(
            f"{len(rest)} of {len(paths)} images are not named in its metadata; they are taken "
            "without labels"
        )
    return {**splits, **made} if made else splits


def load(path: str, name: str, streaming: bool, **options: Any) -> dict[str, Any]:
    """Load a data set by ``datasets``.

    Args:
        path: a folder, a Hub id, or the name of a kind of files.
        name: what errors call it.
        streaming: whether to read it as a stream.
        **options: further arguments of ``datasets.load_dataset``.

    Raises:
        InputError: if it cannot be read.
        ResourceError: if the cache of ``datasets`` cannot be written.
    """
    script = Path(path) / f"{Path(path).resolve().name}.py"
    if script.is_file():
        raise InputError(
            f"--dataset {name!r}: holds {script.name}, which has the folder's name and so would be "
            "the script that makes the data set; scripts are not run: rename or remove it"
        )
    with warnings.catch_warnings(), reading(f"--dataset {name!r}"):
        warnings.filterwarnings("ignore", "Detected pickle protocol")  # torch's, before it refuses
        return _load(path, name, streaming, options)


def _load(path: str, name: str, streaming: bool, options: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(datasets.load_dataset(path, streaming=streaming, **options))
    except datasets.exceptions.DatasetGenerationError as error:
        _refuse_full_disk(error)
        cause = error.__cause__ or error
        raise InputError(f"--dataset {name!r}: cannot be read: {one_line(cause)}") from error
    except (YAMLError, RecursionError) as error:
        raise InputError(
            f"--dataset {name!r}: the header of its README.md is not valid YAML: {one_line(error)}"
        ) from error
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, OSError):
            _refuse_full_disk(error)
        if isinstance(error, ValueError) and "corresponds to no data" in str(error):
            splits = _with_empty(path, options)
            if any(map(len, splits.values())):
                return splits
        hint = f"; and there is no such folder{did_you_mean_file(path)}"
        hint = "" if Path(path).exists() else hint
        raise InputError(f"--dataset {name!r}: {one_line(error)}{hint}") from error


def _refuse_full_disk(error: Exception) -> None:
    """Check that it was not the cache of ``datasets`` that could not be written.

    Raises:
        ResourceError: if its disk is full, or may only be read.
    """
    number = number_of(error)
    if number in (*SPACE, errno.EROFS):
        folder = Path(datasets.config.HF_DATASETS_CACHE)
        raise ResourceError(lack(folder, number)) from error


def _with_empty(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """Load a data set of which some splits have no rows, which ``load_dataset`` refuses."""
    builder = datasets.load_dataset_builder(path, **options)
    builder.download_and_prepare()
    features = builder.info.features
    nothing = datasets.Dataset.from_dict({name: [] for name in features}, features=features)
    return {
        name: builder.as_dataset(split=name) if split.num_examples else nothing
        for name, split in builder.info.splits.items()
    }
