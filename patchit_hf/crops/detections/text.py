"""The text format of the PatchIt authors: one ``filename minx miny maxx maxy`` per line."""

from __future__ import annotations

from pathlib import Path

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections.table import Builder, Detections, four


def read_text(path: Path) -> Detections:
    """Read a file. Image names may contain spaces; lines that begin with # are comments.

    Raises:
        InputError: for a malformed line.
    """
    builder = Builder("text")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text: {error.reason}") from error
    for row, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        where = f"{path.name}, row {row}"
        words = line.rsplit(None, 4)
        if len(words) < 5:
            raise InputError(f"{where}: {line.strip()!r}: must be filename minx miny maxx maxy")
        box = four(list(words[1:]), where)
        builder.box(builder.picture(words[0].strip()), box, file=path.name, row=row)
    return builder.done()
