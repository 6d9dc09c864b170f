"""Open a data set of person crops: a Hub id, a local folder, or the embedded default."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import DatasetCard, HfApi
from huggingface_hub.hf_api import RepoFile
from yaml import YAMLError

from patchit_hf.common.errors import InputError, one_line, reading
from patchit_hf.common.resources import SPACE, ResourceError, lack, number_of
from patchit_hf.data import opened
from patchit_hf.data.cached import tidy
from patchit_hf.data.columns import find_image_column
from patchit_hf.data.contents import Contents, contents_of_files, contents_of_folder, is_data
from patchit_hf.data.held_out import hold_out, hold_out_stream
from patchit_hf.data.reach import Reach, check_links

logger = logging.getLogger(__name__)


@dataclass
class Crops:
    """Training and held-out crops.

    Attributes:
        train: a ``datasets.Dataset``; for a stream, an ``IterableDataset``.
        held_out: the same, or None if nothing could be held out.
        image_column: the column with the crops.
        name: the name that the user gave, or ``people`` for the embedded default.
        split: name of the training split.
        held_out_from: description of where the held-out crops come from.
        meta: ``rendered``, ``hub``, and the ``license``, ``homepage`` and ``citation`` that the
            data set states.
        files: of a stream, what its files hold; None if that is not known.
    """

    train: datasets.Dataset | datasets.IterableDataset
    held_out: datasets.Dataset | datasets.IterableDataset | None
    image_column: str
    name: str
    split: str
    held_out_from: str
    meta: dict[str, Any] = field(default_factory=dict)
    files: Contents | None = None


def load_crops(
    dataset: str | None = None,
    *,
    split: str | None = None,
    image_column: str | None = None,
    streaming: bool = False,
    allow_urls: bool = False,
) -> Crops:
    """Open a data set of crops and decide which crops are held out.

    Args:
        dataset: a Hub id, a folder of images, parquet or arrow files, a ``save_to_disk`` folder, or
            None for the embedded default.
        split: the split to train on; if None, ``train`` or the only one.
        image_column: the image column; if None, the only one.
        streaming: whether to read the data set as a stream instead of preparing it first.
        allow_urls: whether its rows may name images by addresses, which are then read.

    Returns:
        The crops. The ``validation`` split is held out if there is one, else 10 % of the training
        split: whole persons or sources if the data set has one of the columns in
        ``columns.GROUP_COLUMNS``, else single rows.

    Raises:
        InputError: if the data set, split or column is missing, ambiguous or empty, or a row names
            an image outside of the data set's folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for number in range(10):
        ...     Image.new("RGB", (50, 100)).save(folder / f"{number}.png")
        >>> crops = load_crops(str(folder))
        >>> len(crops.train), len(crops.held_out), crops.image_column, crops.held_out_from
        (9, 1, 'image', '10 % of the training split')
    """
    tidy()
    splits = _open(dataset, streaming, allow_urls)
    name = dataset or "people"
    split = _choose_split(splits, split, name)
    train = splits[split]
    column = find_image_column(train, image_column, name)
    if streaming and dataset is not None:
        reach = Reach(dataset, allow_urls)
        splits = {key: reach.checked(value, column) for key, value in splits.items()}
        train = splits[split]
    if not streaming and len(train) == 0:
        raise InputError(
            f"data set {name!r}, split {split!r}: is empty; must have at least 2 crops"
        )
    if "validation" in splits and split != "validation":
        held_out, words = splits["validation"], "validation split"
        find_image_column(held_out, column, name)
    else:
        split_off = hold_out_stream if streaming else hold_out
        train, held_out, words = split_off(train, column if streaming else name)
    kind = {"rendered": dataset is None, "hub": bool(dataset) and not Path(name).exists()}
    meta = {**kind, **_stated(name), **_meta(train)}
    files = _files_of(dataset) if streaming and dataset is not None else None
    return Crops(train, held_out, column, name, split, words, meta, files)


def _files_of(dataset: str) -> Contents | None:
    """Return what the files of a stream hold, None if that cannot be found out."""
    folder = Path(dataset).expanduser()
    if folder.is_dir():
        return contents_of_folder(folder)
    try:
        found = HfApi().list_repo_tree(dataset, repo_type="dataset", recursive=True)
        files = {
            entry.path: entry.blob_id
            for entry in found
            if isinstance(entry, RepoFile) and is_data(entry.path)
        }
    except Exception as error:  # the stream itself says what is wrong with the Hub
        logger.warning(
            "%s: its files cannot be listed, so a resumed run cannot notice if they change: %s",
            dataset,
            one_line(error),
        )
        return None
    return contents_of_files(files)


def open_split(
    dataset: str | None,
    split: str | None,
    image_column: str | None = None,
    *,
    allow_urls: bool = False,
) -> tuple[datasets.Dataset | None, str]:
    """Open one split for evaluation.

    Args:
        dataset: see ``load_crops``.
        split: name of the split; if None, ``test``, else what ``load_crops`` holds out.
        image_column: the image column; if None, the only one.
        allow_urls: see ``load_crops``.

    Returns:
        The split, and a description of it.

    Raises:
        InputError: if there is no such split.
    """
    splits, name = _open(dataset, False, allow_urls), dataset or "people"
    if split is None and "test" not in splits:
        crops = load_crops(dataset, image_column=image_column, allow_urls=allow_urls)
        return crops.held_out, crops.held_out_from
    chosen = _choose_split(splits, split or "test", name)
    return splits[chosen], f"{chosen} split"


def _open(dataset: str | None, streaming: bool, allow_urls: bool = False) -> dict[str, Any]:
    if dataset is None:
        from patchit_hf.data.people import load_people

        people = load_people()
        return {"train": people.to_iterable_dataset(num_shards=4) if streaming else people}
    path, reach = Path(dataset).expanduser(), Reach(dataset, allow_urls)
    if not path.exists():
        if dataset.startswith((".", "~", os.sep)) or dataset.count("/") > 1:
            raise InputError(f"--dataset {dataset!r}: no such folder")
        return _checked(_load(dataset, dataset, streaming), reach)
    if path.is_file():
        raise InputError(f"--dataset {dataset!r}: is a file; must be a folder or a Hub id")
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        return _checked(_load_from_disk(path, streaming), reach)
    known = None if streaming else opened.recall(path, reach)
    if known is not None:
        return known
    check_links(path, f"--dataset {dataset!r}")
    reach.check_card()
    if not opened.holds_files(path):
        raise InputError(f"--dataset {dataset!r}: the folder is empty")
    seen = {} if streaming else opened.look(path)
    splits = None if streaming else opened.index(path, seen)
    splits = splits or _checked(_load(str(path), dataset, streaming), reach)
    if not streaming:
        splits = opened.remember(path, seen, splits, inside=not reach.allow_urls)
    return splits


def _checked(splits: dict[str, Any], reach: Reach) -> dict[str, Any]:
    """Return the splits after a check of where their images are; streams are checked as they run.

    Raises:
        InputError: if an image lies where it may not be read.
    """
    for split in splits.values():
        if isinstance(split, datasets.Dataset):
            reach.check(split)
    return splits


def _load(path: str, name: str, streaming: bool) -> dict[str, Any]:
    script = Path(path) / f"{Path(path).resolve().name}.py"
    if script.is_file():
        raise InputError(
            f"--dataset {name!r}: holds {script.name}, which has the folder's name and so would be "
            "the script that makes the data set; scripts are not run: rename or remove it"
        )
    with reading(f"--dataset {name!r}"):
        try:
            return dict(datasets.load_dataset(path, streaming=streaming))
        except datasets.exceptions.DatasetGenerationError as error:
            _refuse_full_disk(error)
            cause = error.__cause__ or error
            raise InputError(f"--dataset {name!r}: cannot be read: {one_line(cause)}") from error
        except YAMLError as error:
            raise InputError(
                f"--dataset {name!r}: the header of its README.md is not valid YAML: "
                f"{one_line(error)}"
            ) from error
        except OSError as error:
            _refuse_full_disk(error)
            hint = "" if Path(path).exists() else "; and there is no such folder"
            raise InputError(f"--dataset {name!r}: {one_line(error)}{hint}") from error
        except (ValueError, datasets.exceptions.DatasetsError) as error:
            hint = "" if Path(path).exists() else "; and there is no such folder"
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


def _load_from_disk(path: Path, streaming: bool) -> dict[str, Any]:
    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # a damaged file may make its readers raise anything
        raise InputError(f"--dataset {str(path)!r}: cannot be read: {one_line(error)}") from error
    splits = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    if streaming:
        return {key: value.to_iterable_dataset(num_shards=4) for key, value in splits.items()}
    return splits


def _choose_split(splits: dict[str, Any], split: str | None, name: str) -> str:
    names = ", ".join(splits)
    if split is not None:
        if split not in splits:
            raise InputError(f"--split {split!r}: data set {name!r} has no such split ({names})")
        return split
    if "train" in splits:
        return "train"
    if len(splits) == 1:
        return next(iter(splits))
    raise InputError(f"data set {name!r} has no train split; choose one with --split: {names}")


def _meta(dataset: datasets.Dataset | datasets.IterableDataset) -> dict[str, Any]:
    info = dataset.info
    meta = {"license": info.license, "homepage": info.homepage, "citation": info.citation}
    return {key: value for key, value in meta.items() if value}


def _stated(name: str) -> dict[str, Any]:
    """Return the licence that the card in a local folder states, if any."""
    card = Path(name).expanduser() / "README.md"
    if not card.is_file():
        return {}
    try:
        licence = DatasetCard.load(card, ignore_metadata_errors=True).data.get("license")
    except (OSError, ValueError, YAMLError, RecursionError, AttributeError):  # is not a card
        return {}
    return {"license": licence} if isinstance(licence, str) and licence != "unknown" else {}
