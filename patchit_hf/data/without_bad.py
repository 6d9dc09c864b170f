"""Crops without the bad images: which rows remain, and what takes the place of the others."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchit_hf.common.errors import one_line
from patchit_hf.common.files import write_text
from patchit_hf.common.resources import ResourceError
from patchit_hf.data.bad import substitute
from patchit_hf.data.decoded import Found, found_as_json, read_found
from patchit_hf.data.lazy import LazyCrops, Scan, none_left

logger = logging.getLogger(__name__)


def without_bad(crops: LazyCrops, note: Path | None, beforehand: bool, *, main: bool) -> LazyCrops:
    """Find the bad images before training starts, if the policy needs it.

    This decodes all images once. The result is cached.
    """
    if crops.bad.policy != "skip" and not (beforehand and crops.bad.policy == "replace"):
        return crops
    file = note and note.with_suffix(".bad.json")
    found = None if file is None else _recalled(file)
    if found is None:
        found = Scan(crops).run(main=main)
        if file:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_text(file, json.dumps(found_as_json(found)), shared=True)
            except (OSError, ResourceError) as error:
                logger.warning("the list of bad images is not kept: %s", one_line(error))
    crops.index = rows_kept(found, crops)
    end = ending(crops.index, crops)
    crops.fingerprint += end
    crops.known_as = tuple(name + end for name in crops.known_as)
    return crops


def rows_kept(found: Found, crops: LazyCrops) -> NDArray[np.int64] | None:
    """Return the row of each crop under the policy, None for all in order; record bad images."""
    bad, count = crops.bad, len(crops.rows)
    if not found:
        return None
    if len(found) == count:
        bad.add(next(iter(found.values())))
        raise none_left(bad, count)
    index = np.arange(count)
    for row, image in found.items():
        became = image.became
        if bad.policy == "replace":
            index[row] = next(r for r in _substitutes(row, count) if r not in found)
            became = f"replaced by row {crops.rows.original(int(index[row]))}"
        bad.add(replace(image, part=bad.part, became=became))
    return np.delete(index, list(found)) if bad.policy == "skip" else index


def ending(index: NDArray[np.int64] | None, crops: LazyCrops) -> str:
    """Return what is added to the fingerprint of crops some of which are left out."""
    return "-without-bad" if index is not None and crops.bad.policy == "skip" else ""


def _recalled(file: Path) -> Found | None:
    """Return the bad images that an earlier start found; None if that is not known."""
    if not file.exists():
        return None
    try:
        return read_found(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s is damaged and made anew: %s", file, one_line(error))
        return None


def _substitutes(row: int, size: int) -> Iterator[int]:
    attempt = 0
    while True:
        yield substitute(row, attempt, size)
        attempt += 1
