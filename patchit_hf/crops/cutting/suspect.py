"""Notice, before anything is cut, that boxes are in another format than assumed."""

from __future__ import annotations

import numpy as np

from patchit_hf.common.errors import InputError
from patchit_hf.crops.boxes import Boxes, area, from_xywh, sizes
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.cutting.plan import Plan

SAMPLE = 64  # images whose size is read
FEW = 3  # fewer odd boxes than this raise no doubt


def check_boxes(plan: Plan, options: CropOptions) -> None:
    """Compare boxes with the sizes of some of their images.

    Raises:
        InputError: if the boxes seem to be fractions of the image's size, xywh read as xyxy, or
            xyxy read as xywh, or if most of them lie outside their images.
    """
    pairs = _sample(plan, options)
    if not options.check_boxes or not pairs:
        return
    boxes = np.concatenate([box for box, _ in pairs])
    frame = np.concatenate([np.tile(np.array(size), (len(box), 1)) for box, size in pairs])
    finite = np.isfinite(boxes).all(axis=1)
    boxes, frame = boxes[finite], frame[finite]
    doubt = None if len(boxes) < FEW else _doubt(boxes, frame, plan.found.relative)
    if doubt:
        raise InputError(
            f"the boxes (read as {plan.found.kind}) {doubt}; if they are correct, give "
            "--no-check-boxes"
        )


def _doubt(boxes: Boxes, frame: Boxes, relative: bool) -> str | None:
    """Say what is wrong with boxes ``[N, 4]`` in frames (width, height) ``[N, 2]``, if anything."""
    count = len(boxes)
    if (np.abs(boxes) <= 1.5).all() and not relative:
        return "look like fractions of the image size; must be pixels, or give --format yolo"
    swapped = (sizes(boxes) <= 0).any(axis=1)
    if swapped.sum() >= max(FEW, 0.1 * count) and _inside(from_xywh(boxes), frame).mean() > 0.9:
        return (
            f"look like xywh read as xyxy: {swapped.sum()} of {count} have swapped corners, "
            "but as x y width height they lie inside their images; give --box-format xywh"
        )
    leaves = ~_inside(boxes, frame) & ~swapped
    raw = np.concatenate([boxes[:, :2], sizes(boxes)], axis=1)
    ordered = (sizes(raw) > 0).all(axis=1) & _inside(raw, frame)
    if leaves.sum() >= max(FEW, 0.25 * count) and ordered.mean() > 0.95:
        return (
            f"look like xyxy read as xywh: {leaves.sum()} of {count} leave their image, but "
            "as two corners they would not; give --box-format xyxy, or correct the file"
        )
    inside = np.concatenate([np.clip(boxes[:, :2], 0, frame), np.clip(boxes[:, 2:], 0, frame)], 1)
    far = (area(inside) < 0.5 * area(boxes)) & ~swapped
    if far.sum() >= max(FEW, 0.5 * count):
        return (
            f"do not fit the images: {far.sum()} of {count} lie mostly outside theirs; were the "
            "images resized after the boxes were made?"
        )
    return None


def _inside(boxes: Boxes, frame: Boxes) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Say which boxes lie in their frame, with a tolerance of 2 % of its size."""
    slack = 0.02 * frame
    result = (boxes[:, :2] >= -slack) & (boxes[:, 2:] <= frame + slack)
    return np.asarray(result.all(axis=1), dtype=np.bool_)


def _sample(plan: Plan, options: CropOptions) -> list[tuple[Boxes, tuple[int, int]]]:
    """Return boxes in pixels and the size of their image, for evenly spaced images."""
    there = [
        i for i in range(len(plan.files)) if plan.files[i] and plan.starts[i] < plan.starts[i + 1]
    ]
    step = max(1, len(there) // SAMPLE)
    pairs = []
    for image in there[::step][:SAMPLE]:
        size = plan.folder.size(str(plan.files[image]), stored=options.exif == "stored")
        if size is None:
            continue
        rows = np.arange(plan.starts[image], plan.starts[image + 1])
        pairs.append((plan.found.boxes_in(rows, size), size))
    return pairs
