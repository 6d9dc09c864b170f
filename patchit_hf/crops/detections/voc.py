"""Pascal VOC: one XML file per image."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.names import files_below
from patchit_hf.common.text import read_text
from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.table import Builder, Detections, four, pixels

EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path) -> Detections:
    """Read one file, or all files below a folder.

    Boxes are 1-based and include their last pixel, as in the VOC development kit. The image is the
    one that is called like the XML file; if there is none, the one that ``<filename>`` states.

    Raises:
        InputError: for a file that is not XML or not an annotation.
    """
    builder = Builder("voc")
    names = [path.name] if path.is_file() else files_below(path, (".xml",))
    for name in names:
        root = _parsed(path if path.is_file() else path / name)
        if root.tag != "annotation" and path.is_dir():
            builder.note(f"{name}: is passed over; <{root.tag}> is not VOC")
            continue
        if root.tag != "annotation":
            raise InputError(f"{path}: <{root.tag}> is not VOC; the root must be <annotation>")
        size = tuple(pixels(root.findtext(f"size/{key}")) for key in ("width", "height"))
        own = PurePosixPath(name).with_suffix("")
        stated = (root.findtext("filename") or "").strip().replace("\\", "/")
        there = own.parent / stated
        if os.path.splitext(stated.rpartition("/")[2])[0] == own.name:
            image = builder.picture(there.as_posix(), (size[0], size[1]))
        else:
            other = there.as_posix() if stated else ""
            image = builder.picture(own.as_posix(), (size[0], size[1]), other=other)
        for row, item in enumerate(root.findall("object"), 1):
            try:
                box = _box(item, f"{name}, object {row}")
            except InputError as error:
                builder.unreadable(image, error, file=name, row=row)
                continue
            label = (item.findtext("name") or "").strip() or None
            builder.box(image, box, file=name, row=row, label=label)
    return builder.done()


def _parsed(file: Path) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        try:  # an encoding that the file states wrongly, or that the parser does not know
            root = ElementTree.fromstring(read_text(file).partition("?>")[2])
        except (ElementTree.ParseError, InputError):
            raise InputError(f"{file}: is damaged: {one_line(error)}") from error
    return root


def _box(item: ElementTree.Element, where: str) -> tuple[float, float, float, float]:
    box = item.find("bndbox")
    if box is None:
        raise InputError(f"{where}: has no <bndbox>")
    x0, y0, x1, y1 = four([box.findtext(key) for key in EDGES], where)
    return x0 - 1, y0 - 1, x1, y1


def _looks(look: Look) -> Path | None:
    return next((file for file in look.some(".xml") if look.tag(file) == "annotation"), None)


FORMAT = Format("voc", "Pascal VOC", _looks, read_voc)
