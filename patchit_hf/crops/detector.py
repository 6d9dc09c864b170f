"""Detect people with any object detector of torchvision or transformers.

This package ships no weights. The user chooses them and has to check their licence, which often
differs from that of the code. They are read as safetensors or with
``torch.load(weights_only=True)``, so loading them never runs code.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import Tensor

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.progress import Progress
from patchit_hf.crops.detections.table import Builder, Detections

logger = logging.getLogger(__name__)

PERSONS = ("person", "pedestrian", "people", "human")
COCO_PERSON = 1  # in torchvision's detectors, if the weights do not name the classes
Found = tuple[Tensor, Tensor, Tensor]  # boxes xyxy in pixels [N, 4], scores [N], labels [N]
Frame = tuple[str, Image.Image | str]  # an image's name, and the image or why it cannot be read


@dataclass(frozen=True)
class Detector:
    """A detector that is ready to use.

    Attributes:
        name: the name that the user gave.
        persons: indices of the classes that mean a person.
        detect: maps a list of RGB images to boxes, scores and labels for each.
    """

    name: str
    persons: tuple[int, ...]
    detect: Callable[[list[Image.Image]], list[Found]]


def open_detector(name: str, label: str | None = None, device: str | None = None) -> Detector:
    """Open a detector.

    Args:
        name: a detection model of torchvision, such as ``fasterrcnn_resnet50_fpn``, or the Hub id
            or folder of an object detector of transformers. A torchvision model has its default
            weights; ``NAME:FILE`` reads them from a file, ``NAME:none`` leaves them random.
        label: the class that means a person; found by its name if None.
        device: where it runs; on a GPU if None and there is one.

    Raises:
        InputError: if there is no such detector, or it is unclear which class means a person.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    known, colon, weights = name.partition(":")
    if known in torchvision_names():
        return _torchvision(name, known, weights if colon else "DEFAULT", label, where)
    return _transformers(name, label, where)


def torchvision_names() -> list[str]:
    """Return the names of torchvision's detection models."""
    models = torchvision.models
    names: list[str] = models.list_models(module=models.detection)
    return names


def find_people(
    frames: Iterable[Frame], detector: Detector, *, batch: int, score: float, total: int | None
) -> tuple[Detections, dict[str, str]]:
    """Detect people in images, one batch at a time.

    Args:
        frames: name and image; for a bad image, its name and the reason.
        detector: see ``open_detector``.
        batch: number of images per batch.
        score: lowest score of a box.
        total: number of images for the progress bar; None if unknown.

    Returns:
        The boxes, and the reason for each bad image by its name. ``images`` of the boxes holds
        bad images, but none in which nobody was found.
    """
    builder = Builder("detector")
    bad: dict[str, str] = {}
    with Progress("detecting", total, "images") as bar:
        for chunk in _chunks(frames, batch):
            good = [(name, image) for name, image in chunk if isinstance(image, Image.Image)]
            for name, reason in chunk:
                if isinstance(reason, str):
                    builder.picture(name)
                    bad[name] = reason
            found = detector.detect([image for _, image in good]) if good else []
            for (name, image), (boxes, scores, labels) in zip(good, found, strict=True):
                kept = torch.isin(labels, torch.tensor(detector.persons)) & (scores >= score)
                if not kept.any():
                    continue
                picture = builder.picture(name, image.size)
                rows = zip(boxes[kept].tolist(), scores[kept].tolist(), strict=True)
                for row, ((x0, y0, x1, y1), value) in enumerate(rows, 1):
                    builder.box(
                        picture, (x0, y0, x1, y1), file=f"{detector.name} on {name}", row=row,
                        score=value, label="person",
                    )  # fmt: skip
            bar.update(len(chunk))
    return builder.done(), bad


def _chunks(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    source = iter(frames)
    while chunk := list(islice(source, size)):
        yield chunk


def _torchvision(
    name: str, model_name: str, weights: str, label: str | None, device: torch.device
) -> Detector:
    models = torchvision.models
    classes: list[str] = []
    try:
        if weights == "none" or Path(weights).suffix:
            model = models.get_model(model_name, weights=None, weights_backbone=None)
            if weights != "none":
                model.load_state_dict(_read_weights(Path(weights)))
        else:
            chosen = models.get_model_weights(model_name)[weights]
            classes = list(chosen.meta["categories"])
            model = models.get_model(model_name, weights=chosen)
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise InputError(f"--detector {name!r}: {one_line(error)}") from error
    persons = _persons(name, dict(enumerate(classes)), label) if classes else (COCO_PERSON,)
    if not classes and label is not None:
        if not label.isdecimal():
            raise InputError(
                f"--detector-label {label!r}: weights from a file name no classes; give a number"
            )
        persons = (int(label),)
    model.to(device).eval()

    def detect(images: list[Image.Image]) -> list[Found]:
        pixels = [torchvision.transforms.functional.to_tensor(i).to(device) for i in images]
        with torch.inference_mode():
            found = model(pixels)
        return [(f["boxes"].cpu(), f["scores"].cpu(), f["labels"].cpu()) for f in found]

    return Detector(Path(name).name if Path(name).exists() else name, persons, detect)


def _read_weights(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: these weights cannot be read without running code; give safetensors"
        ) from error
    except Exception as error:  # a damaged file may make its reader raise anything
        raise ValueError(f"{path}: cannot be read: {one_line(error)}") from error


def _transformers(name: str, label: str | None, device: torch.device) -> Detector:
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    try:
        processor = AutoImageProcessor.from_pretrained(name)
        model = AutoModelForObjectDetection.from_pretrained(name, use_safetensors=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        known = ", ".join(torchvision_names()[:3])
        raise InputError(
            f"--detector {name!r}: is neither a torchvision detector ({known}, ...) nor the "
            f"folder or Hub id of a transformers object detector: {one_line(error)}"
        ) from error
    named = {int(number): str(word) for number, word in model.config.id2label.items()}
    persons = _persons(name, named, label)
    model.to(device).eval()

    def detect(images: list[Image.Image]) -> list[Found]:
        inputs = processor(images=images, return_tensors="pt").to(device)
        with torch.inference_mode():
            outputs = model(**inputs)
        sizes = torch.tensor([[image.height, image.width] for image in images])
        found = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=sizes)
        return [(f["boxes"].cpu(), f["scores"].cpu(), f["labels"].cpu()) for f in found]

    return Detector(Path(name).name if Path(name).exists() else name, persons, detect)


def _persons(name: str, classes: dict[int, str], label: str | None) -> tuple[int, ...]:
    wanted = PERSONS if label is None else (label.lower(),)
    found = tuple(number for number, word in classes.items() if word.lower() in wanted)
    if found:
        return found
    some = ", ".join(list(classes.values())[:12]) + (", ..." if len(classes) > 12 else "")
    asked = f"no class {label!r}" if label else "no class that is known to mean a person"
    raise InputError(
        f"--detector {name!r}: has {asked} (classes: {some}); name it with --detector-label"
    )
