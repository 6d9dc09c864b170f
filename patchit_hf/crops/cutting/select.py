"""Pure functions that decide which boxes of an image are cut, and why the others are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from patchit_hf.crops.boxes import (
    Boxes,
    clip,
    covered,
    fit_windows,
    sizes,
    touches,
    visible,
    windows,
)
from patchit_hf.crops.cutting.options import CropOptions

KEPT = ""
REASONS = {
    "not finite": "a coordinate is NaN or infinite",
    "no area": "width or height is zero or negative",
    "class": "its class is not a person",
    "score": "its score is below --min-score",
    "other frame": "its frame is not one of every k-th (--every)",
    "thinned": "it is not every k-th box of its track (--keep-every)",
    "bad picture": "its image cannot be used",
    "outside": "it lies outside the frame",
    "mostly outside": "its fraction inside the frame is below --min-visible",
    "too short": "its height is below --min-height",
    "too tall": "its height is above --max-height",
    "too narrow": "its ratio of width to height is below --min-aspect",
    "too wide": "its ratio of width to height is above --max-aspect",
    "duplicate": "it repeats another box of the image",
    "covered": "another person's box covers more of it than --max-overlap",
    "cut": "it touches the frame's edge (--no-keep-cut)",
    "leaves the frame": "its crop would leave the frame by more than --outside can fix",
    "transparent": "part of its crop is transparent",
    "blurred": "its sharpness is below --min-sharpness",
}
MANY = 12  # classes that are named one by one
LEFT_OUT = ("thinned", "other frame")  # nothing is wrong with these
Words = NDArray[np.object_]


def list_classes(classes: dict[str, int]) -> str:
    """Return the classes that are not people as text, those beyond the first dozen as a sum.

    Example:
        >>> list_classes({"car": 1200, "ignored": 3})
        'car: 1,200, ignored: 3'
    """
    first, rest = list(classes.items())[:MANY], list(classes.values())[MANY:]
    named = [f"{name}: {count:,}" for name, count in first]
    return ", ".join(named + [f"{len(rest):,} others: {sum(rest):,}"] * bool(rest))


def before_decoding(
    boxes: Boxes, person: NDArray[np.bool_], score: NDArray[np.float64], options: CropOptions
) -> Words:
    """Return why boxes are dropped ``[N]``, as far as this is known before decoding.

    The reason is empty where a box is kept.
    """
    reasons = np.full(len(boxes), KEPT, dtype=object)
    finite = np.isfinite(boxes).all(axis=1)
    with np.errstate(invalid="ignore"):
        empty = finite & (sizes(boxes) <= 0).any(axis=1)
        low = score < options.min_score  # False for NaN, which stands for no score
    for name, mask in (
        ("not finite", ~finite),
        ("no area", empty),
        ("class", ~person),
        ("score", low),
    ):
        reasons[mask & (reasons == KEPT)] = name
    return reasons


def thin(reasons: Words, track: NDArray[np.int64], every: int) -> Words:
    """Mark all but every k-th kept box of each track as ``thinned``, in the boxes' order."""
    reasons = reasons.copy()
    rows = np.flatnonzero((reasons == KEPT) & (track >= 0))
    order = rows[np.argsort(track[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(track[order], prepend=-1))
    count = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    reasons[order[count % every != 0]] = "thinned"
    return reasons


def in_picture(
    boxes: Boxes, reasons: Words, size: tuple[int, int], options: CropOptions
) -> tuple[Words, Boxes]:
    """Decide which boxes of one image are kept.

    Args:
        boxes: xyxy in pixels ``[N, 4]``.
        reasons: results of ``before_decoding`` and ``thin`` ``[N]``.
        size: width and height of the image.
        options: the limits.

    Returns:
        The reasons ``[N]``, empty where a box is kept, and the windows ``[N, 4]``, valid where a
        box is kept.
    """
    reasons = reasons.copy()
    rows = np.flatnonzero((reasons == KEPT) | (reasons == "thinned"))
    people = boxes[rows]
    width, height = sizes(people).T
    aspect = width / height
    inside = visible(people, size)
    shown = clip(people, size)
    cuts, kept = fit_windows(windows(people, options.size, options.context), size, options.outside)
    tests = {
        "outside": inside <= 0,
        "mostly outside": inside < options.min_visible,
        "too short": height < options.min_height,
        "too tall": height > options.max_height,
        "too narrow": aspect < options.min_aspect,
        "too wide": aspect > options.max_aspect,
        "duplicate": _repeated(people),
        "covered": _covered(shown, inside > 0, options.max_overlap),
        "cut": touches(people, size) & (not options.keep_cut),
        "leaves the frame": ~kept,
    }
    found = reasons[rows]
    for name, mask in tests.items():
        found[mask & (found == KEPT)] = name
    reasons[rows] = found
    fitted = np.zeros_like(boxes)
    fitted[rows] = cuts
    return reasons, fitted


def sharpness(pixels: NDArray[np.uint8]) -> float:
    """Return the variance of the Laplacian of a crop's grey values, uint8 ``[H, W, 3]``.

    Source: Pech-Pacheco et al., ICPR 2000 (LAPV), with the four-neighbour kernel.
    """
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    middle = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    return float(laplacian.var())


def _repeated(boxes: Boxes) -> NDArray[np.bool_]:
    """Return which boxes repeat an earlier one, to a hundredth of a pixel."""
    again = np.ones(len(boxes), dtype=np.bool_)
    if len(boxes):
        again[np.unique(boxes.round(2), axis=0, return_index=True)[1]] = False
    return again


def _covered(boxes: Boxes, there: NDArray[np.bool_], limit: float) -> NDArray[np.bool_]:
    result = np.zeros(len(boxes), dtype=np.bool_)
    if limit < 1:
        rows = np.flatnonzero(there & ~_repeated(boxes))
        result[rows] = covered(boxes[rows]) > limit
    return result
