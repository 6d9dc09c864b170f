"""What arguments of ``crops`` may be, without the libraries that read boxes and images."""

from __future__ import annotations

from typing import Literal, get_args

FORMATS = (
    "coco", "crowdhuman", "cvat", "kitti", "labelme", "labelstudio", "mot", "openimages",
    "parse27k", "table", "text", "visdrone", "voc", "yolo",
)  # fmt: skip
ENGINES = ("processes", "ray")
Outside = Literal["shift", "shrink", "drop"]
OUTSIDE: tuple[str, ...] = get_args(Outside)
