"""Pascal VOC: one XML file per image."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.crops.detections.table import MOST_PIXELS, Builder, Detections, four, number

EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path) -> Detections:
    """Read one file, or all files below a folder.

    Boxes are 1-based and include their last pixel, as in the VOC development kit.

    Raises:
        InputError: for a file that is not XML or not an annotation.
    """
    builder = Builder("voc")
    files = [path] if path.is_file() else sorted(path.rglob("*.xml"))
    for file in files:
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        try:
            root = ElementTree.parse(file).getroot()
        except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
            raise InputError(f"{file}: is damaged: {one_line(error)}") from error
        if root.tag != "annotation":
            raise InputError(f"{file}: <{root.tag}> is not VOC; the root must be <annotation>")
        size = tuple(
            number(root.findtext(f"size/{key}") or 0, name, key) for key in ("width", "height")
        )
        if not all(0 <= side < MOST_PIXELS for side in size):
            raise InputError(f"{name}: size {size}: must be numbers of pixels")
        stated = (root.findtext("filename") or "").strip()
        folder = Path(name).parent
        image = builder.picture(
            (folder / (stated or Path(name).stem)).as_posix(), (int(size[0]), int(size[1]))
        )
        for row, item in enumerate(root.findall("object"), 1):
            where = f"{name}, object {row}"
            box = item.find("bndbox")
            if box is None:
                raise InputError(f"{where}: has no <bndbox>")
            x0, y0, x1, y1 = four([box.findtext(key) for key in EDGES], where)
            label = (item.findtext("name") or "").strip() or None
            builder.box(image, (x0 - 1, y0 - 1, x1, y1), file=name, row=row, label=label)
    return builder.done()
