"""Initial weights for finetuning: random, timm's, an export (from here or elsewhere), or a file."""

from __future__ import annotations

import copy
import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub.errors import HTTPError
from safetensors import SafetensorError, safe_open
from torch import nn

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.layout import BACKBONE_FILE
from patchit_hf.models.backbone import constructor_parameters, model_traits, pooling_args
from patchit_hf.models.exported import creation_args, locate, read_config

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[^@\s]+)?")
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Initial:
    """A backbone with its initial weights.

    Attributes:
        backbone: a timm model with ``num_classes`` outputs.
        name: timm's architecture name.
        args: arguments beyond timm's defaults that it was built with.
        source: what the user asked for.
        statistics: mean and standard deviation per channel that the weights expect; None for those
            of the training crops.
        input_size: height and width that the weights were trained for; None if unknown.
    """

    backbone: nn.Module
    name: str
    args: dict[str, Any]
    source: str
    statistics: Statistics | None
    input_size: tuple[int, int] | None


def open_initial(
    source: str,
    backbone: str | None,
    num_classes: int,
    *,
    seed: int = 0,
    input_size: tuple[int, int] | None = None,
    backbone_kwargs: dict[str, Any] | None = None,
) -> Initial:
    """Build a backbone with the initial weights that ``--init`` names, and a new classifier.

    Args:
        source: ``random``; ``timm`` or ``timm:TAG`` for timm's own weights; ``hf-hub:org/name`` or
            ``org/name[@revision]``; the folder of an export or of a finetuned model; or a
            ``.safetensors`` file of backbone weights.
        backbone: timm's architecture name; None for an export, which brings its own.
        num_classes: outputs of the classifier, 0 for none.
        seed: seed of everything random.
        input_size: height and width of the inputs, for networks of a fixed size.
        backbone_kwargs: further arguments of the timm model.

    Raises:
        InputError: if there are no such weights, or they belong to another network.

    Example:
        >>> initial = open_initial("random", "resnet10t", num_classes=3)
        >>> initial.backbone(torch.zeros(2, 3, 64, 32)).shape
        torch.Size([2, 3])
    """
    kwargs = dict(backbone_kwargs or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if source == "random":
            name = _named(backbone, source)
            args = {**pooling_args(name), **kwargs}  # the pooling of exports, for a fair comparison
            model = _create(name, source, num_classes, input_size, args)
            return Initial(model, name, args, source, None, None)
        if source == "timm" or source.startswith("timm:"):
            tag = source.partition(":")[2]
            name = _named(backbone, source)
            full = f"{name}.{tag}" if tag else name
            model = _create(full, source, num_classes, input_size, kwargs, pretrained=True)
            return _described(model, name, kwargs, source)
        if source.endswith(".safetensors"):
            return _from_file(source, backbone, num_classes, input_size, kwargs)
        return _from_export(source, backbone, num_classes, input_size, kwargs)


def reinitialize_last_stage(backbone: Any, seed: int) -> str:
    """Give the last stage random weights again and return its name.

    A pretext task specialises the deep stages most (Yosinski et al., NeurIPS 2014).

    Raises:
        InputError: if the network does not name its stages.
    """
    info: Any = getattr(backbone, "feature_info", None)
    stages = getattr(info, "info", info)
    name = str(stages[-1].get("module", "")) if isinstance(stages, list) and stages else ""
    try:
        stage = backbone.get_submodule(name)
    except AttributeError:
        stage = backbone
    if not name or stage is backbone:
        raise InputError("--reinit-last-stage: this backbone does not name its stages")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in stage.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return name


def _from_file(
    source: str, backbone: str | None, num_classes: int, size: Any, kwargs: dict[str, Any]
) -> Initial:
    file, name = Path(source), _named(backbone, source)
    if not file.is_file():
        raise InputError(f"--init {source!r}: no such file")
    overlay = {"file": str(file.absolute()), "custom_load": False, "hf_hub_id": None, "url": ""}
    model = _create(
        name, source, num_classes, size, kwargs, pretrained=True, pretrained_cfg_overlay=overlay
    )
    _check_fit(model, file, name, source)
    return _described(model, name, kwargs, source)


def _from_export(
    source: str, backbone: str | None, num_classes: int, size: Any, kwargs: dict[str, Any]
) -> Initial:
    rest = source.removeprefix("hf-hub:").removeprefix("local-dir:")
    if not Path(rest).is_dir() and not _HUB_ID.fullmatch(rest):
        known = "random, timm[:tag], hf-hub:org/name, a folder, or a .safetensors file"
        near = difflib.get_close_matches(source, ["random", "timm"], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"--init {source!r}: neither a folder nor a known source ({known}){hint}")
    location = locate(source)
    config = read_config(location)
    name = str(config["architecture"])
    if backbone is not None and backbone != name:
        raise InputError(f"--init {source!r}: holds a {name}, and --backbone asks for {backbone!r}")
    cfg = {**config["pretrained_cfg"], **location.weights, "num_classes": 0}
    cfg["num_classes"] = int(config.get("num_classes", 0))
    args = {**creation_args(config), **kwargs}
    model = _create(name, source, num_classes, size, args, pretrained=True, pretrained_cfg=cfg)
    args.pop("pretrained_model_args", None)
    _check_fit(model, location.fetch(BACKBONE_FILE) / BACKBONE_FILE, name, source)
    found = _described(model, name, args, source)
    shape = config["pretrained_cfg"].get("input_size")
    fixed = bool(config["pretrained_cfg"].get("fixed_input_size"))
    if shape is None or fixed:
        return found
    return Initial(model, name, args, source, found.statistics, (shape[1], shape[2]))


def _check_fit(model: Any, file: Path, name: str, source: str) -> None:
    """Check that the weights are this network's; timm loads any tensors of matching names.

    Raises:
        InputError: naming the first tensor that is missing.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            there = set(tensors.keys())
    except SafetensorError as error:
        raise InputError(f"--init {source!r}: cannot be read: {error}") from error
    classifiers = model.pretrained_cfg.get("classifier") or ()
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    missing = [
        key
        for key in model.state_dict()
        if key not in there and not any(key.startswith(f"{head}.") for head in heads)
    ]
    if missing:
        raise InputError(
            f"--init {source!r}: these are not weights of {name}: {len(missing)} of its tensors "
            f"are missing, such as {missing[0]}"
        )


def _described(model: Any, name: str, args: dict[str, Any], source: str) -> Initial:
    cfg = model.pretrained_cfg
    statistics = (tuple(map(float, cfg["mean"])), tuple(map(float, cfg["std"])))
    return Initial(model, name, args, source, statistics, None)


def _create(
    name: str,
    source: str,
    num_classes: int,
    input_size: tuple[int, int] | None,
    args: dict[str, Any],
    **weights: Any,
) -> nn.Module:
    """Build the network with timm; one of a fixed size is built for the given input size."""
    args = copy.deepcopy(args)
    if input_size is not None and _takes_size(name):
        args["img_size"] = list(input_size)
    try:
        model: nn.Module = timm.create_model(name, num_classes=num_classes, **weights, **args)
    except (RuntimeError, ValueError, TypeError, OSError, KeyError, HTTPError) as error:
        text = one_line(error)
        raise InputError(f"--init {source!r}: cannot be loaded into {name}: {text}") from error
    return model


def _takes_size(name: str) -> bool:
    """Return whether the network has a fixed input size that can be set by ``img_size``."""
    model_class, fixed = model_traits(name)
    return fixed and "img_size" in constructor_parameters(model_class)


def _named(backbone: str | None, source: str) -> str:
    if backbone is None:
        raise InputError(f"--init {source!r}: needs --backbone, such as resnet18")
    if not timm.is_model(backbone):
        near = difflib.get_close_matches(backbone, timm.list_models(), 4, 0.5)
        hint = f"; similar names: {', '.join(near)}" if near else ""
        raise InputError(f"--backbone {backbone!r}: timm has no such model{hint}")
    return backbone
