"""Pascal VOC: one XML file a picture."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections.table import Builder, Detections, four

EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path) -> Detections:
    """Read a file or all of a folder; the first pixel is 1, and the last belongs to the box.

    Source of the convention: the VOC development kit, where boxes are 1-based and inclusive.

    Raises:
        InputError: for a file that is no XML or no annotation.
    """
    builder = Builder("voc")
    files = [path] if path.is_file() else sorted(path.rglob("*.xml"))
    for file in files:
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        try:
            root = ElementTree.parse(file).getroot()
        except (ElementTree.ParseError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: is damaged: {error}") from error
        if root.tag != "annotation":
            raise InputError(f"{file}: <{root.tag}> is no VOC file; must be <annotation>")
        size = tuple(int(root.findtext(f"size/{key}") or 0) for key in ("width", "height"))
        stated = (root.findtext("filename") or "").strip()
        folder = Path(name).parent
        image = builder.picture(
            (folder / (stated or Path(name).stem)).as_posix(), (size[0], size[1])
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
