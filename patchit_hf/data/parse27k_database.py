"""PARSE-27k's ``annotations.sqlite3``: its splits, its attributes, and its pedestrians."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np

from patchit_hf.common.errors import InputError

# The split of each sequence.
SPLITS = {1: "train", 4: "train", 5: "train", 2: "validation", 7: "validation", 8: "validation",
          3: "test", 6: "test"}  # fmt: skip

NA = "n/a"
YES = (NA, "yes", "no")
CLASSES: dict[str, tuple[str, ...]] = {
    "Orientation": (NA, "front", "back", "left", "right"),
    "Orientation8": (NA, "front", "front-right", "right", "back-right", "back", "back-left",
                     "left", "front-left"),
    "Gender": (NA, "male", "female"),
    "Posture": (NA, "standing", "walking", "sitting"),
    **dict.fromkeys((
        "HasBagOnShoulderLeft", "HasBagOnShoulderRight", "HasBagInHandLeft", "HasBagInHandRight",
        "HasTrolley", "HasBackpack", "isPushing", "isTalkingOnPhone",
    ), YES),
}  # fmt: skip
POSTURES = {1: 0, 2: 2, 3: 1, 4: 3}  # the one attribute whose class is not its code minus one
SITTING = 3

QUERY = """
SELECT p.pedestrianID, s.sequenceID, s.directory, i.filename,
       p.box_min_x, p.box_min_y, p.box_max_x, p.box_max_y, {attributes}
FROM Pedestrian p JOIN AttributeSet a USING (attributeSetID)
     JOIN Image i USING (imageID) JOIN Sequence s USING (sequenceID)
ORDER BY s.sequenceID, i.filename, p.pedestrianID
"""


def read_people(base: Path) -> list[dict[str, Any]]:
    """Read boxes and classes of all pedestrians, image by image.

    Raises:
        InputError: if the file is not the PARSE-27k database, or holds an unknown code or sequence.
    """
    query = QUERY.format(attributes=", ".join(f"a.{name}ID" for name in CLASSES))
    people = []
    for person, sequence, directory, filename, x0, y0, x1, y1, *codes in read_rows(base, query):
        where = f"{base.name}, pedestrian {person}"
        if sequence not in SPLITS:
            raise InputError(f"{where}: sequence {sequence!r}: must be one of {sorted(SPLITS)}")
        box = [float(value) for value in (x0, y0, x1, y1)]
        if not (np.isfinite(box).all() and box[2] > box[0] and box[3] > box[1]):
            raise InputError(
                f"{where}: box {box}: its second corner must be right of and below its first"
            )
        classes = {
            name: class_of(name, code, where) for name, code in zip(CLASSES, codes, strict=True)
        }
        people.append(
            {
                "split": SPLITS[sequence],
                "person_id": person,
                "sequence": sequence,
                "file": f"sequences/{directory}/{filename}",
                "box": box,
                **classes,
            }
        )
    return people


def class_of(attribute: str, code: Any, where: str) -> int:
    """Return the class of a database code: the code minus one, except for the posture.

    Raises:
        InputError: if the attribute has no such code.
    """
    count = len(CLASSES[attribute])
    if not isinstance(code, int) or not 1 <= code <= count:
        raise InputError(f"{where}: {attribute} has code {code!r}; must be 1 to {count}")
    return POSTURES[code] if attribute == "Posture" else code - 1


def read_rows(path: Path, query: str) -> list[Any]:
    """Return the rows of a query on the PARSE-27k database, which is opened read-only.

    Raises:
        InputError: if the file is not the PARSE-27k database.
    """
    try:
        base = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            return base.execute(query).fetchall()
        finally:
            base.close()
    except sqlite3.Error as error:
        raise InputError(f"{path}: is not the PARSE-27k database: {error}") from error
