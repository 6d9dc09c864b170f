"""Boxes in memory: ``supervision.Detections`` and the like; supervision is not required."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections.table import Builder, Detections


def from_supervision(found: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Detections:
    """Convert ``supervision.Detections`` of a detector or a tracker.

    Args:
        found: for each image, its name relative to the folder of images, and its
            ``supervision.Detections``. Any object will do that has ``xyxy`` ``[N, 4]`` in pixels
            and, optionally, ``confidence``, ``class_id``, ``tracker_id`` and
            ``data["class_name"]``. The rows of an image's boxes count from 1.

    Raises:
        InputError: if an object has no ``xyxy`` of that shape.

    Example:
        >>> from types import SimpleNamespace
        >>> import numpy as np
        >>> from patchit_hf.crops import from_supervision
        >>> result = SimpleNamespace(
        ...     xyxy=np.array([[10, 20, 60, 140], [80, 10, 130, 150]]),
        ...     confidence=np.array([0.9, 0.4]),
        ...     data={"class_name": ["person", "person"]},
        ... )
        >>> found = from_supervision({"a.jpg": result})
        >>> len(found), found.labels, found.score.tolist()
        (2, ['person'], [0.9, 0.4])
    """
    builder, named = Builder("supervision"), False
    pairs = found.items() if isinstance(found, Mapping) else found
    for name, item in pairs:
        boxes = np.asarray(getattr(item, "xyxy", None), dtype=np.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise InputError(f"{name}: {type(item).__name__} has no xyxy of shape (N, 4)")
        image = builder.picture(str(name))
        names = (getattr(item, "data", None) or {}).get("class_name")
        named |= names is not None
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
    if not named:
        builder.assume("0", "boxes in memory")
    return builder.done(persons=("person", "pedestrian", "people", "human", "0"))
