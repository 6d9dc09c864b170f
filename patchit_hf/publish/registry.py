"""Names in timm for exports: ``patchit_resnet18.people``, or ``resnet18.patchit_people``.

The first is an architecture of its own, added by timm's public ``register_model``. The second
stands beside timm's own checkpoints, like ``resnet18.a1_in1k``. timm has no public way to add it,
so it is written into timm's private registry. From then on timm builds that architecture through a
function of this module. Existing entries are not changed.

Importing this module registers the published checkpoints, without a network.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg, generate_default_cfgs, register_model
from torch import nn

from patchit_hf.common.errors import InputError
from patchit_hf.models.exported import Location, creation_args, locate, read_config, whole_cfg

__all__ = ["PUBLISHED", "enter", "register"]  # timm's ``register_model`` adds to it

PUBLISHED: dict[str, dict[str, Any]] = {}
"""The published checkpoints: contents of ``config.json`` by ``org/name`` on the Hub. None yet."""

PREFIX = "patchit_"
_TAG = re.compile(r"[A-Za-z0-9_-]+")
_locations: dict[str, Location] = {}
_args: dict[str, dict[str, Any]] = {}
_cfgs: dict[str, dict[str, Any]] = {}  # of ``patchit_*`` names, in order of registration
_entrypoints: dict[str, Callable[..., nn.Module]] = {}  # these replace timm's
default_cfgs: dict[str, Any] = {}  # timm's ``register_model`` looks for them here


def register(
    source: str | Path,
    tag: str | None = None,
    *,
    timm_name: bool = False,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> str:
    """Give an export a name in timm, for this process.

    By default the name is ``patchit_resnet18.people``, added by timm's public ``register_model``.
    Without a tag, ``patchit_resnet18`` is the first registered export of this architecture.
    ``timm.list_models("patchit_*", pretrained=True)`` lists all of them.

    The second choice is ``resnet18.patchit_people``, beside timm's own checkpoints of the
    architecture. It needs private parts of timm, and some versions may not have them.

    Args:
        source: a folder, or ``org/name[@revision]`` on the Hub.
        tag: the part after the architecture's name. By default the name of the data, with
            ``patchit_`` before it if ``timm_name`` is true.
        timm_name: whether the name is to stand beside timm's own.
        revision: branch, tag or commit on the Hub.
        cache_dir: where files of the Hub are kept; None for the usual place. With it or a token,
            the weights are fetched now, because timm knows neither when it builds the network.
        token: for the Hub; None for that of the login, False for none.

    Returns:
        The name. ``timm.create_model`` accepts it with ``pretrained=True``, and
        ``timm.list_models(pretrained=True)`` lists it.

    Raises:
        InputError: if there is no export, if the name is already used for something else, or if
            ``timm_name=True`` and this version of timm has other private parts.

    Example:
        >>> patchit_hf.register("runs/people")  # doctest: +SKIP
        'patchit_resnet18.people'
        >>> timm.create_model("patchit_resnet18", pretrained=True)  # doctest: +SKIP
    """
    location = locate(source, revision, cache_dir=cache_dir, token=token)
    return enter(read_config(location), location, tag, timm_name)


def enter(
    config: dict[str, Any],
    location: Location,
    tag: str | None = None,
    timm_name: bool = False,
) -> str:
    """Write a checkpoint into timm's registry; see ``register``.

    Args:
        config: the contents of ``config.json``.
        location: where the weights are; nothing is read there.
        tag: the part after the architecture's name.
        timm_name: see ``register``.
    """
    architecture = config["architecture"]
    args = creation_args(config)
    if args and "pretrained_model_args" not in args:
        raise InputError(
            f"{location.name!r}: a name for {architecture} needs timm 1.0.31 or newer, "
            f"{timm.__version__} is installed; it is loaded by pretrained_cfg and model_args"
        )
    cfg = whole_cfg(config, location)
    given = tag or cfg["tag"]
    if not isinstance(given, str) or not _TAG.fullmatch(given):
        raise InputError(
            f"tag {given!r} of {location.name!r}: letters, digits, - and _ are allowed"
        )
    own = f"{PREFIX}{architecture}.{tag or given.removeprefix(PREFIX) or given}"
    theirs = f"{architecture}.{given}"
    if not timm_name:
        _check_free(own, own in _cfgs, location)
        _enter_own(own, architecture, cfg, config, location)
        return own
    try:
        registry = _private_registry()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{location.name!r}: timm {timm.__version__} accepts no checkpoints beside its own: "
            f"{error}; register(..., timm_name=False) gives the name {own}"
        ) from error
    _check_free(theirs, theirs in registry._model_pretrained_cfgs, location)
    _enter_theirs(registry, theirs, cfg, config, location)
    return theirs


def _check_free(name: str, taken: bool, location: Location) -> None:
    known = _locations.get(name)
    if taken and (known is None or known.weights != location.weights):
        other = "a checkpoint of timm's" if known is None else known.name
        raise InputError(
            f"{location.name!r}: timm's name {name!r} already stands for {other!r}; choose another "
            f"tag, as in register({location.name!r}, tag='mine')"
        )


def _enter_own(
    name: str, architecture: str, cfg: dict[str, Any], config: dict[str, Any], location: Location
) -> None:
    """Register our own architecture name with all its checkpoints, through timm's public API."""
    own, _, tag = name.partition(".")
    _locations[name], _args[name] = location, creation_args(config)
    _cfgs[name] = {**cfg, "tag": tag}
    mine = {key: value for key, value in _cfgs.items() if key.startswith(f"{own}.")}
    default_cfgs.update(generate_default_cfgs(mine))
    first = next(iter(mine))

    def entrypoint(pretrained: bool = False, pretrained_cfg: Any = None, **kwargs: Any) -> Any:
        full = first
        if pretrained_cfg is None or isinstance(pretrained_cfg, str):
            full = f"{own}.{pretrained_cfg}" if pretrained_cfg else first
            if full not in mine:
                raise InputError(f"{full!r}: not registered; registered are {', '.join(mine)}")
            pretrained_cfg = mine[full]
        args = {**_args[full], **kwargs}
        return timm.create_model(architecture, pretrained, pretrained_cfg, **args)

    entrypoint.__name__ = entrypoint.__qualname__ = own
    globals()[own] = entrypoint  # timm expects this of a module with models
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", f"Overwriting {own} in registry"
        )  # with one more checkpoint
        register_model(entrypoint)


def _private_registry() -> Any:
    """Return timm's registry with the parts that a name beside timm's own needs.

    Raises:
        ImportError: if this version of timm has no such module.
        AttributeError: if its parts differ.
    """
    from timm.models import _registry

    for part in (
        _registry._model_entrypoints,
        _registry._model_pretrained_cfgs,
        _registry._model_with_tags,
        _registry._model_has_pretrained,
    ):
        if not isinstance(part, dict | set):
            raise AttributeError(f"a {type(part).__name__} in its registry")
    return _registry


def _enter_theirs(
    registry: Any, name: str, cfg: dict[str, Any], config: dict[str, Any], location: Location
) -> None:
    """Add a checkpoint to those of timm's architecture."""
    architecture, _, tag = name.partition(".")
    registry._model_pretrained_cfgs[name] = PretrainedCfg(**{**cfg, "tag": tag})
    registry._model_has_pretrained.add(name)
    if name not in registry._model_with_tags[architecture]:
        registry._model_with_tags[architecture].append(name)
    _locations[name], _args[name] = location, creation_args(config)
    _pass_args(registry, architecture)


def _pass_args(registry: Any, architecture: str) -> None:
    """Make timm build our checkpoints with their own arguments, as it does for a folder."""
    plain = registry._model_entrypoints[architecture]
    if plain is _entrypoints.get(architecture):
        return

    @functools.wraps(plain)
    def entrypoint(pretrained: bool = False, **kwargs: Any) -> Any:
        cfg = kwargs.get("pretrained_cfg")
        args = _args.get(f"{architecture}.{cfg}", {}) if isinstance(cfg, str) else {}
        model = plain(pretrained=pretrained, **{**args, **kwargs})
        if args:  # timm's own export saves these
            model._model_args = args["pretrained_model_args"]
        return model

    _entrypoints[architecture] = registry._model_entrypoints[architecture] = entrypoint


for _repo_id, _config in PUBLISHED.items():
    enter(_config, locate(_repo_id))
