"""Names of splits: which words mean which split, and which split is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from patchit_hf.common.errors import InputError, did_you_mean

WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
SEARCHED = ("query", "gallery")  # the two splits of a re-identification test
IN_NAME = re.compile(rf"(^|[-._ 0-9/])({'|'.join(SPLIT_OF)})([-._ 0-9/]|$)")


def meant(splits: Iterable[str], name: str) -> str | None:
    """Return the split that a name means, or None: the one of that name, else a synonym's.

    Example:
        >>> meant(["train", "val"], "validation"), meant(["train", "test"], "validation")
        ('val', None)
    """
    known = list(splits)
    if name in known:
        return name
    return next((word for word in WORDS.get(SPLIT_OF.get(name, ""), ()) if word in known), None)


def choose_split(splits: Mapping[str, Any], split: str | None, name: str) -> str:
    """Return the split to train on: the one asked for, else ``train`` or the only one.

    Raises:
        InputError: if there is no such split, or none to choose.
    """
    names = ", ".join(splits)
    found = meant(splits, split or "train")
    if found is not None:
        return found
    if split is not None:
        hint = did_you_mean(split, splits)
        raise InputError(f"--split {split!r}: data set {name!r} has no such split ({names}){hint}")
    if len(splits) == 1:
        return next(iter(splits))
    raise InputError(f"data set {name!r} has no train split; choose one with --split: {names}")
