"""Cut all crops of one image, which is decoded once."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchit_hf.crops.boxes import SMALLEST_WINDOW, Boxes, orient, to_pixels
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.cutting.select import KEPT, Words, in_picture, sharpness
from patchit_hf.data.canvas import RESAMPLE
from patchit_hf.data.pictures import BadPictureError, Picture, open_picture


@dataclass(frozen=True)
class Job:
    """An image and its boxes.

    Attributes:
        name: name of the image, relative to the folder.
        path: its file, or None if there is none.
        source: the video, camera or folder that the image belongs to.
        box: indices of the boxes ``[N]``.
        boxes: the boxes as the detections hold them ``[N, 4]``.
        reasons: why boxes are already dropped ``[N]``; empty where they are not.
        row: row of each box in its file ``[N]``.
        score: scores ``[N]``, NaN where there is none.
        size: width and height as the detections state them, or zeros.
        relative: whether boxes are in fractions of the image's size.
        picture: the image if it is already decoded, or the reason why it cannot be.
    """

    name: str
    path: Path | None
    source: str
    box: NDArray[np.int64]
    boxes: Boxes
    reasons: Words
    row: NDArray[np.int64]
    score: NDArray[np.float64]
    size: tuple[int, int]
    relative: bool
    picture: Picture | str | None = None


@dataclass
class Cut:
    """The result of a job.

    Attributes:
        crops: rows of the data set, each with the index of its box as ``number``.
        dropped: index of each dropped box, and why.
        bad: why the image cannot be used; empty if it can.
        notes: what was unusual about the image.
        decoded: whether the image was decoded.
        replaced: index of each replaced box, and of the box whose crop replaces it.
    """

    crops: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[tuple[int, str]] = field(default_factory=list)
    bad: str = ""
    notes: tuple[str, ...] = ()
    decoded: bool = False
    replaced: dict[int, int] = field(default_factory=dict)


def cut(job: Job, options: CropOptions) -> Cut:
    """Cut all boxes of an image. An image without a wanted box is not opened."""
    result = Cut()
    reasons = job.reasons
    if (reasons == KEPT).any() or isinstance(job.picture, str):
        try:
            picture = _picture(job, options)
            result.decoded, result.notes = True, picture.notes
            boxes = _placed(job, picture, options)
            reasons, windows = in_picture(boxes, reasons, picture.size, options)
            reasons = _write(job, picture, boxes, reasons, windows, options, result)
        except BadPictureError as error:
            result.bad = str(error)
            reasons = np.where(reasons == KEPT, "bad picture", reasons)
    kept = {crop["number"] for crop in result.crops}
    result.dropped = [
        (number, str(reason))
        for number, reason in zip(job.box.tolist(), reasons, strict=True)
        if number not in kept
    ]
    return result


def _picture(job: Job, options: CropOptions) -> Picture:
    if isinstance(job.picture, Picture):
        return job.picture
    if job.picture is not None:
        raise BadPictureError(job.picture)
    if job.path is None:
        raise BadPictureError("no such file")
    return open_picture(
        job.path, options.max_pixels, lambda stored: shrinkage(job, stored, options)
    )


def shrinkage(job: Job, stored: tuple[int, int], options: CropOptions) -> int:
    """Return how many times smaller an image may be decoded for the crops that are cut from it.

    Every window is at least twice as high as its crop even so, and crops are what they would be to
    within about one grey level in root mean square.

    Args:
        job: the image and its boxes.
        stored: width and height of the image as stored.
        options: how a box becomes a crop.

    Returns:
        1, 2, 4 or 8.
    """
    sides = (job.boxes[:, 2:] - job.boxes[:, :2])[job.reasons == KEPT]
    if job.relative:
        sides = sides * min(stored)  # of either side, whichever way up
    heights = sides[:, 1] if options.exif == "shown" else sides.min(axis=1, initial=np.inf)
    heights = heights * (1 + 2 * options.context)
    if options.outside == "shrink":
        heights = heights * SMALLEST_WINDOW
    lowest = min(heights.min(initial=np.inf), *stored)
    return next((n for n in (8, 4, 2) if lowest >= 2 * n * max(options.size)), 1)


def resize(pixels: Image.Image, window: Sequence[float], canvas: tuple[int, int]) -> Image.Image:
    """Return the window (xyxy, inside the image) as a crop of height and width ``canvas``."""
    box = (window[0], window[1], window[2], window[3])
    return pixels.resize((canvas[1], canvas[0]), RESAMPLE, box=box)


def _placed(job: Job, picture: Picture, options: CropOptions) -> Boxes:
    """Return the boxes in pixels of the image as it is shown.

    Raises:
        BadPictureError: if the size of the image is not the one that the detections state.
    """
    shown = picture.size
    size = picture.stored if options.exif == "stored" else shown
    if all(job.size) and job.size != size:
        other = picture.stored if options.exif == "shown" else shown
        hint = "; its EXIF tag rotates it, see --exif" if job.size == other else ""
        raise BadPictureError(
            f"is {size[0]}x{size[1]}, but the boxes are for {job.size[0]}x{job.size[1]}{hint}"
        )
    boxes = to_pixels(job.boxes, size) if job.relative else job.boxes
    if options.exif == "stored":
        boxes = orient(boxes, picture.stored, picture.orientation)
    return boxes


def _write(
    job: Job,
    picture: Picture,
    boxes: Boxes,
    reasons: Words,
    windows: Boxes,
    options: CropOptions,
    result: Cut,
) -> Words:
    """Add the crops of the kept boxes, and return the reasons for all boxes."""
    reasons = reasons.copy()
    for i in np.flatnonzero(reasons == KEPT).tolist():
        window = windows[i].tolist()
        if picture.hidden is not None and _reached(picture.hidden, window, options.size[0]):
            reasons[i] = "transparent"
            continue
        crop = resize(picture.pixels, picture.in_pixels(window), options.size)
        sharp = sharpness(np.asarray(crop))
        if sharp < options.min_sharpness:
            reasons[i] = "blurred"
            continue
        name, _, frame = job.name.partition("#")
        trunk = PurePosixPath(name).with_suffix("").as_posix().replace("/", "_")
        trunk += f"_{frame}" if frame else ""
        end = "jpg" if options.image_format == "jpeg" else "png"
        score = float(job.score[i])
        result.crops.append(
            {
                "image": {"bytes": _encoded(crop, options), "path": f"{trunk}_{job.row[i]}.{end}"},
                "source": job.source,
                "file": job.name,
                "row": int(job.row[i]),
                "box": boxes[i].tolist(),
                "window": window,
                "sharpness": sharp,
                "score": None if math.isnan(score) else score,
                "number": int(job.box[i]),
            }
        )
    return reasons


def _reached(mask: NDArray[np.bool_], window: list[float], height: int) -> bool:
    """Say whether a crop uses any pixel of a mask; the bicubic filter reaches 2 pixels further."""
    reach = 2 * max(1.0, (window[3] - window[1]) / height)
    x0, y0 = (max(0, math.floor(value - reach)) for value in window[:2])
    x1, y1 = (math.ceil(value + reach) for value in window[2:])
    return bool(mask[y0:y1, x0:x1].any())


def _encoded(crop: Image.Image, options: CropOptions) -> bytes:
    buffer = io.BytesIO()
    if options.image_format == "jpeg":
        crop.save(buffer, "JPEG", quality=options.quality, subsampling="4:4:4")
    else:
        crop.save(buffer, "PNG")
    return buffer.getvalue()
