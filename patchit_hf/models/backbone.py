"""Timm backbones that return feature maps."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import timm.models
import torch
from torch import nn

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.models.feature_maps import feature_map as feature_map
from patchit_hf.models.names import unknown_backbone

PROBED_SIZES = (32, 48, 64, 96, 112, 120, 128, 160, 192, 224, 240, 256, 288, 320, 384, 448, 512)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class BackboneSpec:
    """How a backbone was built, so that it can be rebuilt and exported.

    Attributes:
        name: timm's architecture name.
        args: keyword arguments beyond timm's defaults that change the network.
        fixed_size: whether the network accepts only the size that it was built for.
        own: whether the network is not timm's, see ``own_network``; ``name`` is that of its class.
    """

    name: str
    args: dict[str, Any]
    fixed_size: bool
    own: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``backbone`` of a record."""
        return {"name": self.name, "args": self.args, **({"own": True} if self.own else {})}


def build_backbone(
    name: str, input_size: tuple[int, int], seed: int = 0, **kwargs: Any
) -> tuple[nn.Module, BackboneSpec]:
    """Build a timm backbone with random weights for a given input size.

    Networks of a fixed size are built for that size. Vision transformers average their tokens
    (``global_pool="avg", fc_norm=False``), so that the exported features are the trained ones.
    Where they can, they accept any size that their patches divide (``dynamic_img_size``).

    Args:
        name: timm's model name, without a tag.
        input_size: height and width of the inputs, in pixels.
        seed: seed of the initial weights.
        **kwargs: further arguments of the timm model, such as ``drop_path_rate``.

    Returns:
        The backbone in training mode, and how it was built.

    Raises:
        InputError: for an unknown model, a name with a tag, or a model that cannot process such
            inputs.

    Example:
        >>> backbone, spec = build_backbone("resnet10t", (32, 32))
        >>> feature_map(backbone, torch.zeros(2, 3, 64, 32)).shape
        torch.Size([2, 512, 2, 1])
    """
    check_name(name)
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
        raise InputError(f"--backbone {name!r}: cannot be built or run: {problem}")
    scale = workable / max(input_size)
    raise InputError(
        f"--backbone {name!r} cannot process inputs of {input_size[0]}x{input_size[1]} px "
        f"({problem}); the smallest size that worked is {workable} px: set --task-kwargs "
        f"input_scale={scale:.4g} (or a patch_size of {workable} on a larger canvas)"
    )


def _probe(
    name: str, size: tuple[int, int], kwargs: dict[str, Any], seed: int = 0
) -> tuple[nn.Module, BackboneSpec] | str:
    """Build the model and run it once; return it, or the reason why that fails."""
    try:
        backbone, spec = _build(name, size, kwargs, seed)
        backbone.eval()
        with torch.no_grad():
            features = feature_map(backbone, torch.zeros(2, 3, *size))
        backbone.train()
    except Exception as error:  # a network may fail in any way on an unsuitable size
        return one_line(error)
    if min(features.shape[-2:]) < 1:
        return "its last feature map is empty for such an input"
    if not bool(torch.isfinite(features).all()):
        return "its features are not finite"
    return backbone, spec


def _build(
    name: str, size: tuple[int, int], kwargs: dict[str, Any], seed: int
) -> tuple[nn.Module, BackboneSpec]:
    own, fixed = pretraining_args(name, size)
    args = {**own, **kwargs}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = timm.create_model(name, pretrained=False, num_classes=0, **args)
    return backbone, BackboneSpec(name, args, fixed)


def pretraining_args(name: str, size: tuple[int, int]) -> tuple[dict[str, Any], bool]:
    """Return timm's arguments of a network that is pretrained on inputs of a size.

    Args:
        name: timm's model name, without a tag.
        size: height and width of the inputs, in pixels.

    Returns:
        The arguments, and whether the network accepts only inputs of this size.

    Example:
        >>> pretraining_args("resnet18", (32, 32))
        ({}, False)
    """
    model_class, fixed = model_traits(name)
    accepted = constructor_parameters(model_class)
    args: dict[str, Any] = {}
    if fixed and "img_size" in accepted:
        args["img_size"] = list(size)
        if "dynamic_img_size" in accepted:
            args["dynamic_img_size"] = True
            fixed = False
    return args | _pooling(name, accepted), fixed


def check_name(name: str) -> None:
    """Check that timm has a network of this name, and that the name asks for no weights.

    Raises:
        InputError: if it has not, or the name has a tag.
    """
    if not timm.is_model(name):
        raise unknown_backbone(name, timm.list_models())
    architecture, _, tag = name.partition(".")
    if tag:
        raise InputError(
            f"--backbone {name!r}: names weights, too; write --backbone {architecture} "
            f"--init timm:{tag}"
        )


def pooling_args(name: str) -> dict[str, Any]:
    """Return the pooling that a network is trained and exported with, as arguments for timm.

    Networks that would pool by their class token, which no patch task trains, average the other
    tokens instead: vision transformers after their final norm, the rest (CaiT, CoaT, ConViT) where
    timm does. All others keep timm's pooling (``{}``), as do those that offer only the class token
    (PiT).

    Args:
        name: timm's model name, without a tag.

    Example:
        >>> pooling_args("vit_tiny_patch16_224"), pooling_args("resnet18")
        ({'global_pool': 'avg', 'fc_norm': False}, {})
    """
    return _pooling(name, constructor_parameters(model_traits(name)[0]))


def _pooling(name: str, accepted: dict[str, inspect.Parameter]) -> dict[str, Any]:
    if "fc_norm" in accepted and "global_pool" in accepted:
        return {"global_pool": "avg", "fc_norm": False}
    if _pools_by_token(accepted) and _can_average(name):
        return {"global_pool": "avg"}
    return {}


def constructor_parameters(model_class: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """Return the constructor's parameters, following ``**kwargs`` up to timm's base class."""
    accepted: dict[str, inspect.Parameter] = {}
    for base in model_class.__mro__:
        own = inspect.signature(inspect.getattr_static(base, "__init__")).parameters
        accepted = {**own, **accepted}
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in own.values()):
            break
    return accepted


def _pools_by_token(accepted: dict[str, inspect.Parameter]) -> bool:
    pool = accepted.get("global_pool")
    return pool is not None and pool.default == "token"


def _can_average(name: str) -> bool:
    """Whether the model accepts ``global_pool="avg"``; PiT offers only its class token."""
    return _found(name, _entry_point(name), "avg") is not None


def model_traits(name: str) -> tuple[type[nn.Module], bool]:
    """Return the model's class and whether its default configuration fixes the input size."""
    traits = _found(name, _entry_point(name))
    assert traits is not None
    return traits


def _entry_point(name: str) -> Callable[..., Any]:
    """Return the function that builds the model; another one may be registered in its place."""
    entry_point: Callable[..., Any] = timm.models.model_entrypoint(name.partition(".")[0])
    return entry_point


@functools.cache
def _found(
    name: str, entry_point: Callable[..., Any], pool: str | None = None
) -> tuple[type[nn.Module], bool] | None:
    """Return the traits of a model without weights; None if it does not accept this pooling."""
    try:
        with torch.device("meta"):
            options = {} if pool is None else {"global_pool": pool}
            model = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except AssertionError:
        if pool is None:
            raise
        return None
    return type(model), bool(model.pretrained_cfg.get("fixed_input_size", False))


def num_features(backbone: Any) -> int:
    """Return the number of channels of a timm model's feature map."""
    return int(backbone.num_features)


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether any layer normalises by batch statistics."""
    return any(isinstance(module, BATCH_NORMS) for module in model.modules())
