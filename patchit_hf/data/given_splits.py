"""What a trainer was given as training and held-out crops, as data sets."""

from __future__ import annotations

from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.data import source
from patchit_hf.data.given import Given, as_dataset, is_named, named_splits
from patchit_hf.data.source import Crops, load_crops
from patchit_hf.data.split_names import choose_split, meant
from patchit_hf.data.transformed import transform_name


def given_splits(
    train: Given,
    held_out: Given,
    image_column: str | None = None,
    *,
    allow_urls: bool = False,
) -> tuple[Crops | None, Any, Any]:
    """Return the training and held-out crops that a trainer was given, as data sets.

    Args:
        train: a data set, or a folder or Hub id; see ``given.DATA``. One with several splits is
            trained on ``train`` or its only split, and evaluated on its ``validation`` split where
            no other is given.
        held_out: likewise, or None.
        image_column: the image column; if None, the only one.
        allow_urls: whether rows of a folder or Hub id may name images by addresses.

    Returns:
        What is known of a folder or Hub id, else None; the training crops; the held-out crops or
        None.

    Raises:
        InputError: if they are nothing of that kind.
    """
    crops = None
    if is_named(train) or isinstance(train, Crops):
        crops = (
            load_crops(train, image_column=image_column, allow_urls=allow_urls)
            if is_named(train)
            else train
        )
        train, given = crops.train, crops.held_out
    else:
        splits = named_splits(train)
        given = None
        if splits is not None:
            chosen, aside = choose_split(splits, None, "train_dataset"), meant(splits, "validation")
            train = splits[chosen]
            given = None if aside in (None, chosen) else splits[aside]
    held_out = given if held_out is None else held_out
    return crops, as_dataset(train, "train_dataset"), _held_out(held_out, allow_urls)


def described(crops: Crops | None, train: Any) -> dict[str, Any]:
    """Return what a trainer's record says of the data it was given.

    Args:
        crops: what is known of a folder or Hub id, or None.
        train: the training crops.
    """
    transform = transform_name(train)
    known = {} if transform is None else {"transform": transform}
    if crops is None:
        return known
    named = {"name": crops.name, "split": crops.split, "held_out_from": crops.held_out_from}
    return {**named, **crops.meta, **known}


def _held_out(given: Given, allow_urls: bool) -> Any:
    if given is None:
        return None
    splits = (
        source.open_splits(given, allow_urls=allow_urls) if is_named(given) else named_splits(given)
    )
    if splits is None:
        return as_dataset(given, "eval_dataset")
    for name in ("validation", "test"):
        split = meant(splits, name)
        if split is not None:
            return as_dataset(splits[split], "eval_dataset")
    if len(splits) > 1:
        raise InputError(
            f"eval_dataset: has the splits {', '.join(splits)}; give one of them, such as "
            f"dataset[{next(iter(splits))!r}]"
        )
    return as_dataset(next(iter(splits.values())), "eval_dataset")
