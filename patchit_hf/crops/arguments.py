"""The words of ``python -m patchit_hf.crops`` that say where boxes come from and crops go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patchit_hf.common.arguments import arg, flag_of
from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections import FORMATS

ON_BAD = ("raise", "skip", "replace")


@dataclass(frozen=True, kw_only=True)
class CropsArguments:
    """Where boxes and pictures come from, and where crops go."""

    detections: str | None = arg(
        None, "--detections", "input", "file or folder of boxes", identity=False
    )
    images: str | None = arg(
        None, "--images", "input", "folder of pictures or of videos, or a video", identity=False
    )
    format: str | None = arg(
        None,
        "--format",
        "input",
        "format of the boxes; seen from the content by default",
        identity=False,
        choices=FORMATS,
    )
    box_format: str | None = arg(
        None,
        "--box-format",
        "input",
        "what the four numbers of a box are, in a table or in lines of text",
        identity=False,
        choices=("xyxy", "xywh", "cxcywh"),
    )
    columns: dict[str, Any] = arg(
        {},
        "--columns",
        "input",
        "of a table whose names are not known: image=, box= or a= b= c= d=, score=, label=, "
        "track=, source=, split=",
        identity=False,
    )
    detector: str | None = arg(
        None,
        "--detector",
        "input",
        "find the boxes by a detector instead: a detection model of torchvision's by name, or one "
        "of transformers' by its Hub id or folder; its weights, and their licence, are your choice",
        identity=False,
    )
    detector_score: float = arg(
        0.5, "--detector-score", "input", "smallest score of a box that it finds", identity=False
    )
    detector_label: str | None = arg(
        None,
        "--detector-label",
        "input",
        "its class that is a person; known by name (person, pedestrian) if left out",
        identity=False,
    )
    detector_batch: int = arg(
        8, "--detector-batch", "input", "pictures that it sees at a time", identity=False
    )
    image_list: str | None = arg(
        None,
        "--image-list",
        "input",
        "COCO ground truth that names the pictures and classes of a list of results",
        identity=False,
    )
    on_bad_image: str = arg(
        "raise",
        "--on-bad-image",
        "pictures",
        "what to do where a picture is missing, damaged or too large: stop, go on without it, or "
        "put in place of each of its boxes the next of the same track that --keep-every or --every "
        "left out",
        identity=False,
        choices=ON_BAD,
    )
    output: str | None = arg(
        None,
        "--output",
        "output",
        "folder of the data set; crops/<name> by default where it is pushed",
        identity=False,
    )
    workers: int = arg(
        -1,
        "--workers",
        "output",
        "processes that cut; 0 for none, -1 for all cores",
        identity=False,
    )
    license: str = arg(
        "unknown",
        "--license",
        "card",
        "licence of the crops, as the Hub spells it, such as cc-by-4.0",
        identity=False,
    )
    title: str | None = arg(None, "--title", "card", "name of the data set", identity=False)
    pictures_from: str = arg(
        "", "--pictures-from", "card", "where the pictures come from, in words", identity=False
    )
    push_to_hub: str | None = arg(
        None,
        "--push-to-hub",
        "hub",
        "data set to push to, such as org/name; all but the contact sheet goes there",
        identity=False,
    )
    hub_private: bool = arg(
        False, "--hub-private", "hub", "create the data set as private", identity=False
    )

    def __post_init__(self) -> None:
        if bool(self.detections) == bool(self.detector):
            raise InputError("--detections or --detector is needed, and not both; see --help")
        if not self.images:
            raise InputError("--images is needed; see --help")
        if self.detector_batch < 1:
            raise InputError(f"--detector-batch {self.detector_batch}: must be at least 1")
        if not 0 <= self.detector_score <= 1:
            raise InputError(f"--detector-score {self.detector_score}: must be from 0 to 1")
        if not self.output and not self.push_to_hub:
            raise InputError("--output or --push-to-hub is needed; see --help")
        choices = {"format": FORMATS, "on_bad_image": ON_BAD}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                flag = flag_of(name, CropsArguments)
                raise InputError(f"{flag} {value!r}: must be one of {', '.join(allowed)}")
        if self.workers < -1:
            raise InputError(f"--workers {self.workers}: must be a whole number from -1")
