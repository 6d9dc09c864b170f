"""Which format a file or a folder is in: by its content, not by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.crops.boxes import Boxes, from_cxcywh, from_xywh
from patchit_hf.crops.detections.coco import read_coco
from patchit_hf.crops.detections.mot import mot_files, read_mot
from patchit_hf.crops.detections.parse27k import read_parse27k
from patchit_hf.crops.detections.table import Detections
from patchit_hf.crops.detections.tabular import FORMS, is_table, read_table
from patchit_hf.crops.detections.text import read_text
from patchit_hf.crops.detections.voc import read_voc
from patchit_hf.crops.detections.yolo import NAMES, read_yolo

FORMATS = ("coco", "voc", "yolo", "mot", "text", "table", "parse27k")
SAMPLE = 65536  # bytes of a file that are looked at


def read_detections(
    path: str | Path,
    kind: str | None = None,
    *,
    image_list: str | Path | None = None,
    columns: dict[str, Any] | None = None,
    box_format: str | None = None,
) -> Detections:
    """Read boxes of persons in any of the formats.

    Args:
        path: a file, or a folder of files.
        kind: one of ``FORMATS``; seen from the content by default.
        image_list: for COCO results, the ground truth that names pictures and classes.
        columns: see ``read_table``.
        box_format: what the four numbers of a box are, in a table or in the authors' text.

    Raises:
        InputError: if nothing is there, it is in no known format, or it is damaged.

    Example:
        >>> _ = Path("boxes.txt").write_text("a.png 20 20 120 220")
        >>> boxes = read_detections("boxes.txt")
        >>> boxes.kind, boxes.images
        ('text', ['a.png'])
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"--detections {str(path)!r}: no such file or folder")
    kind = kind or detect(path)
    if box_format is not None and kind not in ("text", "table"):
        raise InputError(
            f"--box-format {box_format!r}: is for --format text and table; {kind} states its own"
        )
    if kind == "coco":
        found = read_coco(path, Path(image_list) if image_list else None)
    elif kind == "table":
        found = read_table(path, columns, box_format)
    elif kind == "text":
        found = _reread(read_text(path), box_format)
    else:
        readers = {"voc": read_voc, "yolo": read_yolo, "mot": read_mot, "parse27k": read_parse27k}
        found = readers[kind](path)
    if not len(found):
        raise InputError(f"--detections {str(path)!r}: no box in it (read as {kind})")
    return found


def detect(path: Path) -> str:
    """Return the format of a file or a folder.

    Raises:
        InputError: if it is none of ``FORMATS``.
    """
    if path.is_dir():
        if mot_files(path):
            return "mot"
        file = _first(path)
        if file is None:
            raise InputError(f"--detections {str(path)!r}: no .xml or .txt file in it")
        found = detect(file)
        return "yolo" if found == "text" and _numeric(_head(file)) else found
    if path.suffix == ".parquet":
        return "table"
    start = _start(path)
    if start.startswith(b"SQLite format 3\0"):
        return "parse27k"
    text = start.decode("utf-8", errors="replace").removeprefix("\ufeff").lstrip()
    if text[:1] in ("{", "["):
        return "coco"
    if text.startswith("<"):
        return "voc"
    if is_table(path):
        return "table"
    return _by_line(path, text)


def _by_line(path: Path, text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise InputError(f"--detections {str(path)!r}: is empty")
    first = lines[0]
    if first.count(",") >= 5 and _numeric(first.replace(",", " ")):
        return "mot"
    words = first.split()
    if len(words) >= 5 and _numeric(" ".join(words[1:])):
        return "yolo" if words[0].isdecimal() and _shares(lines) else "text"
    if len(words) >= 5 and _numeric(" ".join(words[-4:])):
        return "text"
    raise InputError(
        f"--detections {str(path)!r}: {first[:60]!r} is in no known format; name it with --format "
        f"({', '.join(FORMATS)})"
    )


def _shares(lines: list[str]) -> bool:
    """Say whether the numbers after the first are shares of a picture in all lines."""
    return all(
        _numeric(word) and -0.5 <= float(word) <= 1.5
        for line in lines[:100]
        for word in line.split()[1:5]
    )


def _numeric(text: str) -> bool:
    try:
        return bool([float(word) for word in text.split()])
    except ValueError:
        return False


def _first(folder: Path) -> Path | None:
    """Return the first annotation file that says something."""
    for end in ("*.xml", "*.txt"):
        for file in sorted(folder.rglob(end)):
            if file.stat().st_size and file.name not in NAMES:
                return file
    return None


def _head(file: Path) -> str:
    return _start(file).decode("utf-8", errors="replace").split("\n", 1)[0]


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SAMPLE)


def _reread(found: Detections, box_format: str | None) -> Detections:
    """Take the four numbers for what the user says they are."""
    if box_format not in (None, *FORMS):
        raise InputError(f"--box-format {box_format!r}: must be one of {', '.join(FORMS)}")
    boxes: Boxes = found.boxes
    if box_format == "xywh":
        boxes = from_xywh(boxes)
    if box_format == "cxcywh":
        boxes = from_cxcywh(boxes)
    return replace(found, boxes=boxes)
