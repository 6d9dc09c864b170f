"""Detect the format of a file or folder of boxes from its content, and read it."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError, reading
from patchit_hf.common.text import read_json_value
from patchit_hf.crops.choices import FORMATS as FORMATS
from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.layout import relative, splits_by_folder
from patchit_hf.crops.detections.table import Detections

# What formats are made of.
_SHARED = ("class_names", "detect", "format", "joined", "layout", "objects", "table", "table_file")
_ROOM = __name__.rpartition(".")[0]


def list_formats() -> list[Format]:
    """Return the formats: each module of this folder is one, but for those that they share.

    Example:
        >>> "kitti" in [form.name for form in list_formats()]
        True
    """
    modules = pkgutil.iter_modules(import_module(_ROOM).__path__)
    names = sorted(module.name for module in modules if module.name not in _SHARED)
    return [import_module(f"{_ROOM}.{name}").FORMAT for name in names]


def read_detections(
    path: str | Path,
    kind: str | None = None,
    *,
    image_list: str | Path | None = None,
    columns: dict[str, Any] | None = None,
    box_format: str | None = None,
) -> Detections:
    r"""Read boxes of people in any of ``FORMATS``; docs/formats.md has an example of each.

    Args:
        path: a file, or a folder of files.
        kind: one of ``FORMATS``; detected from content and layout if None.
        image_list: for COCO results, the ground truth that holds their images and classes.
        columns: names of a table's columns; see ``read_table``.
        box_format: meaning of the four numbers of a box in a table or in lines of text: ``xyxy``,
            ``xywh`` or ``cxcywh``.

    Raises:
        InputError: if the path does not exist, it is damaged, or it is in no known format or in
            several.

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
    with reading(f"--detections {str(path)!r}"):
        form = detect(path) if kind is None else _named(kind)
    given = {"image_list": image_list, "columns": columns, "box_format": box_format}
    given = {name: value for name, value in given.items() if value}
    for name, value in given.items():
        if name not in form.options:
            allowed = " and ".join(f.name for f in list_formats() if name in f.options)
            raise InputError(
                f"--{name.replace('_', '-')} {str(value)!r}: is for --format {allowed}; "
                f"{form.name} defines its own"
            )
    with reading(f"--detections {str(path)!r}"):
        found = form.read(path, **given)
        if path.is_dir():
            found = splits_by_folder(found)
    if not len(found):
        raise InputError(f"--detections {str(path)!r}: holds no box (read as {form.name})")
    return found


def detect(path: Path) -> Format:
    """Return the format of a file or a folder.

    Raises:
        InputError: if it is in none, or it may be in several.
    """
    look, formats = Look(path), list_formats()
    shown = {form: file for form in formats if (file := form.looks(look)) is not None}
    less = {name for form in shown for name in form.over}
    left = [(form, relative(file, path)) for form, file in shown.items() if form.name not in less]
    if len(left) == 1:
        return left[0][0]
    if not left:
        raise _unknown(look, formats)
    (one, its), (other, others) = left[:2]
    raise InputError(
        f"--detections {str(path)!r}: may be {one.name} ({its}) or {other.name} ({others}); choose "
        f"with --format {one.name} or --format {other.name}"
    )


def _named(kind: str) -> Format:
    for form in list_formats():
        if form.name == kind:
            return form
    known = ", ".join(form.name for form in list_formats())
    raise InputError(f"--format {kind!r}: must be one of {known}")


def _unknown(look: Look, formats: list[Format]) -> InputError:
    """Say what a path without a format begins with."""
    where, known = f"--detections {str(look.path)!r}", ", ".join(form.name for form in formats)
    if look.is_folder:
        return InputError(f"{where}: no file of the folder is in a known format ({known})")
    lines = look.lines(look.path)
    if not lines:
        return InputError(f"{where}: is empty")
    seen = repr(lines[0][:60])
    bracket, keys = look.keys(look.path)
    if bracket:
        read_json_value(look.path)  # raises if it is damaged
        seen = f"JSON with {', '.join(sorted(keys)) or 'no keys'}"
    elif look.tag(look.path):
        seen = f"XML with <{look.tag(look.path)}>"
    return InputError(f"{where}: {seen} is in no known format; choose one with --format ({known})")
