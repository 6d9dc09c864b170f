"""Open a data set of person crops: a Hub id, a local folder, or the embedded default."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import DatasetCard, HfApi
from huggingface_hub.hf_api import RepoFile
from yaml import YAMLError

from patchit_hf.common.errors import InputError, did_you_mean_file, one_line
from patchit_hf.common.files import read_json
from patchit_hf.common.hub_access import USUAL, HubAccess
from patchit_hf.data.cached import tidy
from patchit_hf.data.columns import find_image_column
from patchit_hf.data.content_hashes import contents_of_files, contents_of_folder, is_data
from patchit_hf.data.contents import Contents
from patchit_hf.data.dataset_state import stream_features
from patchit_hf.data.folder import open_folder
from patchit_hf.data.given import Given, as_dataset, is_named, named_splits
from patchit_hf.data.held_out import hold_out, hold_out_stream
from patchit_hf.data.hub import load_from_hub
from patchit_hf.data.image_columns import with_images
from patchit_hf.data.person_names import with_people
from patchit_hf.data.reach import Reach
from patchit_hf.data.split_names import choose_split, meant

logger = logging.getLogger(__name__)


@dataclass
class Crops:
    """Training and held-out crops.

    Attributes:
        train: a ``datasets.Dataset``; for a stream, an ``IterableDataset``, whose images are as
            they are stored: ``{"bytes": ..., "path": ...}``.
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
    dataset: Given = None,
    *,
    split: str | None = None,
    image_column: str | None = None,
    streaming: bool = False,
    allow_urls: bool = False,
    people_in_names: bool = False,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> Crops:
    """Open a data set of crops and decide which crops are held out.

    Args:
        dataset: a Hub id, a folder of images, parquet or arrow files, a ``save_to_disk`` folder, or
            None for the embedded default; or a data set that is open already, see ``given.DATA``.
        split: the split to train on; if None, ``train`` or the only one.
        image_column: the image column; if None, the only one.
        streaming: whether to read the data set as a stream instead of preparing it first.
        allow_urls: whether its rows may name images by addresses, and those of a local data set
            files outside of its folder, which are then read.
        people_in_names: whether names of image files, such as ``0002_c1s1_000451_03.jpg``, say
            people and cameras.
        revision: branch, tag or commit of a data set on the Hub.
        cache_dir: where files of the Hub are kept; None for the usual place.
        token: for the Hub; None for that of the login, False for none.

    Returns:
        The crops. The validation split (``validation``, ``valid``, ``val`` or ``dev``) is held out
        if there is one that is not empty, else 10 % of the training split: whole persons or sources
        if the data set has one of the columns in ``columns.GROUP_COLUMNS``, else single rows.

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
    access, notes = HubAccess(revision, cache_dir, token), dict[str, str]()
    how: Any = {"people_in_names": people_in_names, "allow_urls": allow_urls}
    splits = open_splits(
        dataset, image_column, streaming=streaming, access=access, notes=notes, **how
    )
    name = _name(dataset)
    split = choose_split(splits, split, name)
    train = splits[split]
    column = find_image_column(train, image_column, name)
    streaming = isinstance(train, datasets.IterableDataset)
    if streaming and is_named(dataset):
        reach = Reach(name, allow_urls)
        splits = {key: reach.checked(value, column) for key, value in splits.items()}
        train = splits[split]
    if not streaming and len(train) == 0:
        raise InputError(
            f"data set {name!r}, split {split!r}: is empty; must have at least 2 crops"
        )
    aside = meant(splits, "validation")
    if aside is not None and _is_empty(splits[aside], column):
        logger.warning("data set %r: its split %s is empty", name, aside)
        aside = None
    if aside is not None and split != aside:
        held_out, words = splits[aside], "validation split"
        find_image_column(held_out, column, name)
    else:
        split_off = hold_out_stream if streaming else hold_out
        train, held_out, words = split_off(train, column if streaming else name)
    on_hub = is_named(dataset) and not Path(name).expanduser().exists()
    kind = {"rendered": dataset is None, "hub": on_hub}
    meta = {**kind, **notes, **(_stated(name) if is_named(dataset) else {}), **_meta(train)}
    files = _files_of(name, access) if streaming and is_named(dataset) else None
    return Crops(train, held_out, column, name, split, words, meta, files)


def _name(dataset: Given) -> str:
    if dataset is None:
        return "people"
    return str(dataset) if is_named(dataset) else "dataset"


def _files_of(dataset: str, access: HubAccess) -> Contents | None:
    """Return what the files of a stream hold, None if that cannot be found out."""
    folder = Path(dataset).expanduser()
    if folder.is_dir():
        return contents_of_folder(folder)
    try:
        found = HfApi(token=access.token).list_repo_tree(
            dataset, repo_type="dataset", recursive=True, revision=access.revision
        )
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


def _is_empty(rows: datasets.Dataset | datasets.IterableDataset, column: str) -> bool:
    """Say whether a split has no rows; of a stream, one is read, without decoding its image."""
    if isinstance(rows, datasets.Dataset):
        return len(rows) == 0
    if column in stream_features(rows):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    return next(iter(rows.take(1)), None) is None


def open_split(
    dataset: Given,
    split: str | None,
    image_column: str | None = None,
    *,
    allow_urls: bool = False,
    people_in_names: bool = False,
    access: HubAccess = USUAL,
) -> tuple[datasets.Dataset | None, str]:
    """Open one split for evaluation.

    Args:
        dataset: see ``load_crops``.
        split: name of the split; if None, ``test``, else what ``load_crops`` holds out.
        image_column: the image column; if None, the only one.
        allow_urls: see ``load_crops``.
        people_in_names: see ``load_crops``.
        access: how the Hub is read.

    Returns:
        The split, and a description of it.

    Raises:
        InputError: if there is no such split.
    """
    how: Any = {"people_in_names": people_in_names, "allow_urls": allow_urls}
    splits = open_splits(dataset, image_column, access=access, **how)
    if split is None and meant(splits, "test") is None:
        crops = load_crops(dataset, image_column=image_column, **how, **access.options())
        return crops.held_out, crops.held_out_from
    chosen = choose_split(splits, split or "test", _name(dataset))
    return splits[chosen], f"{chosen} split"


def open_splits(
    dataset: Given,
    image_column: str | None = None,
    *,
    streaming: bool = False,
    people_in_names: bool = False,
    allow_urls: bool = False,
    access: HubAccess = USUAL,
    notes: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Open all splits of a data set of any kind, by their names.

    Args:
        dataset: see ``load_crops``, as are all others.
        image_column: the image column; if None, the only one.
        streaming: whether to return streams.
        people_in_names: whether names of image files say people and cameras; not of streams.
        allow_urls: whether rows may name images elsewhere.
        access: how the Hub is read.
        notes: is filled with what a record has to say of how the data set was found.

    Raises:
        InputError: if the data set cannot be read.
    """
    path = Path(dataset).expanduser() if is_named(dataset) else None
    if path is None or path.exists():
        access.refuse_revision("people" if dataset is None else _name(dataset))
    if dataset is None:
        from patchit_hf.data.people import load_people

        people = load_people()
        return {"train": people.to_iterable_dataset(num_shards=4) if streaming else people}
    if path is not None:
        reach, notes = Reach(str(dataset), allow_urls), {} if notes is None else notes
        splits = _read(path, dataset, streaming, reach, access, notes)
        root = path.resolve() if path.exists() else None
    else:
        given, root = named_splits(dataset) or {"train": dataset}, None
        splits = {name: as_dataset(value, "dataset") for name, value in given.items()}
    splits = {name: with_images(rows, image_column, root) for name, rows in splits.items()}
    streams = any(isinstance(rows, datasets.IterableDataset) for rows in splits.values())
    return with_people(splits) if people_in_names and not streams else splits


def _read(
    path: Path,
    dataset: str | os.PathLike[str],
    streaming: bool,
    reach: Reach,
    access: HubAccess,
    notes: dict[str, str],
) -> dict[str, Any]:
    name = str(dataset)
    if not path.exists():
        if (
            isinstance(dataset, os.PathLike)
            or name.startswith((".", "~", os.sep))
            or name.count("/") > 1
        ):
            raise InputError(f"--dataset {name!r}: no such folder{did_you_mean_file(path)}")
        if path.parent != Path() and path.parent.is_dir():
            hint = did_you_mean_file(path)
            if hint:
                raise InputError(f"--dataset {name!r}: no such folder{hint}")
        return reach.check_splits(load_from_hub(name, streaming, access, notes))
    if path.is_file():
        raise InputError(f"--dataset {name!r}: is a file; must be a folder or a Hub id")
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        return reach.check_splits(_load_from_disk(path, streaming))
    return open_folder(path, name, streaming, reach)


def _load_from_disk(path: Path, streaming: bool) -> dict[str, Any]:
    try:
        if (path / "dataset_dict.json").exists():
            names = read_json(path / "dataset_dict.json")["splits"]
            splits = {name: _saved(path / name) for name in names}
        else:
            splits = {"train": _saved(path)}
    except Exception as error:  # a damaged file may make its readers raise anything
        raise InputError(f"--dataset {str(path)!r}: cannot be read: {one_line(error)}") from error
    if streaming:
        return {key: value.to_iterable_dataset(num_shards=4) for key, value in splits.items()}
    return splits


def _saved(folder: Path) -> datasets.Dataset:
    """Return a saved split, which datasets itself cannot load without rows."""
    try:
        return datasets.load_from_disk(str(folder))
    except IndexError:
        features = datasets.DatasetInfo.from_directory(str(folder)).features
        return datasets.Dataset.from_dict({name: [] for name in features}, features=features)


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
