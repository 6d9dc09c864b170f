"""A backbone with a head for a downstream task: build it, choose what is trained, load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.files import read_json
from patchit_hf.common.layout import (
    BACKBONE_FILE,
    CONFIG_FILE,
    DONE_FILE,
    FORMAT_VERSION,
    HEAD_FILE,
)
from patchit_hf.downstream import task_class
from patchit_hf.downstream.augment import Geometry
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.models.exported import creation_args, locate, read_config
from patchit_hf.models.feature_maps import feature_map
from patchit_hf.models.layers import layered_groups
from patchit_hf.models.small_maps import small_map_convolutions


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
    fit: str
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
    def from_pretrained(cls, source: str | Path, revision: str | None = None) -> FinetunedModel:
        """Load a finetuned model, in evaluation mode.

        Args:
            source: a folder, or ``org/name[@revision]`` on the Hub.
            revision: branch, tag or commit on the Hub.

        Raises:
            InputError: if there is no finetuned model.
        """
        location = locate(source, revision)
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
            geometry = Geometry(*(tuple(entry[k]) for k in ("canvas", "window", "size")))
            mean, std, fit = entry["mean"], entry["std"], str(entry["fit"])
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(
                f"{location.name!r}: {DONE_FILE}: damaged file: {type(error).__name__} "
                f"{one_line(error)}"
            ) from error
        args = creation_args(config)
        args.pop("pretrained_model_args", None)
        backbone = timm.create_model(
            config["architecture"], num_classes=task.num_classes, **args, **_size(config)
        )
        head = task.head(int(backbone.num_features))
        files = [BACKBONE_FILE, CONFIG_FILE, *([HEAD_FILE] if head is not None else [])]
        folder = location.fetch(*files)
        model = cls(backbone, head)
        _fill(backbone, folder / BACKBONE_FILE)
        if head is not None:
            _fill(head, folder / HEAD_FILE)
        model.set_statistics(mean, std)
        model.task = task.with_input_size(geometry.size)
        model.geometry, model.fit, model.record = geometry, fit, record
        return model.to(memory_format=torch.channels_last).eval()


def _size(config: dict[str, Any]) -> dict[str, Any]:
    cfg = config["pretrained_cfg"]
    return {"img_size": cfg["input_size"][1:]} if cfg.get("fixed_input_size") else {}


def _fill(module: nn.Module, file: Path) -> None:
    try:
        module.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{file}: cannot be read: {one_line(error)}") from error
