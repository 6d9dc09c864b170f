"""The text format of the PatchIt authors: one ``filename minx miny maxx maxy`` per line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from patchit_hf.common.errors import InputError
from patchit_hf.common.text import read_lines
from patchit_hf.crops.boxes import from_cxcywh, from_xywh
from patchit_hf.crops.detections.format import Format, Look, numeric
from patchit_hf.crops.detections.table import Builder, Detections, four
from patchit_hf.crops.detections.tabular import FORMS


def read_text(path: Path, box_format: str | None = None) -> Detections:
    """Read a file. Image names may contain spaces; lines that begin with # are comments.

    Args:
        path: the file.
        box_format: meaning of the four numbers: ``xyxy`` if None, ``xywh`` or ``cxcywh``.

    Raises:
        InputError: for a malformed line, or if most boxes cannot be read.
    """
    builder = Builder("text")
    for row, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        where = f"{path.name}, row {row}"
        words = line.rsplit(None, 4)
        if len(words) < 5:
            raise InputError(f"{where}: {line.strip()!r}: must be filename minx miny maxx maxy")
        image = builder.picture(words[0].strip())
        try:
            builder.box(image, four(list(words[1:]), where), file=path.name, row=row)
        except InputError as error:
            builder.unreadable(image, error, file=path.name, row=row)
    return _as_xyxy(builder.done(), box_format)


def _as_xyxy(found: Detections, box_format: str | None) -> Detections:
    """Convert boxes read as xyxy from the format that the user names."""
    if box_format not in (None, *FORMS):
        raise InputError(f"--box-format {box_format!r}: must be one of {', '.join(FORMS)}")
    convert = {"xywh": from_xywh, "cxcywh": from_cxcywh}.get(box_format or "xyxy")
    return replace(found, boxes=convert(found.boxes)) if convert else found


def _looks(look: Look) -> Path | None:
    words = [line.split() for line in look.lines(look.path)[:1]] if not look.is_folder else []
    fits = any(len(some) >= 5 and numeric(some[-4:]) for some in words)
    return look.path if fits else None


FORMAT = Format("text", "lines of text", _looks, read_text, options=("box_format",))
