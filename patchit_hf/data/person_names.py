"""People and cameras that the names of image files say, as in Market-1501 and DukeMTMC-reID."""

from __future__ import annotations

import logging
import os
import re
from typing import Any

import datasets

from patchit_hf.data.columns import DISTRACTOR, GROUP_COLUMNS

logger = logging.getLogger(__name__)

NAME = re.compile(r"(?P<person>-1|\d{1,6})_c(?P<camera>\d{1,4})(?=\D)")
MOST = 0.9  # of the names have to say a person
COLUMNS = ("person_id", "camera", DISTRACTOR)


def read_name(file: str) -> tuple[int, int] | None:
    """Return person and camera of a file's name; None if it says neither.

    Example:
        >>> read_name("0002_c1s1_000451_03.jpg"), read_name("-1_c3s2_000100_00.jpg")
        ((2, 1), (-1, 3))
        >>> read_name("portrait.jpg")
    """
    match = NAME.match(os.path.basename(file))
    return (int(match["person"]), int(match["camera"])) if match else None


def with_people(splits: dict[str, Any]) -> dict[str, Any]:
    """Add columns of people and cameras to the splits of a folder of images, if its names say them.

    Person -1 is junk, which counts neither as right nor as wrong; person 0 is a distractor. Of a
    test with a split ``query`` the split that is searched is called ``gallery``.

    Args:
        splits: of a folder of images; others are returned as they are.
    """
    found = {}
    for name, rows in splits.items():
        if not isinstance(rows, datasets.Dataset) or set(rows.column_names) & {*GROUP_COLUMNS}:
            return splits
        if not isinstance(rows.features.get("image"), datasets.Image):
            return splits
        bare = rows.select_columns(["image"]).cast_column("image", datasets.Image(decode=False))
        found[name] = [read_name((value or {}).get("path") or "") for value in bare["image"]]
    said = [label for labels in found.values() for label in labels if label is not None]
    count = sum(map(len, found.values()))
    if not said or len(said) < MOST * count:
        return splits
    people = {person for person, _ in said if person > 0}
    logger.info(
        "%d of %d names of images say person and camera: %d people, %d cameras, %d distractors, "
        "%d junk",
        len(said), count, len(people), len({camera for _, camera in said}),
        sum(person == 0 for person, _ in said), sum(person < 0 for person, _ in said),
    )  # fmt: skip
    made = {name: _labelled(rows, found[name]) for name, rows in splits.items()}
    if "query" in made and "gallery" not in made and "test" in made:
        made = {("gallery" if name == "test" else name): rows for name, rows in made.items()}
    return made


def _labelled(rows: datasets.Dataset, labels: list[tuple[int, int] | None]) -> datasets.Dataset:
    values = {
        "person_id": [None if label is None else label[0] for label in labels],
        "camera": [None if label is None else label[1] for label in labels],
        DISTRACTOR: [label is not None and label[0] == 0 for label in labels],
    }
    types = dict(zip(COLUMNS, ("int64", "int64", "bool"), strict=True))
    for name in COLUMNS:
        rows = rows.add_column(name, values[name], feature=datasets.Value(types[name]))
    return rows
