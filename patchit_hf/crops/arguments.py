"""Arguments of ``patchit crops``: where boxes come from and where crops go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patchit_hf.common.arguments import arg, flag_of
from patchit_hf.common.errors import InputError
from patchit_hf.crops.choices import ENGINES, FORMATS

ON_BAD = ("raise", "skip", "replace")


@dataclass(frozen=True, kw_only=True)
class CropsArguments:
    """Where boxes and images come from, and where crops go; see each field's help.

    Raises:
        InputError: if a needed argument is missing, or a value is out of range.

    Example:
        >>> CropsArguments(detections="boxes.csv", images="photos", output="crops").workers
        -1
    """

    detections: str | None = arg(
        None, "--detections", "input", "file or folder with the boxes", identity=False
    )
    images: str | None = arg(
        None,
        "--images",
        "input",
        "folder of images, of videos, or of Parquet files that hold images; or one of these files",
        identity=False,
    )
    format: str | None = arg(
        None,
        "--format",
        "input",
        "format of the boxes; detected from the content if left out",
        identity=False,
        choices=FORMATS,
    )
    box_format: str | None = arg(
        None,
        "--box-format",
        "input",
        "meaning of the four numbers of a box, in a table or in lines of text",
        identity=False,
        choices=("xyxy", "xywh", "cxcywh"),
    )
    columns: dict[str, Any] = arg(
        {},
        "--columns",
        "input",
        "column names of a table, where they are not recognised: image=, box= (or a= b= c= d=), "
        "score=, label=, track=, source=, split=",
        identity=False,
    )
    detector: str | None = arg(
        None,
        "--detector",
        "input",
        "find the boxes with a detector instead: the name of a torchvision detection model, or "
        "the Hub id or folder of a transformers one; check the licence of its weights",
        identity=False,
    )
    detector_score: float = arg(
        0.5,
        "--detector-score",
        "input",
        "lowest score of a detected box that is used",
        identity=False,
    )
    detector_label: str | None = arg(
        None,
        "--detector-label",
        "input",
        "class of the detector that means a person; found by name (person, pedestrian) if left out",
        identity=False,
    )
    detector_batch: int = arg(
        8, "--detector-batch", "input", "images per batch of the detector", identity=False
    )
    image_list: str | None = arg(
        None,
        "--image-list",
        "input",
        "COCO ground truth with the images and classes that a COCO results file refers to",
        identity=False,
    )
    on_bad_image: str = arg(
        "raise",
        "--on-bad-image",
        "images",
        "what to do when an image is missing, damaged or too large: stop, skip it, or replace each "
        "of its boxes by the next box of the same track that --keep-every or --every left out",
        identity=False,
        choices=ON_BAD,
    )
    output: str | None = arg(
        None,
        "--output",
        "output",
        "folder of the data set; if left out with --push-to-hub org/name, crops/name",
        identity=False,
    )
    workers: int = arg(
        -1,
        "--workers",
        "output",
        "worker processes that cut; 0 cuts in the main process, -1 uses all cores (with --engine "
        "ray, of the whole cluster)",
        identity=False,
    )
    engine: str = arg(
        "processes",
        "--engine",
        "output",
        "who cuts: worker processes of this machine, or a Ray cluster (that of RAY_ADDRESS, else "
        "one on this machine), where every machine finds the images under the same path",
        identity=False,
        choices=ENGINES,
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
        "",
        "--pictures-from",
        "card",
        "origin of the images, for the card",
        identity=False,
    )
    push_to_hub: str | None = arg(
        None,
        "--push-to-hub",
        "hub",
        "Hub data set to push to, such as org/name; the contact sheet stays local",
        identity=False,
    )
    hub_private: bool = arg(
        False, "--hub-private", "hub", "create the Hub data set as private", identity=False
    )

    def __post_init__(self) -> None:
        if bool(self.detections) == bool(self.detector):
            raise InputError("give either --detections or --detector, not both; see --help")
        if not self.images:
            raise InputError("--images is needed; see --help")
        if self.detector_batch < 1:
            raise InputError(f"--detector-batch {self.detector_batch}: must be at least 1")
        if not 0 <= self.detector_score <= 1:
            raise InputError(f"--detector-score {self.detector_score}: must be from 0 to 1")
        if not self.output and not self.push_to_hub:
            raise InputError("--output or --push-to-hub is needed; see --help")
        choices = {"format": FORMATS, "on_bad_image": ON_BAD, "engine": ENGINES}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                flag = flag_of(name, CropsArguments)
                raise InputError(f"{flag} {value!r}: must be one of {', '.join(allowed)}")
        if self.workers < -1:
            raise InputError(f"--workers {self.workers}: must be a whole number of at least -1")
