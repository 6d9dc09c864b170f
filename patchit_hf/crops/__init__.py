"""Cut boxes of people into a data set of crops: ``patchit crops``.

The boxes come from a file, from memory, or from a detector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.crops.arguments import CropsArguments as CropsArguments
    from patchit_hf.crops.command import main as main
    from patchit_hf.crops.command import run as run
    from patchit_hf.crops.cutting.options import CropOptions as CropOptions
    from patchit_hf.crops.detections.detect import read_detections as read_detections
    from patchit_hf.crops.detections.objects import from_supervision as from_supervision
    from patchit_hf.crops.detections.table import Detections as Detections
    from patchit_hf.crops.make import make_crops as make_crops

__getattr__, __dir__ = lazily(
    __name__,
    {
        "CropOptions": "patchit_hf.crops.cutting.options",
        "CropsArguments": "patchit_hf.crops.arguments",
        "Detections": "patchit_hf.crops.detections.table",
        "from_supervision": "patchit_hf.crops.detections.objects",
        "main": "patchit_hf.crops.command",
        "make_crops": "patchit_hf.crops.make",
        "read_detections": "patchit_hf.crops.detections.detect",
        "run": "patchit_hf.crops.command",
    },
)
