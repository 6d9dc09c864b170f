"""A backbone with the head of a patch task."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.files import read_json
from patchit_hf.common.layout import BACKBONE_FILE, DONE_FILE, FORMAT_VERSION, HEAD_FILE
from patchit_hf.models.backbone import (
    BATCH_NORMS,
    BackboneSpec,
    build_backbone,
    num_features,
    pretraining_args,
)
from patchit_hf.models.exported import Location, check_architecture, check_args, locate, read_config
from patchit_hf.models.feature_maps import feature_map as feature_map
from patchit_hf.models.given_model import check_rebuilt, unwrapped
from patchit_hf.models.initial_weights import Initial, Statistics, open_initial
from patchit_hf.models.layers import freeze_stages, layered_groups
from patchit_hf.models.origin import Origin, fingerprint, origin_of_export
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
        origin: where the backbone's initial weights come from; None for random ones.
        statistics: mean and standard deviation per channel that these weights expect; None for
            those of the training crops.

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
        *,
        origin: Origin | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.spec = spec
        self.task = task
        self.origin, self.statistics = origin, statistics
        self.frozen: frozenset[str] = frozenset()  # parameters of the backbone

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

    def train(self, mode: bool = True) -> PatchTaskModel:
        """Switch to training mode; batch statistics of frozen stages stay as they are."""
        super().train(mode)
        for name, module in self.backbone.named_modules():
            if isinstance(module, BATCH_NORMS) and f"{name}.weight" in self.frozen:
                module.eval()
        return self

    def freeze_stages(self, count: int) -> None:
        """Keep the backbone's stem and its first stages as they are; see ``layers``.

        Raises:
            InputError: if it has too few stages, or does not name them.
        """
        self.frozen = frozenset(freeze_stages(self.backbone, count, self.spec.name))

    def parameter_groups(self, weight_decay: float, layer_decay: float | None) -> Any:
        """Return what the optimiser trains; with ``layer_decay`` < 1 deeper layers learn faster."""
        return layered_groups(self, self.backbone, self.head, weight_decay, layer_decay)


def build_model(
    name: str | None,
    task: PatchTask,
    seed: int,
    backbone_kwargs: dict[str, Any] | None = None,
    *,
    init: str | nn.Module = "random",
) -> PatchTaskModel:
    """Build a backbone for a task, with the task's head.

    Args:
        name: timm's model name, without a tag; None where ``init`` brings the network.
        task: the patch task.
        seed: seed of the random weights.
        backbone_kwargs: further arguments of the timm model.
        init: the backbone's initial weights, as ``open_initial`` takes them.

    Raises:
        InputError: see ``build_backbone`` and ``open_initial``.

    Example:
        >>> import timm
        >>> given = timm.create_model("resnet10t", num_classes=10)
        >>> model = build_model(None, create_task("position"), seed=0, init=given)
        >>> torch.equal(model.backbone.conv1[0].weight, given.conv1[0].weight)
        True
    """
    origin, statistics = None, None
    if isinstance(init, str) and init == "random":
        if name is None:
            raise InputError("--init 'random': needs --backbone, such as resnet18")
        backbone, spec = build_backbone(name, task.input_size, seed, **(backbone_kwargs or {}))
    else:
        initial, spec = _initial(name, task.input_size, seed, backbone_kwargs or {}, init)
        backbone, origin, statistics = initial.backbone, initial.origin, initial.statistics
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = task.head(num_features(backbone))
    return PatchTaskModel(backbone, head, spec, task, origin=origin, statistics=statistics)


def _initial(
    name: str | None, size: tuple[int, int], seed: int, kwargs: dict[str, Any], init: Any
) -> tuple[Initial, BackboneSpec]:
    """Open initial weights as a backbone for inputs of this size, in training mode."""
    initial = open_initial(
        init,
        name,
        0,
        seed=seed,
        input_size=size,
        backbone_kwargs=kwargs,
        network_args=lambda known: pretraining_args(known, size)[0],
    )
    name, backbone = initial.name, initial.backbone
    if initial.args.get("in_chans", 3) != 3:
        raise InputError(
            f"--init {initial.source!r}: this {name} takes {initial.args['in_chans']} input "
            "channels; person crops have 3"
        )
    backbone.eval()
    try:
        with torch.no_grad():
            features = feature_map(backbone, torch.zeros(2, 3, *size))
    except Exception as error:  # a network may fail in any way on an unsuitable size
        build_backbone(name, size, seed, **kwargs)  # says which size it can process
        raise InputError(f"--init {initial.source!r}: {name} fails: {one_line(error)}") from error
    if not bool(torch.isfinite(features).all()):
        raise InputError(f"--init {initial.source!r}: the features of {name} are not finite")
    if not isinstance(init, str):
        check_rebuilt(unwrapped(init), backbone, size)
    backbone.train()
    return initial, BackboneSpec(name, initial.args, pretraining_args(name, size)[1])


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
    folder = location.fetch(DONE_FILE, BACKBONE_FILE, HEAD_FILE)
    record = read_json(folder / DONE_FILE)
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
    config = read_config(location)
    origin = origin_of_export(location.name, name, location, config["pretrained_cfg"])
    model.origin = dataclasses.replace(origin, fingerprint=fingerprint(model.backbone.state_dict()))
    model.statistics = task.transform.mean, task.transform.std
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
