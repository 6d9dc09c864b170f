"""KITTI labels, one file an image or sequence: type, truncation, occlusion, angle, box, 3D box."""

from __future__ import annotations

import math
from pathlib import Path

from patchit_hf.common.errors import InputError
from patchit_hf.crops.boxes import Box
from patchit_hf.crops.detections.format import Format, Look, numeric
from patchit_hf.crops.detections.layout import image_of, label_files, lines_of, relative
from patchit_hf.crops.detections.table import PERSONS, Builder, Detections, four, number

FOLDERS = ("label_2", "label_3", "label_02", "label_03", "labels")
VALUES = (15, 16)  # of an object: type, 3 of visibility, 4 of the box, 7 of the 3D box, and a score


def read_kitti(path: Path) -> Detections:
    """Read one file, or all files of labels below a folder.

    In the files of a sequence (the tracking benchmark), frame and track come first. ``Pedestrian``,
    ``Person`` and ``Person_sitting`` are people; a ``Cyclist``'s box holds the bicycle too. Boxes
    are xyxy and the first pixel is 0 (Geiger et al., CVPR 2012, development kit).

    Raises:
        InputError: if half of the lines are malformed.
    """
    builder = Builder("kitti")
    for file in label_files(path, ".txt", *FOLDERS):
        name = relative(file, path)
        for row, line in enumerate(lines_of(file), 1):
            if line.strip():
                _line(builder, line.split(), name, row)
    return builder.done(persons=(*PERSONS, "person_sitting"))


def _line(builder: Builder, words: list[str], name: str, row: int) -> None:
    where, image, source, track = f"{name}, row {row}", image_of(name), "", None
    if _tracked(words):
        frame, track, *words = words
        index = number(frame, where, "frame")
        if index < 0 or not index.is_integer():
            raise InputError(f"{where}: frame {frame!r}: must be a whole number from 0")
        source, image = image, f"{image}/{int(index):06d}"
    picture = builder.picture(image, source=source)
    try:
        box, score = _object(words, where)
    except InputError as error:
        builder.unreadable(picture, error, file=name, row=row)
        return
    builder.box(
        picture,
        box,
        file=name,
        row=row,
        score=score,
        label=words[0],
        track=None if track in (None, "-1") else f"{source}/{track}",
    )


def _object(words: list[str], where: str) -> tuple[Box, float]:
    if len(words) not in VALUES:
        raise InputError(
            f"{where}: {len(words)} values; must be the 15 of KITTI (type, truncated, occluded, "
            "alpha, x0, y0, x1, y1, 7 of the 3D box), with a score 16; in a file of a sequence, "
            "frame and track before them"
        )
    score = number(words[15], where, "score") if len(words) == 16 else math.nan
    return four(list(words[4:8]), where), score


def _tracked(words: list[str]) -> bool:
    """Say whether a line begins with frame and track instead of the type."""
    return len(words) > 2 and numeric(words[:2]) and not numeric(words[2:3])


def _looks(look: Look) -> Path | None:
    for file in look.some(".txt"):
        words = [line.split() for line in look.lines(file)[:1]]
        objects = [some[2:] if _tracked(some) else some for some in words]
        if any(len(o) in VALUES and not numeric(o[:1]) and numeric(o[1:]) for o in objects):
            return file
    return None


FORMAT = Format("kitti", "KITTI labels", _looks, read_kitti, over=("text",))
