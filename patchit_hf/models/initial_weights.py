"""Initial weights: random, timm's, an export (from here or elsewhere), a file, or a given model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from patchit_hf.common.errors import InputError
from patchit_hf.common.hub_access import HubAccess
from patchit_hf.common.layout import BACKBONE_FILE
from patchit_hf.common.online import cached_if_unreachable
from patchit_hf.models.backbone import pooling_args
from patchit_hf.models.exported import creation_args, locate, read_config, undamaged
from patchit_hf.models.given_model import architecture_of, unwrapped, weights_of
from patchit_hf.models.names import check_init, is_file_name
from patchit_hf.models.origin import (
    INSTANCE,
    Origin,
    fingerprint,
    origin_now,
    origin_of_export,
    origin_of_file,
    origin_of_timm,
)
from patchit_hf.models.requested import Request
from patchit_hf.models.weight_files import plain_weights
from patchit_hf.models.weights_fit import backbone_state

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
        origin: where the weights come from; None for random ones.
        drawn: fingerprint of random weights.
    """

    backbone: nn.Module
    name: str
    args: dict[str, Any]
    source: str
    statistics: Statistics | None
    input_size: tuple[int, int] | None
    origin: Origin | None = None
    drawn: str | None = None

    def settled(self) -> Initial:
        """Return this with an origin that is true of the weights as they are now."""
        weights = backbone_state(self.backbone)
        return dataclasses.replace(
            self, origin=origin_now(weights, self.name, self.origin, self.drawn)
        )


def open_initial(
    source: str | nn.Module,
    backbone: str | None,
    num_classes: int,
    *,
    seed: int = 0,
    input_size: tuple[int, int] | None = None,
    backbone_kwargs: dict[str, Any] | None = None,
    network_args: Callable[[str], dict[str, Any]] | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> Initial:
    """Build a backbone with the initial weights that ``--init`` names, and a new classifier.

    Args:
        source: ``random``; ``timm`` or ``timm:TAG`` for timm's own weights; ``hf-hub:org/name`` or
            ``org/name[@revision]``; the folder of an export or of a finetuned model; a
            file of backbone weights (``.safetensors``, or ``.pth``, which is not unpickled); or a
            timm model, also compiled or distributed, which stays as it is.
        backbone: timm's architecture name; None for an export, which brings its own.
        num_classes: outputs of the classifier, 0 for none.
        seed: seed of everything random.
        input_size: height and width of the inputs, for networks of a fixed size.
        backbone_kwargs: further arguments of the timm model.
        network_args: returns the arguments that every network of this name is built with,
            whatever the weights; ``backbone_kwargs`` come on top.
        revision: branch, tag or commit of an export on the Hub.
        cache_dir: where files of the Hub are kept; None for the usual place.
        token: for the Hub; None for that of the login, False for none.

    Raises:
        InputError: if there are no such weights, or they belong to another network.

    Example:
        >>> initial = open_initial("random", "resnet10t", num_classes=3)
        >>> initial.backbone(torch.zeros(2, 3, 64, 32)).shape
        torch.Size([2, 3])
    """
    request = Request(
        source if isinstance(source, str) else INSTANCE,
        backbone,
        num_classes,
        input_size,
        dict(backbone_kwargs or {}),
        network_args or (lambda name: {}),
        HubAccess(revision, cache_dir, token),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = _opened(source, request)
    weights = backbone_state(found.backbone)
    if found.origin is None:
        return dataclasses.replace(found, drawn=fingerprint(weights))
    origin = dataclasses.replace(found.origin, fingerprint=fingerprint(weights))
    return dataclasses.replace(found, origin=origin)


def _opened(source: str | nn.Module, request: Request) -> Initial:
    if not isinstance(source, str) or source.partition(":")[0] in ("random", "timm"):
        request.access.refuse_revision(request.source)
    if not isinstance(source, str):
        return _from_model(unwrapped(source), request)
    if source == "random":
        name = request.named()
        args = {**pooling_args(name), **request.args(name)}  # exports' pooling, to be comparable
        return Initial(request.create(name, args), name, args, source, None, None)
    if source == "timm" or source.startswith("timm:"):
        tag = source.partition(":")[2]
        name = request.named()
        args = request.args(name)
        kept = {key: v for key, v in request.access.options().items() if key == "cache_dir"}
        with cached_if_unreachable(f"--init {source}"):
            full = f"{name}.{tag}" if tag else name
            model = request.create(name, args, full, pretrained=True, **kept)
        return _described(model, name, args, source, origin_of_timm(source, name, model))
    if is_file_name(source):
        return _from_file(source, request)
    with undamaged(source):
        return _from_export(source, request)


def _from_model(given: nn.Module, request: Request) -> Initial:
    name = architecture_of(given)
    if request.backbone not in (None, name):
        raise InputError(f"model: a {name}, and the backbone asked for is {request.backbone!r}")
    args = request.args(name)
    weights = weights_of(given)
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    overlay = {"state_dict": weights, "num_classes": 0, "custom_load": False}
    model: Any = request.create_from(shapes, name, args, pretrained_cfg_overlay=overlay)
    cfg: Any = given.pretrained_cfg
    kept = {key: cfg.get(key) for key in ("mean", "std", "interpolation")}
    model.pretrained_cfg = {
        **{key: value for key, value in model.pretrained_cfg.items() if key != "state_dict"},
        **{key: value for key, value in kept.items() if value is not None},
    }
    return _described(model, name, args, INSTANCE, Origin(INSTANCE, name, INSTANCE))


def _from_file(source: str, request: Request) -> Initial:
    request.access.refuse_revision(source)
    file, name = Path(source), request.named()
    if not file.is_file():
        raise InputError(f"--init {source!r}: no such file")
    args = request.args(name)
    with plain_weights(file, source) as plain:
        there = {"file": str(plain.absolute()), "hf_hub_id": None, "url": ""}
        overlay = {**there, "custom_load": False}
        model: Any = request.create_from_file(plain, name, args, pretrained_cfg_overlay=overlay)
    with undamaged(source):
        origin = origin_of_file(source, name)
    return _described(model, name, args, source, origin)


def _from_export(source: str, request: Request) -> Initial:
    check_init(source)
    location = locate(source, **request.access.options())
    config = read_config(location)
    name = str(config["architecture"])
    if request.backbone is not None and request.backbone != name:
        raise InputError(
            f"--init {source!r}: holds a {name}, and --backbone asks for {request.backbone!r}"
        )
    cfg = {**config["pretrained_cfg"], **location.weights, "num_classes": 0}
    cfg["num_classes"] = int(config.get("num_classes", 0))
    args = {**creation_args(config), **request.args(name)}
    file = location.fetch(BACKBONE_FILE) / BACKBONE_FILE
    model = request.create_from_file(file, name, args, pretrained_cfg=cfg)
    args.pop("pretrained_model_args", None)
    origin = origin_of_export(source, name, location, config["pretrained_cfg"])
    found = _described(model, name, args, source, origin)
    shape = config["pretrained_cfg"].get("input_size")
    fixed = bool(config["pretrained_cfg"].get("fixed_input_size"))
    if shape is None or fixed:
        return found
    return dataclasses.replace(found, input_size=(shape[1], shape[2]))


def _described(model: Any, name: str, args: dict[str, Any], source: str, origin: Origin) -> Initial:
    cfg = model.pretrained_cfg
    statistics = (tuple(map(float, cfg["mean"])), tuple(map(float, cfg["std"])))
    return Initial(model, name, args, source, statistics, None, origin)
