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
    """Read one file, a tracker's results, or all sequences below a folder.

    A sequence is a folder with ``gt/gt.txt``, else ``det/det.txt``. Where there is none, each file
    is a sequence of its name, as trackers write them.

    A line is ``frame, track, left, top, width, height, confidence[, class, visibility | , x, y,
    z]``, and the first pixel is 1 (MOT16, Milan et al., arXiv 1603.00831). Ground truth whose
    confidence is 0 is to be ignored, and gets the label ``ignored``. The classes are those of
    MOT16, unless ``gt/labels.txt`` names others, as CVAT writes it. Each sequence is a source.

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
    if not builder.images:
        _results(builder, path)
    return builder.done()


def _results(builder: Builder, path: Path) -> None:
    """Read a folder of results, one file a sequence."""
    for name in files_below(path, (".txt",)):
        if not any(map(_is_line, read_lines(path / name)[:1])):
            if (path / name).stat().st_size:
                builder.note(f"{name}: is passed over; its first line is no frame, track and box")
            continue
        sequence = name.removesuffix(".txt")
        pattern = sequence.replace("{", "{{").replace("}", "}}") + "/img1/{frame:06d}"
        _read(builder, path / name, name, sequence, pattern)


def mot_files(folder: Path) -> list[Path]:
    """Return the files of all sequences below a folder."""
    names = files_below(folder, (".txt",))
    return [folder / name for name in names if f"/{name}".endswith(("/gt/gt.txt", "/det/det.txt"))]


def _read(builder: Builder, file: Path, name: str, sequence: str, picture: str) -> None:
    classes = _classes(file)
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
        truth = len(values) == 8 or (len(values) == 9 and values[8] >= 0)
        known = len(values) in (8, 9) and math.isfinite(values[7]) and values[7] >= 0
        label = classes.get(int(values[7]), key_of(values[7])) if known else None
        builder.box(
            image,
            (x, y, x + width, y + height),
            file=name,
            row=row,
            score=math.nan if truth or flag == -1 else flag,
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


def _classes(file: Path) -> dict[int, str]:
    """Return the names of the classes, which CVAT writes beside the ground truth."""
    listed = file.parent / "labels.txt"
    if file.name != "gt.txt" or not listed.is_file():
        return CLASSES
    return {i: line.strip() for i, line in enumerate(read_lines(listed), 1) if line.strip()}


def _looks(look: Look) -> Path | None:
    if look.is_folder and (files := mot_files(look.path)):
        return files[0]
    first = {file: line for file in look.some(".txt") for line in look.lines(file)[:1]}
    fits = [_is_line(line) for line in first.values() if numeric(split_line(line))]
    return next(iter(first)) if fits and all(fits) else None


def _is_line(line: str) -> bool:
    """Say whether a line begins with frame, track and a box in pixels.

    Between commas, anything will do for the numbers. Between spaces, a line could be YOLO's: then
    frame and track have to be whole, and the box has to be larger than a fraction.
    """
    if line.count(",") >= 5:
        return numeric([word for word in line.split(",") if word.strip()])
    words = split_line(line)
    if len(words) < 7 or not numeric(words):
        return False
    values = [float(word) for word in words]
    return values[0].is_integer() and values[1].is_integer() and min(values[4:6]) > 1.5


FORMAT = Format("mot", "MOTChallenge", _looks, read_mot, over=("text", "yolo"))
