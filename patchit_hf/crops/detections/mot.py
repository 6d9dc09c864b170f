"""MOTChallenge ``det.txt`` and ``gt.txt``: one frame number, track and box per line."""

from __future__ import annotations

import math
import re
from pathlib import Path

from patchit_hf.common.errors import InputError
from patchit_hf.common.names import files_below
from patchit_hf.common.text import read_ini, read_lines
from patchit_hf.crops.detections.format import Format, Look, numeric
from patchit_hf.crops.detections.table import Builder, Detections, key_of, number

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
    names = files_below(folder, (".txt",))
    return [folder / name for name in names if f"/{name}".endswith(("/gt/gt.txt", "/det/det.txt"))]


def _read(builder: Builder, file: Path, name: str, sequence: str, picture: str) -> None:
    for row, line in enumerate(read_lines(file), 1):
        if not line.strip():
            continue
        where, words = f"{name}, row {row}", split_line(line)
        frame = number(words[0], where, "frame")
        if not frame.is_integer():
            raise InputError(f"{where}: frame {words[0]!r}: must be a whole number")
        image = builder.picture(picture.format(frame=int(frame)), source=sequence)
        try:
            values = [number(word, where, "value") for word in words]
            if len(values) < 6:
                raise InputError(
                    f"{where}: {len(values)} values; must be frame, track, left, top, width, height"
                )
        except InputError as error:
            builder.unreadable(image, error, file=name, row=row)
            continue
        x, y, width, height = values[2] - 1, values[3] - 1, values[4], values[5]
        flag = values[6] if len(values) > 6 else math.nan
        truth = len(values) in (8, 9)
        known = truth and math.isfinite(values[7]) and values[7] >= 0
        label = CLASSES.get(int(values[7]), "other") if known else None
        builder.box(
            image,
            (x, y, x + width, y + height),
            file=name,
            row=row,
            score=math.nan if truth else flag,
            label="ignored" if truth and flag == 0 else label,
            track=f"{sequence}/{key_of(values[1])}" if values[1] >= 0 else None,
        )


def split_line(line: str) -> list[str]:
    r"""Return the values of a line, with commas, semicolons, tabs or spaces between them.

    Example:
        >>> split_line("1, 2;3\t4,,5,")
        ['1', '2', '3', '4', '', '5']
    """
    return re.split(r"\s*[,;]\s*|\s+", line.strip().rstrip(",; \t"))


def _picture_name(sequence: Path, prefix: str) -> str:
    """Return the pattern of the frames' names: from ``seqinfo.ini``, else six digits."""
    prefix = prefix.replace("{", "{{").replace("}", "}}")
    if not (sequence / "seqinfo.ini").is_file():
        return (f"{prefix}img1/" if prefix else "") + "{frame:06d}"
    info = read_ini(sequence / "seqinfo.ini")
    folder = info.get("Sequence", "imDir", fallback="img1")
    end = info.get("Sequence", "imExt", fallback=".jpg")
    return (f"{prefix}{folder}/" if prefix else "") + "{frame:06d}" + end


def _looks(look: Look) -> Path | None:
    if look.is_folder:
        return next(iter(sorted(mot_files(look.path))), None)
    words = [line.split(",") for line in look.lines(look.path)[:1]]
    fits = any(len(some) >= 6 and numeric([w for w in some if w.strip()]) for some in words)
    return look.path if fits else None


FORMAT = Format("mot", "MOTChallenge", _looks, read_mot, over=("text", "yolo"))
