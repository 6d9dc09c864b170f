"""Open a collection of person crops: a Hub id, a local folder, or the embedded default."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from patchit_hf.errors import InputError

GROUP_COLUMNS = ("person_id", "pid", "identity", "track_id", "source", "video", "sequence")
HELD_OUT = 0.1  # share of the crops held out where there is no validation split


@dataclass
class Crops:
    """A training and a held-out collection.

    Attributes:
        train: a map-style or an iterable data set.
        held_out: the same, or None where nothing could be held out.
        image_column: the column with the crops.
        name: what the user called it, or ``people`` for the embedded default.
        split: the training split.
        held_out_from: where the held-out crops come from, in words.
        meta: whether the crops are rendered or come from the Hub, and licence, citation and the
            like as the data set states them.
    """

    train: Any
    held_out: Any
    image_column: str
    name: str
    split: str
    held_out_from: str
    meta: dict[str, Any] = field(default_factory=dict)


def load_crops(
    dataset: str | None = None,
    *,
    split: str | None = None,
    image_column: str | None = None,
    streaming: bool = False,
) -> Crops:
    """Open a data set of crops and decide what is held out.

    Args:
        dataset: a Hub id, a folder of images, parquet or arrow files, a ``save_to_disk`` folder, or
            None for the embedded default.
        split: the split to train on; ``train``, or the only one, by default.
        image_column: the image column; found by itself where there is only one.
        streaming: read the data set as it comes instead of preparing it first.

    Returns:
        The crops. Held out is the ``validation`` split if there is one, else 10 % of the training
        split, by person or source where one of the columns in ``GROUP_COLUMNS`` says so.

    Raises:
        InputError: if the data set, split or column is missing, ambiguous or empty.
    """
    splits = _open(dataset, streaming)
    name = dataset or "people"
    split = _choose_split(splits, split, name)
    train = splits[split]
    column = find_image_column(train, image_column, name)
    if not streaming and len(train) == 0:
        raise InputError(
            f"data set {name!r}, split {split!r}: it is empty; at least 2 crops needed"
        )
    if "validation" in splits and split != "validation":
        held_out, words = splits["validation"], "validation split"
        find_image_column(held_out, column, name)
    else:
        split_off = hold_out_stream if streaming else hold_out
        train, held_out, words = split_off(train, column if streaming else name)
    kind = {"rendered": dataset is None, "hub": bool(dataset) and not Path(name).exists()}
    return Crops(train, held_out, column, name, split, words, {**kind, **_meta(train)})


def find_image_column(dataset: Any, column: str | None, name: str) -> str:
    """Return the image column.

    Raises:
        InputError: if the named column is missing or is no image, or if there is not just one.
    """
    features = dataset.features or dataset._resolve_features().features
    images = [key for key, f in features.items() if isinstance(f, datasets.Image)]
    if column is not None:
        if column not in images:
            raise InputError(
                f"--image-column {column!r}: no such image column in {name!r} (image columns: "
                f"{', '.join(images) or 'none'}; all columns: {', '.join(features)})"
            )
        return column
    if not images:
        raise InputError(f"data set {name!r} has no image column (columns: {', '.join(features)})")
    if len(images) > 1:
        raise InputError(
            f"data set {name!r} has {len(images)} image columns; choose one with --image-column: "
            f"{', '.join(images)}"
        )
    return str(images[0])


def hold_out(train: Any, name: str) -> tuple[Any, Any, str]:
    """Split 10 % off a data set, by person or source where a column says so.

    The choice is a hash of the group's (or row's) key, so it is the same in every run and process.
    A missing or negative key stands for an unknown person: such a row is its own group.
    """
    if len(train) < 2:
        raise InputError(f"data set {name!r} has {len(train)} crop; at least 2 are needed")
    column = next((c for c in GROUP_COLUMNS if c in train.column_names), None)
    keys = range(len(train)) if column is None else train[column][:]
    groups: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        unknown = key is None or (isinstance(key, int) and key < 0)
        groups.setdefault(f"row {row}" if unknown else str(key), []).append(row)
    if len(groups) < 2:
        column, groups = None, {str(row): [row] for row in range(len(train))}
    target = max(1, round(HELD_OUT * len(train)))
    chosen: list[int] = []
    for key in sorted(groups, key=lambda k: hashlib.blake2b(k.encode()).digest()):
        if len(chosen) >= target or len(chosen) + len(groups[key]) >= len(train):
            break
        chosen += groups[key]
    chosen = chosen or min(groups.values(), key=len)
    held = set(chosen)
    words = f"10 % of the training split, by {column}" if column else "10 % of the training split"
    return (
        train.select([row for row in range(len(train)) if row not in held]),
        train.select(sorted(held)),
        words,
    )


def hold_out_stream(train: Any, image_column: str) -> tuple[Any, Any, str]:
    """Split about 10 % off a stream, by the hash of person or source, else of the picture itself.

    A row's side does not depend on who reads the stream, or in which order.
    """
    column = next((c for c in GROUP_COLUMNS if c in (train.features or {})), None)
    columns = [image_column] if column is None else [image_column, column]
    raw = train.cast_column(image_column, datasets.Image(decode=False))
    sides = [
        raw.filter(partial(_on_side, held_out=side), input_columns=columns)
        for side in (False, True)
    ]
    words = "about 10 % of the stream, by " + (column or "the picture's hash")
    return sides[0], sides[1], words


def _on_side(image: dict[str, Any], group: Any = None, *, held_out: bool) -> bool:
    unknown = group is None or (isinstance(group, int) and group < 0)
    picture = image["bytes"] or str(image["path"]).encode()
    key = picture if unknown else str(group).encode()
    return (hashlib.blake2b(key).digest()[0] < round(256 * HELD_OUT)) == held_out


def _open(dataset: str | None, streaming: bool) -> dict[str, Any]:
    if dataset is None:
        from patchit_hf.data.people import load_people

        people = load_people()
        return {"train": people.to_iterable_dataset(num_shards=4) if streaming else people}
    path = Path(dataset).expanduser()
    if not path.exists():
        if dataset.startswith((".", "~", os.sep)) or dataset.count("/") > 1:
            raise InputError(f"--dataset {dataset!r}: no such folder")
        return _load(dataset, dataset, streaming)
    if path.is_file():
        raise InputError(f"--dataset {dataset!r}: is a file; give a folder or a Hub id")
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        return _load_from_disk(path, streaming)
    if not any(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")):
        raise InputError(f"--dataset {dataset!r}: the folder is empty")
    return _load(str(path), dataset, streaming)


def _load(path: str, name: str, streaming: bool) -> dict[str, Any]:
    try:
        return dict(datasets.load_dataset(path, streaming=streaming))
    except datasets.exceptions.DatasetGenerationError as error:
        cause = error.__cause__ or error
        raise InputError(f"--dataset {name!r}: cannot be read: {_line(cause)}") from error
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        hint = "" if Path(path).exists() else "; no such folder either"
        raise InputError(f"--dataset {name!r}: {_line(error)}{hint}") from error


def _load_from_disk(path: Path, streaming: bool) -> dict[str, Any]:
    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, IndexError) as error:  # the last: saved with no row in it
        raise InputError(f"--dataset {str(path)!r}: cannot be read: {_line(error)}") from error
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


def _meta(dataset: Any) -> dict[str, Any]:
    info = dataset.info
    meta = {"license": info.license, "homepage": info.homepage, "citation": info.citation}
    return {key: value for key, value in meta.items() if value}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
