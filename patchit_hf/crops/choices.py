"""What arguments of ``crops`` may be, without the libraries that read boxes and images."""

from __future__ import annotations

from typing import Literal, get_args

FORMATS = ("coco", "voc", "yolo", "mot", "text", "table", "parse27k")
Outside = Literal["shift", "shrink", "drop"]
OUTSIDE: tuple[str, ...] = get_args(Outside)
