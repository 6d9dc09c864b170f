"""A backbone with the head of a patch task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.files import read_json
from patchit_hf.common.layout import BACKBONE_FILE, DONE_FILE, FORMAT_VERSION, HEAD_FILE
from patchit_hf.models.backbone import BackboneSpec, build_backbone, num_features
from patchit_hf.models.exported import Location, check_architecture, check_args, locate
from patchit_hf.models.feature_maps import feature_map as feature_map
from patchit_hf.models.small_maps import small_map_convolutions
from patchit_hf.patch_tasks import create_task
from patchit_hf.patch_tasks.base import PatchTask


class PatchTaskModel(nn.Module):
    """A backbone and the head of a patch task.

    Args:
        backbone: a timm model without classifier.
        head: takes unpooled features ``[B, C, H, W]``.
        spec: how the backbone was built.
        task: the task that the head answers.

    Example:
        >>> model = build_model("resnet10t", create_task("position"), seed=0)
        >>> model(torch.zeros(2, 1, 3, 32, 32)).shape
        torch.Size([2, 18])
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        spec: BackboneSpec,
        task: PatchTask | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.spec = spec
        self.task = task

    @classmethod
    def from_pretrained(cls, source: str | Path, revision: str | None = None) -> PatchTaskModel:
        """Load backbone, head and task of an export; see ``load_model``.

        Args:
            source: a folder, or ``org/name[@revision]`` on the Hub.
            revision: branch, tag or commit on the Hub.
        """
        return load_model(source, revision)

    def features(self, inputs: Tensor) -> Tensor:
        """Return unpooled features ``[B, C, H, W]`` of inputs ``[B, 3, H, W]``."""
        with small_map_convolutions(inputs):
            return feature_map(self.backbone, inputs)

    def forward(self, inputs: Tensor) -> Any:
        """Return the head's output for ``[B, 3, H, W]``, or ``[B, K, 3, H, W]`` for K patches each.

        The backbone sees the patches of all samples as one batch.
        """
        return self.head(self.features(inputs.flatten(0, -4)))


def build_model(
    name: str, task: PatchTask, seed: int, backbone_kwargs: dict[str, Any] | None = None
) -> PatchTaskModel:
    """Build a backbone for a task, with the task's head.

    Args:
        name: timm's model name, without a tag.
        task: the patch task.
        seed: seed of the initial weights.
        backbone_kwargs: further arguments of the timm model.

    Raises:
        InputError: see ``build_backbone``.
    """
    backbone, spec = build_backbone(name, task.input_size, seed, **(backbone_kwargs or {}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = task.head(num_features(backbone))
    return PatchTaskModel(backbone, head, spec, task)


def freeze_unreached(model: PatchTaskModel, input_size: tuple[int, int]) -> None:
    """Freeze the parameters that do not affect the head's output.

    These are timm's ``forward_head`` layers, which come after the feature map. Distributed training
    would wait for their gradients forever, and weight decay would shrink them.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    model.features(torch.zeros(1, 3, *input_size, device=device)).sum().backward()
    for parameter in model.backbone.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None
    model.train(was_training)


def load_model(source: str | Path, revision: str | None = None) -> PatchTaskModel:
    """Load an export: the backbone, its pretext head and its task.

    Args:
        source: a folder, or ``org/name[@revision]`` on the Hub.
        revision: branch, tag or commit on the Hub.

    Returns:
        The model in evaluation mode; ``task`` is its task, with mean and deviation of the crops.

    Raises:
        InputError: if there is no export, or one that this version cannot read.
    """
    location = locate(source, revision)
    record = read_json(location.fetch(DONE_FILE) / DONE_FILE)
    if "averaged" in record:
        raise InputError(
            f"{location.name!r}: is an average of backbones, which has no head; load it with timm"
        )
    folder = location.fetch(DONE_FILE, BACKBONE_FILE, HEAD_FILE)
    where = f"{location.name!r}: {DONE_FILE}"
    version = record.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{where}: has format {version!r}; this version of patchit_hf reads {FORMAT_VERSION}"
        )
    try:
        backbone, task = record["backbone"], _task(record)
        name, args = backbone["name"], backbone["args"]
    except (AttributeError, KeyError, TypeError) as error:
        text = f"{type(error).__name__} {one_line(error)}"
        raise InputError(f"{where}: damaged file: {text}") from error
    check_architecture(name, where)
    check_args(args, where)
    model = build_model(name, task, 0, args)
    _fill(model.backbone, folder / BACKBONE_FILE, location)
    _fill(model.head, folder / HEAD_FILE, location)
    return model.eval()


def _task(record: dict[str, Any]) -> PatchTask:
    entry, data = record["task"], record["data"]
    height, width = entry["canvas"]
    task = create_task(entry["name"], (height, width), **entry["kwargs"])
    return task.with_statistics(data["mean"], data["std"])


def _fill(module: nn.Module, file: Path, location: Location) -> None:
    try:
        module.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{location.name!r}: {file.name} cannot be read: {one_line(error)}"
        ) from error
