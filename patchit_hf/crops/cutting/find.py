"""Detect people once, and keep the boxes beside the crops for a run that is continued."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import replacing
from patchit_hf.crops.cutting.match import Images
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.cutting.plan import open_images
from patchit_hf.crops.cutting.shards import FOUND
from patchit_hf.crops.cutting.videos import VideoFolder
from patchit_hf.crops.detections.table import Builder, Detections
from patchit_hf.crops.detector import Frame, find_people, open_detector
from patchit_hf.data.pictures import BadPictureError, Picture

VERSION = 1


def detect(
    images: str | Path,
    output: str | Path,
    detector: str,
    options: CropOptions,
    *,
    label: str | None = None,
    score: float = 0.5,
    batch: int = 8,
    skip_bad: bool = False,
) -> Detections:
    """Detect people in images or videos, or read the boxes that an earlier run detected.

    Args:
        images: folder of the images or videos, or one video.
        output: folder of the data set.
        detector: see ``patchit_hf.crops.detector.open_detector``.
        options: how a box becomes a crop.
        label: the class that means a person; found by its name if None.
        score: lowest score of a box.
        batch: number of images per batch.
        skip_bad: skip bad images instead of raising an error.

    Raises:
        InputError: if the detector cannot be opened, an image is bad and ``skip_bad`` is False, or
            nobody is found.
    """
    if options.exif != "shown":
        raise InputError(
            "--exif stored: must be shown, since a detector sees images as they are shown"
        )
    folder = open_images(images, options, "detector")
    file = Path(output).expanduser() / FOUND
    about = [VERSION, detector, label, score, options.every, options.max_pixels, folder.files]
    key = hashlib.blake2b(json.dumps(about).encode(), digest_size=16).hexdigest()
    known = _read(file, key)
    if known is not None:
        return known
    total = len(folder.files) if not isinstance(folder, VideoFolder) else None
    found, bad = find_people(
        _frames(folder, options, skip_bad=skip_bad), open_detector(detector, label), batch=batch,
        score=score, total=total,
    )  # fmt: skip
    if not len(found):
        raise InputError(
            f"--detector {detector!r}: found nobody in {str(images)!r} with a score of at least "
            f"{score:g}; try a lower --detector-score"
        )
    _write(file, key, found, bad)
    return replace(found, bad=bad)


def _frames(folder: Images, options: CropOptions, *, skip_bad: bool) -> Iterator[Frame]:
    for name, picture in _pictures(folder, options):
        if isinstance(picture, Picture):
            yield name, picture.pixels
        elif skip_bad:
            yield name, picture
        else:
            raise InputError(f"image {name}: {picture} (--on-bad-image skip leaves it out)")


def _pictures(folder: Images, options: CropOptions) -> Iterator[tuple[str, Picture | str]]:
    if isinstance(folder, VideoFolder):
        yield from folder.frames(options.every)
        return
    for name in folder.files:
        try:
            yield name, folder.picture(name, options.max_pixels)
        except BadPictureError as error:
            yield name, str(error)


def _write(file: Path, key: str, found: Detections, bad: dict[str, str]) -> None:
    columns = {
        "image": [found.images[i] for i in found.image.tolist()],
        "box": found.boxes.tolist(),
        "score": found.score.tolist(),
        "row": found.row.tolist(),
        "file": [found.files[i] for i in found.file.tolist()],
        "size": [found.sizes[i].tolist() for i in found.image.tolist()],
    }
    about = {"key": key, "bad": json.dumps(bad), "images": json.dumps(found.images)}
    table = pyarrow.table(columns).replace_schema_metadata(about)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file, shared=True) as draft:
        pyarrow.parquet.write_table(table, draft)


def _read(file: Path, key: str) -> Detections | None:
    """Return the boxes of an earlier run; None if the file is of another run, or damaged."""
    if not file.is_file():
        return None
    try:
        table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowException, OSError):
        return None
    about = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    if about.get("key") != key:
        return None
    builder = Builder("detector")
    sizes = dict(zip(table["image"].to_pylist(), table["size"].to_pylist(), strict=True))
    for name in json.loads(about["images"]):
        width, height = sizes.get(name, (0, 0))
        builder.picture(name, (width, height))
    for row in table.to_pylist():
        x0, y0, x1, y1 = row["box"]
        builder.box(
            builder.picture(row["image"]), (x0, y0, x1, y1), file=row["file"], row=row["row"],
            score=row["score"], label="person",
        )  # fmt: skip
    return replace(builder.done(), bad=json.loads(about["bad"]))
