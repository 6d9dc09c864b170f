"""CVAT's XML: "CVAT for images 1.1" and "CVAT for video 1.1"."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from patchit_hf.common.errors import InputError
from patchit_hf.crops.boxes import Box, around, turned
from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.layout import files_below, relative, settle_splits, split_in
from patchit_hf.crops.detections.table import Builder, Detections, number, pixels

EDGES = {
    "box": ("xtl", "ytl", "xbr", "ybr"), "mask": ("left", "top", "width", "height"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}  # fmt: skip
POINTS = ("polygon", "polyline", "points", "cuboid")
SHAPES = (*EDGES, *POINTS, "skeleton")


def read_cvat(path: Path) -> Detections:
    """Read one file, or all CVAT files below a folder; other XML files are passed over.

    A shape of any kind, turned or not, is replaced by its bounding box. A video's frames count from
    0, or are the images ``frame_000000`` of the export. Its tracks become tracks; where a person is
    out of view (``outside``), the box gets that label. The subsets Train, Validation and Test are
    splits.

    Raises:
        InputError: for a damaged file, a project of several videos, or if half of the shapes are
            malformed.
    """
    builder = Builder("cvat")
    for file in [path] if path.is_file() else files_below(path, ".xml"):
        try:
            root = ElementTree.parse(file).getroot()
        except (ElementTree.ParseError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: is damaged: {error}") from error
        if root.tag != "annotations":
            if file == path:
                raise InputError(f"{file}: <{root.tag}> is not CVAT; must be <annotations>")
            continue
        name = relative(file, path)
        folder = name.rpartition("/")[0]
        _images(builder, root, name, folder)
        _tracks(builder, root, name, folder)
    return settle_splits(builder.done())


def _images(builder: Builder, root: Element, name: str, folder: str) -> None:
    row, seen = 0, set[str]()
    for item in root.iter("image"):
        stated, subset = item.get("name"), item.get("subset") or ""
        if not stated:
            raise InputError(f"{name}: an <image> has no name")
        inside = "" if stated.startswith(f"{subset}/") else subset  # as CVAT exports a project
        image = "/".join(part for part in (folder, inside, stated) if part)
        if image in seen:
            raise InputError(
                f"{name}: two images are called {stated}; export each task by itself, so that it "
                "is clear whose boxes are whose"
            )
        seen.add(image)
        picture = builder.picture(
            image,
            (pixels(item.get("width")), pixels(item.get("height"))),
            split=split_in(subset),
        )
        for shape in item:
            if shape.tag in SHAPES:
                row += 1
                _add(builder, picture, shape, name, row, shape.get("label"), None)


def _tracks(builder: Builder, root: Element, name: str, folder: str) -> None:
    tracks = root.findall("track")
    if len({track.get("task_id") for track in tracks}) > 1:
        raise InputError(f"{name}: holds the tracks of several tasks; export each task by itself")
    stated = (root.findtext("meta/source") or root.findtext(".//task/source") or "").strip()
    source = f"{folder}/{stated}".strip("/") if stated else folder or Path(name).stem
    sides = [root.findtext(f".//original_size/{key}") for key in ("width", "height")]
    size, row = (pixels(sides[0]), pixels(sides[1])), 0
    for track in tracks:
        for shape in track:
            if shape.tag not in SHAPES:
                continue
            row += 1
            frame = number(shape.get("frame"), f"{name}, shape {row}", "frame")
            exported = f"{folder}/images/frame_{int(frame):06d}".lstrip("/")
            picture = builder.picture(f"{source}#{int(frame)}", size, source, other=exported)
            label = "outside" if shape.get("outside") == "1" else track.get("label")
            _add(builder, picture, shape, name, row, label, f"{source}/{track.get('id')}")


def _add(
    builder: Builder,
    picture: int,
    shape: Element,
    name: str,
    row: int,
    label: str | None,
    track: str | None,
) -> None:
    try:
        box = _box(shape, f"{name}, shape {row}")
    except InputError as error:
        builder.unreadable(picture, error, file=name, row=row)
        return
    builder.box(picture, box, file=name, row=row, label=label, track=track)


def _box(shape: Element, where: str) -> Box:
    """Return the bounding box of a shape."""
    if shape.tag == "skeleton":
        points = [point for part in shape.iter("points") for point in _points(part, where)]
        return around(points)
    if shape.tag in POINTS:
        return around(_points(shape, where))
    a, b, c, d = (number(shape.get(edge), where, edge) for edge in EDGES[shape.tag])
    if shape.tag == "mask":
        return a, b, a + c, b + d
    box = (a - c, b - d, a + c, b + d) if shape.tag == "ellipse" else (a, b, c, d)
    degrees = number(shape.get("rotation", "0"), where, "rotation")
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    return turned(box, degrees, centre) if degrees else box


def _points(shape: Element, where: str) -> list[tuple[float, float]]:
    if shape.tag == "cuboid":
        corners = [f"{corner}{side}" for corner in ("tl", "tr", "br", "bl") for side in (1, 2)]
        return [
            (number(shape.get(f"x{c}"), where, f"x{c}"), number(shape.get(f"y{c}"), where, f"y{c}"))
            for c in corners
        ]
    pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";") if pair]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(f"{where}: points {shape.get('points')!r}: must be x,y;x,y;...")
    return [(number(x, where, "point"), number(y, where, "point")) for x, y in pairs]


def _looks(look: Look) -> Path | None:
    return next((file for file in look.some(".xml") if look.tag(file) == "annotations"), None)


FORMAT = Format("cvat", "CVAT XML", _looks, read_cvat)
