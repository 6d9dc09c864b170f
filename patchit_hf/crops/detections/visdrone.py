"""VisDrone, one file an image or video: ``left,top,width,height,score,category,truncation,...``."""

from __future__ import annotations

import math
from pathlib import Path

from patchit_hf.common.errors import InputError
from patchit_hf.crops.boxes import Box
from patchit_hf.crops.detections.format import Format, Look, numeric
from patchit_hf.crops.detections.layout import image_of, label_files, lines_of, relative
from patchit_hf.crops.detections.table import Builder, Detections, number

CLASSES = (
    "ignored", "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle",
    "awning-tricycle", "bus", "motor", "others",
)  # fmt: skip
IMAGE, VIDEO = 8, 10  # values of a line: in a video, frame and track come first


def read_visdrone(path: Path) -> Detections:
    """Read one file, or all files of a folder ``annotations`` or below another folder.

    Ignored regions, and ground truth whose score is 0, get the label ``ignored``. Frames of a video
    are those of a folder ``sequences`` beside ``annotations`` and count from 1 (Zhu et al., arXiv
    1804.07437).

    Raises:
        InputError: if half of the lines are malformed.
    """
    builder = Builder("visdrone")
    for file in label_files(path, ".txt", "annotations"):
        name = relative(file, path)
        for row, line in enumerate(lines_of(file), 1):
            if line.strip(", \t"):
                _line(builder, _words(line), name, row)
    return builder.done()


def _line(builder: Builder, words: list[str], name: str, row: int) -> None:
    where, image, source, track = f"{name}, row {row}", image_of(name), "", None
    if len(words) == VIDEO:
        first, track, *words = words
        frame = number(first, where, "frame")
        if frame < 1 or not frame.is_integer():
            raise InputError(f"{where}: frame {first!r}: must be a whole number from 1")
        source = image_of(name, annotations="sequences")
        image, track = f"{source}/{int(frame):07d}", f"{source}/{track}"
    picture = builder.picture(image, source=source)
    try:
        box, score, label = _object(words, where)
    except InputError as error:
        builder.unreadable(picture, error, file=name, row=row)
        return
    builder.box(picture, box, file=name, row=row, score=score, label=label, track=track)


def _object(words: list[str], where: str) -> tuple[Box, float, str]:
    """Return box, score and class of an object."""
    values = [number(word, where, "value") for word in words]
    if len(values) != IMAGE:
        raise InputError(
            f"{where}: {len(values)} values; must be the 8 of VisDrone (left, top, width, height, "
            "score, category, truncation, occlusion); in a file of a video, frame and track before "
            "them"
        )
    x, y, width, height, score, category, truncation, _ = values
    if category not in range(len(CLASSES)):
        raise InputError(f"{where}: category {category:g}: must be 0 to {len(CLASSES) - 1}")
    truth = truncation >= 0
    label = "ignored" if truth and score == 0 else CLASSES[int(category)]
    return (x, y, x + width, y + height), math.nan if truth else score, label


def _words(line: str) -> list[str]:
    return line.strip().rstrip(",").split(",")


def _looks(look: Look) -> Path | None:
    for file in look.some(".txt"):
        rows = [_words(line) for line in look.lines(file)]
        if rows and all(_fits(row) for row in rows):
            return file
    return None


def _fits(words: list[str]) -> bool:
    if len(words) not in (IMAGE, VIDEO) or not numeric(words):
        return False
    score, category, truncation, occlusion = (float(word) for word in words[-4:])
    if (truncation, occlusion) == (-1, -1):  # results; those of videos look like MOTChallenge's
        return len(words) == IMAGE and 0 <= score <= 1 and category in range(1, len(CLASSES))
    truth = score in (0, 1) and category in range(len(CLASSES))
    return truth and truncation in (0, 1) and occlusion in (0, 1, 2)


FORMAT = Format("visdrone", "VisDrone", _looks, read_visdrone, over=("mot",))
