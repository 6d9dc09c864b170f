"""A timm backbone, seen as a source of feature maps, and a pretext head on top of it."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from patchit_hf.errors import InputError, one_line
from patchit_hf.feature_maps import feature_map as feature_map
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.small_map_convolution import small_map_convolutions

PROBED_SIZES = (32, 48, 64, 96, 112, 120, 128, 160, 192, 224, 240, 256, 288, 320, 384, 448, 512)


@dataclass(frozen=True)
class BackboneSpec:
    """How a backbone was built, so that it can be built again and exported.

    Attributes:
        name: timm's architecture name.
        args: keyword arguments beyond timm's defaults that change the network.
        fixed_size: whether the network takes only the size that it was built for.
    """

    name: str
    args: dict[str, Any]
    fixed_size: bool


class PatchTaskModel(nn.Module):
    """A backbone and the head of a patch task.

    Args:
        backbone: a timm model without classifier.
        head: takes unpooled features ``[B, C, H, W]``.
        spec: how the backbone was built.
        task: the task that the head answers.
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
        """Load backbone, head and task of an export; see ``patchit_hf.publish.load.load_model``.

        Args:
            source: a folder, or ``org/name[@revision]`` on the Hub.
            revision: branch, tag or commit on the Hub.
        """
        from patchit_hf.publish.load import load_model

        return load_model(source, revision)

    def features(self, inputs: Tensor) -> Tensor:
        """Return unpooled features ``[B, C, H, W]`` of inputs ``[B, 3, H, W]``."""
        with small_map_convolutions(inputs):
            return feature_map(self.backbone, inputs)

    def forward(self, inputs: Tensor) -> Any:
        """Return the head's output for ``[B, 3, H, W]``, or ``[B, K, 3, H, W]`` for K pictures.

        The trunk sees the pictures of all samples as one batch.
        """
        return self.head(self.features(inputs.flatten(0, -4)))


def build_backbone(
    name: str, input_size: tuple[int, int], seed: int = 0, **kwargs: Any
) -> tuple[nn.Module, BackboneSpec]:
    """Build a timm backbone with random weights for inputs of a size.

    Networks of a fixed size are built at it. Vision transformers pool their tokens by averaging
    (``global_pool="avg", fc_norm=False``), so that what is exported is what was trained, and take
    any size that their patches divide (``dynamic_img_size``) where they can.

    Args:
        name: timm's model name, without a tag.
        input_size: height and width of the inputs, in pixels.
        seed: seed of the initial weights.
        **kwargs: further arguments of the timm model, such as ``drop_path_rate``.

    Raises:
        InputError: for an unknown model, or one that cannot see such an input.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 4, 0.5)
        hint = f"; near misses: {', '.join(near)}" if near else ""
        raise InputError(f"--backbone {name!r}: timm has no such model{hint}")
    problem = _probe(name, input_size, kwargs, seed)
    if not isinstance(problem, str):
        return problem
    workable = next(
        (
            size
            for size in PROBED_SIZES
            if size > max(input_size) and not isinstance(_probe(name, (size, size), kwargs), str)
        ),
        None,
    )
    if workable is None:
        raise InputError(f"--backbone {name!r}: cannot be built and run: {problem}")
    scale = workable / max(input_size)
    raise InputError(
        f"--backbone {name!r} cannot see inputs of {input_size[0]}x{input_size[1]} px ({problem}); "
        f"the smallest size tried that it could is {workable} px: set --task-kwargs "
        f"input_scale={scale:.4g} (or a patch_size of {workable} on a larger canvas)"
    )


def _probe(
    name: str, size: tuple[int, int], kwargs: dict[str, Any], seed: int = 0
) -> tuple[nn.Module, BackboneSpec] | str:
    """Build the model and run it once; return it, or the reason why it cannot."""
    try:
        backbone, spec = _build(name, size, kwargs, seed)
        backbone.eval()
        with torch.no_grad():
            features = feature_map(backbone, torch.zeros(2, 3, *size))
        backbone.train()
    except Exception as error:  # a network may fail in any way on a size that it was not made for
        return one_line(error)
    if min(features.shape[-2:]) < 1:
        return "nothing is left of such an input at its last stage"
    if not bool(torch.isfinite(features).all()):
        return "its features are not finite"
    return backbone, spec


def _build(
    name: str, size: tuple[int, int], kwargs: dict[str, Any], seed: int
) -> tuple[nn.Module, BackboneSpec]:
    model_class, fixed = _traits(name)
    accepted = _parameters(model_class)
    args: dict[str, Any] = {}
    if fixed and "img_size" in accepted:
        args["img_size"] = list(size)
        if "dynamic_img_size" in accepted:
            args["dynamic_img_size"] = True
            fixed = False
    if "fc_norm" in accepted and "global_pool" in accepted:
        args |= {"global_pool": "avg", "fc_norm": False}
    elif _pools_by_token(accepted) and _can_average(name):
        args["global_pool"] = "avg"
    args |= kwargs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = timm.create_model(name, pretrained=False, num_classes=0, **args)
    return backbone, BackboneSpec(name, args, fixed)


def _parameters(model_class: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """Return what the constructor takes, through ``**kwargs`` up to timm's base class."""
    accepted: dict[str, inspect.Parameter] = {}
    for base in model_class.__mro__:
        own = inspect.signature(base.__init__).parameters  # type: ignore[misc]
        accepted = {**own, **accepted}
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in own.values()):
            break
    return accepted


def _pools_by_token(accepted: dict[str, inspect.Parameter]) -> bool:
    pool = accepted.get("global_pool")
    return pool is not None and pool.default == "token"


def _can_average(name: str) -> bool:
    """Whether the model takes ``global_pool="avg"``; PiT, for one, keeps its class token alone."""
    try:
        with torch.device("meta"):
            timm.create_model(name, pretrained=False, num_classes=0, global_pool="avg")
    except AssertionError:
        return False
    return True


def _traits(name: str) -> tuple[type[nn.Module], bool]:
    """Return the model's class and whether its default configuration fixes the input size."""
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False, num_classes=0)
    return type(model), bool(model.pretrained_cfg.get("fixed_input_size", False))


def build_model(
    name: str, task: PatchTask, seed: int, backbone_kwargs: dict[str, Any] | None = None
) -> PatchTaskModel:
    """Build a backbone for a task, with the task's head."""
    backbone, spec = build_backbone(name, task.input_size, seed, **(backbone_kwargs or {}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = task.head(num_features(backbone))
    return PatchTaskModel(backbone, head, spec, task)


def num_features(backbone: Any) -> int:
    """Return the channels of a timm model's feature map."""
    return int(backbone.num_features)


def has_batch_norm(model: nn.Module) -> bool:
    """Whether any layer normalises by batch statistics."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


class GradientShare:
    """Counts which weights of a backbone ever got a gradient from the task.

    At 32 px a net of stride 32 ends in a 1x1 map: the outer taps of its last stage's kernels only
    ever meet padding and learn nothing. The share says so.

    Args:
        backbone: the module to watch.
        steps: how many optimiser steps to watch; the first has none where a head starts at zero.
    """

    def __init__(self, backbone: nn.Module, steps: int = 5) -> None:
        self.left = steps
        self.parameters = dict(backbone.named_parameters())
        self.reached = {
            name: torch.zeros_like(p, dtype=torch.bool) for name, p in self.parameters.items()
        }

    def update(self) -> None:
        """Look at the gradients as they are now."""
        self.left -= 1
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self.reached[name] |= parameter.grad != 0

    def result(self) -> dict[str, Any]:
        """Return the share over all weights, and the tensors that nothing reached."""
        total = sum(mask.numel() for mask in self.reached.values())
        reached = sum(int(mask.sum()) for mask in self.reached.values())
        return {
            "weights": total,
            "share": round(reached / max(total, 1), 4),
            "untouched": [name for name, mask in self.reached.items() if not bool(mask.any())],
        }


def freeze_unreached(model: PatchTaskModel, input_size: tuple[int, int]) -> None:
    """Switch off gradients of parameters that the head's output does not depend on.

    timm's ``forward_head`` layers, which come after the feature map, are such parameters;
    distributed training would wait for their gradients for ever, and weight decay would wear them.
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
