"""A backbone with a head for a downstream task: build it, choose what is trained, load it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, overload

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.files import read_json
from patchit_hf.common.freed_memory import freed_memory_kept
from patchit_hf.common.layout import (
    BACKBONE_FILE,
    CONFIG_FILE,
    DONE_FILE,
    FORMAT_VERSION,
)
from patchit_hf.data.images import ImageInput, ImageInputs, Images, check_batch_size, stacked
from patchit_hf.downstream import task_class
from patchit_hf.downstream.augment import Geometry, View, centre
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.downstream.results import Result
from patchit_hf.models.bounds import check_sides, check_size
from patchit_hf.models.embed import Extractor, embed
from patchit_hf.models.exported import Location, creation_args, locate, read_config, undamaged
from patchit_hf.models.feature_maps import feature_map
from patchit_hf.models.layers import layered_groups
from patchit_hf.models.people import Boxes, open_people
from patchit_hf.models.small_maps import small_map_convolutions
from patchit_hf.models.weights_fit import tensor_shapes


class FinetunedModel(nn.Module):
    """A backbone and the head of a downstream task.

    Args:
        backbone: a timm model; its classifier gives the output if the task has no head.
        head: takes unpooled features ``[B, C, H, W]``, or None.
        frozen: whether the backbone is not trained; it then stays in evaluation mode.

    Attributes:
        task: the task; only set by ``from_pretrained``.
        geometry: maps crops to inputs; only set by ``from_pretrained``.
        fit: how crops are fitted to the canvas; only set by ``from_pretrained``.
        record: the contents of ``patchit.json``; only set by ``from_pretrained``.
        mean: per channel, of crops in [0, 1].
        std: per channel.

    Example:
        >>> import timm
        >>> model = FinetunedModel(timm.create_model("resnet10t", num_classes=4), None)
        >>> model.set_statistics([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
        >>> model(torch.rand(2, 3, 64, 32)).shape
        torch.Size([2, 4])
    """

    task: DownstreamTask
    geometry: Geometry
    fit: str = "squash"
    record: dict[str, Any]
    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, head: nn.Module | None, *, frozen: bool = False
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.frozen = backbone, head, frozen
        self.register_buffer("mean", torch.zeros(3), persistent=False)
        self.register_buffer("std", torch.ones(3), persistent=False)
        if frozen:
            kept = set(self.classifier_names())
            for name, parameter in backbone.named_parameters():
                parameter.requires_grad_(name in kept)

    def classifier_names(self) -> list[str]:
        """Return the names of the parameters of the backbone's classifier."""
        if self.head is not None or not hasattr(self.backbone, "get_classifier"):
            return []
        backbone: Any = self.backbone
        classifier = backbone.get_classifier()
        mine = {id(p) for p in classifier.parameters()}
        return [name for name, p in self.backbone.named_parameters() if id(p) in mine]

    def set_statistics(self, mean: Any, std: Any) -> None:
        """Set mean and standard deviation, per channel, that inputs are normalised with."""
        self.mean.copy_(torch.tensor(mean))
        self.std.copy_(torch.tensor(std))

    def normalize(self, x: Tensor) -> Tensor:
        """Return normalised images ``[B, 3, H, W]``; those given are in [0, 1]."""
        return (x - self.mean[:, None, None]) / self.std[:, None, None]

    def features(self, x: Tensor) -> Tensor:
        """Return unpooled features ``[B, C, h, w]`` of images ``[B, 3, H, W]`` in [0, 1]."""
        with small_map_convolutions(x):
            return feature_map(self.backbone, self.normalize(x))

    def forward(self, x: Tensor) -> Any:
        """Return the head's output for images ``[B, 3, H, W]`` in [0, 1]."""
        if self.head is None:
            with small_map_convolutions(x):
                return self.backbone(self.normalize(x))
        return self.head(self.features(x))

    def answers(
        self, crops: Tensor, task: DownstreamTask, geometry: Geometry
    ) -> tuple[Tensor, View]:
        """Return what the model predicts for crops, averaged with their mirror images if need be.

        Args:
            crops: uint8 ``[B, 3, H, W]`` on the canvas, where the model is.
            task: reads the outputs.
            geometry: from the canvas to the input.

        Returns:
            Predictions, float32 ``[B, ...]``, and the part of the canvas that the input shows.
        """
        x, view = centre(crops, geometry)
        prediction = task.predict(self(x))
        if task.flips:
            prediction = (prediction + task.predict(self(x.flip(3)))) / 2
        return prediction.float(), view

    @overload
    def predict(
        self,
        images: ImageInput,
        batch_size: int = 64,
        *,
        boxes: None = None,
        image_column: str | None = None,
    ) -> Result: ...

    @overload
    def predict(
        self,
        images: ImageInputs,
        batch_size: int = 64,
        *,
        boxes: Boxes | None = None,
        image_column: str | None = None,
    ) -> Any: ...

    @freed_memory_kept()
    def predict(
        self,
        images: ImageInputs,
        batch_size: int = 64,
        *,
        boxes: Boxes | None = None,
        image_column: str | None = None,
    ) -> Any:
        """Answer for images of one person each, or for the people in their boxes.

        The predictions are those that ``patchit evaluate`` writes.

        Args:
            images: one image or many: PIL images, paths, bytes of files, arrays ``[H, W, 3]``,
                tensors ``[3, H, W]``, a column of images, or a ``datasets.Dataset``.
            batch_size: images at a time.
            boxes: x0, y0, x1, y1 of the person in each image, ``[N, 4]`` in pixels; for a single
                image ``[4]``, or ``[K, 4]`` for K people in it. By default a data set's own boxes
                where the task was trained with boxes, and the whole image otherwise.
            image_column: the image column of a data set that has several.

        Returns:
            For a single image (and box) its result, else a list of them. Attributes have
            ``labels`` and ``probabilities``, actions ``label`` and ``probabilities``,
            re-identification has an ``embedding``, and pose has ``keypoints`` by name in pixels.
            Pixels are those of the image as it is shown: an image that EXIF turns is turned.

        Raises:
            InputError: for an image that cannot be used or a box outside of it, by its index.

        Example:
            >>> from patchit_hf.downstream import create_downstream, Geometry
            >>> import datasets
            >>> rows = datasets.Dataset.from_dict({"hat": [True, False]})
            >>> model = FinetunedModel(timm.create_model("test_resnet", num_classes=1), None)
            >>> model.task, model.geometry = create_downstream("attributes", rows), Geometry.of(
            ...     (64, 32))
            >>> result = model.predict(torch.zeros(3, 200, 100))
            >>> list(result.probabilities)
            ['hat']
        """
        self._check_task()
        people = open_people(self.task, images, boxes, image_column)
        size, training, results = check_batch_size(batch_size), self.training, []
        self.eval()
        try:
            for first in range(0, len(people), size):
                part = range(first, min(first + size, len(people)))
                cut = [people.crop(i, self.task, self.geometry.canvas, self.fit) for i in part]
                results += self._results(*zip(*cut, strict=True))
        finally:
            self.train(training)
        return results[0] if people.single else results

    @torch.inference_mode()
    def _results(self, canvases: Any, windows: Any) -> list[Result]:
        crops = stacked(canvases).to(self.mean.device)
        predictions = self.answers(crops, self.task, self.geometry)[0].cpu()
        places = torch.tensor(windows, dtype=torch.float32)
        placed = self.task.placed(predictions, self.geometry, places)
        return [self.task.result(prediction) for prediction in placed]

    def embed(
        self,
        images: ImageInputs,
        batch_size: int = 64,
        *,
        image_column: str | None = None,
        reestimate_batch_norm: bool = False,
    ) -> NDArray[np.float32]:
        """Return features of whole images by the backbone, without the task's head.

        They are those that ``patchit evaluate FOLDER --embed`` writes, which by
        default re-estimates batch statistics on the images; see ``PatchTaskModel.embed``.

        Args:
            images: one image or many; see ``predict``.
            batch_size: images at a time.
            image_column: the image column of a data set that has several.
            reestimate_batch_norm: whether batch statistics are those of the given images.

        Returns:
            float32 ``[N, C]``; ``[C]`` for a single image.

        Raises:
            InputError: for an image that cannot be used, by its index.
        """
        self._check_task()
        found = Images(images, image_column)
        return embed(self.extractor(), found, batch_size, reestimate=reestimate_batch_norm)

    def extractor(self) -> Extractor:
        """Return the frozen backbone with the way of crops to it."""
        return Extractor(self.backbone, self.geometry, self.mean, self.std, self.fit)

    def _check_task(self) -> None:
        if not hasattr(self, "task") or not hasattr(self, "geometry"):
            raise InputError(
                "this model has no task and geometry: read it by FinetunedModel.from_pretrained, "
                "or take that of a FinetuneTrainer"
            )

    def train(self, mode: bool = True) -> FinetunedModel:
        """Switch to training mode; a frozen backbone keeps its batch statistics."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def parameter_groups(self, weight_decay: float, layer_decay: float | None) -> Any:
        """Return what the optimiser trains; with ``layer_decay`` < 1 deeper layers learn faster."""
        return layered_groups(self, self.backbone, self.head, weight_decay, layer_decay)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        revision: str | None = None,
        *,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
    ) -> FinetunedModel:
        """Load a finetuned model, in evaluation mode.

        Args:
            source: a folder, or ``org/name[@revision]`` on the Hub.
            revision: branch, tag or commit on the Hub.
            cache_dir: where files of the Hub are kept; None for the usual place.
            token: for the Hub; None for that of the login, False for none.

        Raises:
            InputError: if there is no finetuned model.
        """
        location = locate(source, revision, cache_dir=cache_dir, token=token)
        with undamaged(location.name):
            return cls._load(location)

    @classmethod
    def _load(cls, location: Location) -> FinetunedModel:
        record = read_json(location.fetch(DONE_FILE) / DONE_FILE)
        entry = record.get("downstream")
        if not isinstance(entry, dict):
            raise InputError(
                f"{location.name!r}: not a finetuned model; finetune it first, or fit a "
                "probe to its features (--probe)"
            )
        if record.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"{location.name!r}: {DONE_FILE} has format {record.get('format_version')!r}; "
                f"this version of patchit_hf reads {FORMAT_VERSION}"
            )
        config = read_config(location)
        try:
            task = task_class(entry["task"]).from_kwargs(entry["kwargs"])
            sides = [check_sides(entry[k], k) for k in ("canvas", "window", "size")]
            geometry = Geometry(*sides)
            mean, std, fit = entry["mean"], entry["std"], str(entry["fit"])
        except InputError as error:
            raise InputError(f"{location.name!r}: {DONE_FILE}: {error}") from error
        args = creation_args(config)
        args.pop("pretrained_model_args", None)

        def build() -> tuple[Any, nn.Module | None]:
            backbone: Any = timm.create_model(
                config["architecture"], num_classes=task.num_classes, **args, **_size(config)
            )
            return backbone, task.head(int(backbone.num_features))

        folder = location.fetch(BACKBONE_FILE, CONFIG_FILE)
        _check_size(build, folder, location.name)
        backbone, head = build()
        model = cls(backbone, head)
        _fill(backbone, folder / BACKBONE_FILE)
        if head is not None:
            _fill(head, location.fetch_head(folder))
        model.set_statistics(mean, std)
        model.task = task.with_input_size(geometry.size)
        model.geometry, model.fit, model.record = geometry, fit, record
        return model.to(memory_format=torch.channels_last).eval()


def _check_size(build: Callable[[], Any], folder: Path, name: str) -> None:
    """Check that a model is about as large as its weights, before it is built."""
    shapes = tensor_shapes(folder / BACKBONE_FILE, f"{name!r}: {BACKBONE_FILE}")
    check_size(build, shapes, f"{name!r}: {CONFIG_FILE} or {DONE_FILE}")


def _size(config: dict[str, Any]) -> dict[str, Any]:
    cfg = config["pretrained_cfg"]
    return {"img_size": cfg["input_size"][1:]} if cfg.get("fixed_input_size") else {}


def _fill(module: nn.Module, file: Path) -> None:
    try:
        module.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{file}: cannot be read: {one_line(error)}") from error
