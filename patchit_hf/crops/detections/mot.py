"""MOTChallenge ``det.txt`` and ``gt.txt``: one frame number, track and box per line."""

from __future__ import annotations

import configparser
import math
from pathlib import Path

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.crops.detections.table import Builder, Detections, number

CLASSES = {
    1: "pedestrian", 2: "person on vehicle", 3: "car", 4: "bicycle", 5: "motorbike",
    6: "other vehicle", 7: "static person", 8: "distractor", 9: "occluder",
    10: "occluder on the ground", 11: "occluder full", 12: "reflection",
}  # fmt: skip


def read_mot(path: Path) -> Detections:
    """Read one file, or the ground truth (else the detections) of every sequence below a folder.

    A line is ``frame, track, left, top, width, height, confidence[, class, visibility | , x, y,
    z]``, and the first pixel is 1 (MOT16, Milan et al., arXiv 1603.00831). Ground truth whose
    confidence is 0 is to be ignored, and gets the label ``ignored``. Each sequence is a source.

    Raises:
        InputError: for a malformed line.
    """
    builder = Builder("mot")
    if path.is_file():
        in_place = path.parent.name in ("gt", "det")
        sequence = path.parent.parent if in_place else path.parent
        name = sequence.name if in_place else path.stem
        _read(builder, path, path.name, name, _picture_name(sequence, ""))
        return builder.done()
    for sequence in sorted({file.parent.parent for file in mot_files(path)}):
        prefix = sequence.relative_to(path).as_posix()
        file = next(f for f in (sequence / "gt/gt.txt", sequence / "det/det.txt") if f.is_file())
        pictures = _picture_name(sequence, "" if prefix == "." else f"{prefix}/")
        name = sequence.name if prefix == "." else prefix
        _read(builder, file, file.relative_to(path).as_posix(), name, pictures)
    return builder.done()


def mot_files(folder: Path) -> list[Path]:
    """Return the files of all sequences below a folder."""
    return [*folder.glob("**/gt/gt.txt"), *folder.glob("**/det/det.txt")]


def _read(builder: Builder, file: Path, name: str, sequence: str, frames: tuple[str, str]) -> None:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 text: {error.reason}") from error
    for row, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}, row {row}"
        values = [number(word, where, "value") for word in line.split(",") if word.strip()]
        if len(values) < 6:
            raise InputError(
                f"{where}: {len(values)} values; must be frame, track, left, top, width, height"
            )
        if not all(math.isfinite(value) for value in (*values[:2], *values[7:8])):
            raise InputError(f"{where}: frame, track and class must be whole numbers")
        x, y, width, height = values[2] - 1, values[3] - 1, values[4], values[5]
        flag = values[6] if len(values) > 6 else math.nan
        truth = len(values) in (8, 9)
        label = CLASSES.get(int(values[7]), "other") if truth and values[7] >= 0 else None
        builder.box(
            builder.picture(f"{frames[0]}{int(values[0]):06d}{frames[1]}", source=sequence),
            (x, y, x + width, y + height),
            file=name,
            row=row,
            score=math.nan if truth else flag,
            label="ignored" if truth and flag == 0 else label,
            track=None if values[1] < 0 else f"{sequence}/{int(values[1])}",
        )


def _picture_name(sequence: Path, prefix: str) -> tuple[str, str]:
    """Return what frames' names have around six digits: from ``seqinfo.ini``, else a folder."""
    info = configparser.ConfigParser(interpolation=None)
    try:
        found = info.read(sequence / "seqinfo.ini", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(f"{sequence / 'seqinfo.ini'}: is damaged: {one_line(error)}") from error
    if not found:
        return f"{prefix}img1/" if prefix else "", ""
    folder = info.get("Sequence", "imDir", fallback="img1")
    end = info.get("Sequence", "imExt", fallback=".jpg")
    return f"{prefix}{folder}/" if prefix else "", end
