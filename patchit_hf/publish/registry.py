"""Names in timm for our checkpoints: ``resnet18.patchit_people`` beside ``resnet18.a1_in1k``.

Importing this module registers the published checkpoints, without a network. timm has no public way
to add a checkpoint to an architecture of its own, so that this writes into its registry; nothing
that is there already is changed.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from timm.models import PretrainedCfg, _registry

from patchit_hf.common.errors import InputError
from patchit_hf.models.exported import Location, creation_args, locate, read_config, whole_cfg

PUBLISHED: dict[str, dict[str, Any]] = {}
"""The published checkpoints: the Hub's ``org/name`` to what its ``config.json`` holds. None yet."""

_TAG = re.compile(r"[A-Za-z0-9_-]+")
_locations: dict[str, Location] = {}
_args: dict[str, dict[str, Any]] = {}


def register(source: str | Path, tag: str | None = None) -> str:
    """Give an export a name in timm, for this process.

    Args:
        source: a folder, or ``org/name[@revision]`` on the Hub.
        tag: what comes after the architecture's name; ``patchit_<data>`` by default.

    Returns:
        The name, such as ``resnet18.patchit_people``: ``timm.create_model`` takes it with
        ``pretrained=True``, and ``timm.list_models(pretrained=True)`` shows it.

    Raises:
        InputError: if there is no export, or the name stands for something else.
    """
    location = locate(source)
    return enter(read_config(location), location, tag)


def enter(config: dict[str, Any], location: Location, tag: str | None = None) -> str:
    """Write a checkpoint into timm's registry; see ``register``.

    Args:
        config: what ``config.json`` holds.
        location: where the weights lie; nothing is read there.
        tag: what comes after the architecture's name.
    """
    architecture = config["architecture"]
    cfg = whole_cfg(config, location)
    tag = tag or cfg["tag"]
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise InputError(f"tag {tag!r} of {location.name!r}: letters, digits, - and _ are allowed")
    name = f"{architecture}.{tag}"
    taken = _registry._model_pretrained_cfgs.get(name)
    if taken is not None and (
        name not in _locations or _locations[name].weights != location.weights
    ):
        other = _locations[name].name if name in _locations else "a checkpoint of timm's"
        raise InputError(
            f"{location.name!r}: timm's name {name!r} stands for {other!r}; choose another tag, as "
            f"in register({location.name!r}, tag='mine')"
        )
    _registry._model_pretrained_cfgs[name] = PretrainedCfg(**{**cfg, "tag": tag})
    _registry._model_has_pretrained.add(name)
    if name not in _registry._model_with_tags[architecture]:
        _registry._model_with_tags[architecture].append(name)
    _locations[name] = location
    _args[name] = creation_args(config)
    _pass_args(architecture)
    return name


def _pass_args(architecture: str) -> None:
    """Let timm build a network of ours with its own arguments, as it does for a folder."""
    plain = _registry._model_entrypoints[architecture]
    if getattr(plain, "_patchit_hf", False):
        return

    @functools.wraps(plain)
    def entrypoint(pretrained: bool = False, **kwargs: Any) -> Any:
        cfg = kwargs.get("pretrained_cfg")
        args = _args.get(f"{architecture}.{cfg}", {}) if isinstance(cfg, str) else {}
        model = plain(pretrained=pretrained, **{**args, **kwargs})
        if args:  # what timm's own export writes down
            model._model_args = args["pretrained_model_args"]
        return model

    entrypoint._patchit_hf = True  # type: ignore[attr-defined]
    _registry._model_entrypoints[architecture] = entrypoint


for _repo_id, _config in PUBLISHED.items():
    enter(_config, locate(_repo_id))
