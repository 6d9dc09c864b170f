"""Read boxes of people from the formats that detectors and annotation tools write."""

from patchit_hf.crops.detections.detect import FORMATS, read_detections
from patchit_hf.crops.detections.objects import from_supervision
from patchit_hf.crops.detections.table import Detections

__all__ = ["FORMATS", "Detections", "from_supervision", "read_detections"]
