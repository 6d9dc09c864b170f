"""Detect the format of a file or folder of boxes from its content, and read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.crops.boxes import Boxes, from_cxcywh, from_xywh
from patchit_hf.crops.choices import FORMATS as FORMATS
from patchit_hf.crops.detections.coco import read_coco
from patchit_hf.crops.detections.mot import mot_files, read_mot
from patchit_hf.crops.detections.parse27k import read_parse27k
from patchit_hf.crops.detections.table import Detections
from patchit_hf.crops.detections.tabular import FORMS, is_table, read_table
from patchit_hf.crops.detections.text import read_text
from patchit_hf.crops.detections.voc import read_voc
from patchit_hf.crops.detections.yolo import NAMES, read_yolo

SAMPLE = 65536  # bytes of a file that are read to detect its format


def read_detections(
    path: str | Path,
    kind: str | None = None,
    *,
    image_list: str | Path | None = None,
    columns: dict[str, Any] | None = None,
    box_format: str | None = None,
) -> Detections:
    r"""Read boxes of people in any of ``FORMATS``.

    Args:
        path: a file, or a folder of files.
        kind: one of ``FORMATS``; detected from the content if None.
        image_list: for COCO results, the ground truth that holds their images and classes.
        columns: names of a table's columns; see ``read_table``.
        box_format: meaning of the four numbers of a box in a table or in lines of text: ``xyxy``,
            ``xywh`` or ``cxcywh``.

    Raises:
        InputError: if the path does not exist, or it is damaged or in no known format.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from patchit_hf.crops import read_detections
        >>> file = Path(tempfile.mkdtemp()) / "boxes.csv"
        >>> _ = file.write_text("image,x,y,w,h\na.jpg,10,20,50,120\nb.jpg,0,0,40,100\n")
        >>> found = read_detections(file)
        >>> found.kind, found.images, found.boxes.tolist()[0]
        ('table', ['a.jpg', 'b.jpg'], [10.0, 20.0, 60.0, 140.0])
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"--detections {str(path)!r}: no such file or folder")
    kind = kind or detect(path)
    if box_format is not None and kind not in ("text", "table"):
        raise InputError(
            f"--box-format {box_format!r}: is for --format text and table; {kind} defines its own"
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
        raise InputError(f"--detections {str(path)!r}: holds no box (read as {kind})")
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
            raise InputError(f"--detections {str(path)!r}: the folder holds no .xml or .txt file")
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
        f"--detections {str(path)!r}: {first[:60]!r} is in no known format; choose one with "
        f"--format ({', '.join(FORMATS)})"
    )


def _shares(lines: list[str]) -> bool:
    """Say whether all numbers but each line's first look like fractions of an image's size."""
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
    """Return the first annotation file that is not empty."""
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
    """Convert boxes read as xyxy from the format that the user names."""
    if box_format not in (None, *FORMS):
        raise InputError(f"--box-format {box_format!r}: must be one of {', '.join(FORMS)}")
    boxes: Boxes = found.boxes
    if box_format == "xywh":
        boxes = from_xywh(boxes)
    if box_format == "cxcywh":
        boxes = from_cxcywh(boxes)
    return replace(found, boxes=boxes)
