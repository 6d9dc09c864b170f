"""Whether the weights in a file are a network's; timm loads any tensors of matching names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from patchit_hf.common.errors import InputError, one_line

FIRST = 3  # names in a message
Shapes = dict[str, tuple[int, ...]]


def tensor_shapes(file: Path, where: str) -> Shapes:
    """Return the shape of every tensor of a safetensors file, by name.

    Args:
        file: the file.
        where: what the error names.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}
    except Exception as error:  # a damaged header may make its reader raise anything
        raise InputError(f"{where} cannot be read as safetensors: {one_line(error)}") from error


def without_classifier(names: Iterable[str], model: Any) -> list[str]:
    """Return the names of tensors that are not of a timm model's classifier."""
    cfg = getattr(model, "pretrained_cfg", None)  # networks that are not timm's may have none
    classifiers = (cfg.get("classifier") if isinstance(cfg, dict) else None) or ()
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    return [name for name in names if not any(name.startswith(f"{head}.") for head in heads)]


def backbone_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a timm model's weights and statistics by name, without those of its classifier."""
    state = model.state_dict()
    return {name: state[name] for name in without_classifier(state, model)}


def check_fit(model: nn.Module, file: Path, name: str, source: str, args: dict[str, Any]) -> None:
    """Check that a file holds every tensor of the backbone, and no others.

    Tensors that timm itself leaves out, such as buffers of earlier versions, may be there.

    Args:
        model: the timm model that has loaded the file.
        file: a safetensors file.
        name: timm's name of the network.
        source: what the user asked for.
        args: what the network was built with.

    Raises:
        InputError: naming the first tensors that are missing or surplus.
    """
    there, here = tensor_shapes(file, f"--init {source!r}:"), model.state_dict()
    missing = [key for key in without_classifier(here, model) if key not in there]
    if missing:
        raise InputError(
            f"--init {source!r}: these are not weights of {name}: {len(missing)} of its tensors "
            f"are missing, such as {_first(missing)}"
        )
    surplus = [key for key in without_classifier(there, model) if key not in here]
    if surplus and not _left_out_by_timm(model, file, name, args):
        raise InputError(
            f"--init {source!r}: these are not weights of {name}: it has no place for "
            f"{len(surplus)} of the tensors, such as {_first(surplus)}"
        )


def misfit(there: Shapes, name: str, source: str, args: dict[str, Any]) -> InputError | None:
    """Return why weights cannot be loaded into a network, None if their shapes do not tell.

    Args:
        there: the shape of every tensor of the weights.
        name: timm's name of the network.
        source: what the user asked for.
        args: what the network is built with.
    """
    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, **args)
    except Exception:  # the error of the first try says it
        return None
    here = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    others = [
        f"{key} ({_text(there[key])} there, {_text(shape)} in {name})"
        for key, shape in here.items()
        if key in there and there[key] != shape
    ]
    if not others:
        return None
    return InputError(
        f"--init {source!r}: these are not weights of {name}: {len(others)} of its tensors have "
        f"another shape, such as {_first(others)}"
    )


def _left_out_by_timm(model: Any, file: Path, name: str, args: dict[str, Any]) -> bool:
    """Whether timm loads the file strictly once it has renamed and left out what it knows."""
    state = load_file(file)
    kept = {key: state[key] for key in without_classifier(state, model)}
    overlay = {"state_dict": kept, "num_classes": 0, "custom_load": False}
    try:
        timm.create_model(
            name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **args
        )
    except (RuntimeError, KeyError, ValueError, TypeError):
        return False
    return True


def _first(names: list[str]) -> str:
    return ", ".join(names[:FIRST])


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
