"""Boxes that are already in memory: ``supervision.Detections``, which need not be installed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections.table import Builder, Detections


def from_supervision(found: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Detections:
    """Take the boxes of a detector or a tracker.

    Args:
        found: a picture's name, relative to the pictures' folder, and its
            ``supervision.Detections`` (anything with ``xyxy`` ``[N, 4]`` and, if it has them,
            ``confidence``, ``class_id``, ``tracker_id`` and ``data["class_name"]``). The row of a
            box is its number in them, from 1.

    Raises:
        InputError: if something has no ``xyxy`` of that shape.

    Example:
        >>> from types import SimpleNamespace  # for ``supervision.Detections``
        >>> seen = SimpleNamespace(xyxy=[[20, 20, 120, 220]], confidence=[0.9], class_id=[0])
        >>> boxes = from_supervision({"a.png": seen})  # for make_crops(boxes, "photos", "crops")
        >>> boxes.images, boxes.boxes.tolist()
        (['a.png'], [[20.0, 20.0, 120.0, 220.0]])
    """
    builder = Builder("supervision")
    pairs = found.items() if isinstance(found, Mapping) else found
    for name, item in pairs:
        boxes = np.asarray(getattr(item, "xyxy", None), dtype=np.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise InputError(f"{name}: {type(item).__name__} has no xyxy of shape (N, 4)")
        image = builder.picture(str(name))
        names = (getattr(item, "data", None) or {}).get("class_name")
        labels = getattr(item, "class_id", None) if names is None else names
        scores, tracks = getattr(item, "confidence", None), getattr(item, "tracker_id", None)
        for row, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            builder.box(
                image,
                (x0, y0, x1, y1),
                file="detections",
                row=row + 1,
                score=math.nan if scores is None else float(scores[row]),
                label=None if labels is None else str(labels[row]),
                track=None if tracks is None else str(tracks[row]),
            )
    return builder.done(persons=("person", "pedestrian", "people", "human", "0"))
