"""The exports that are averaged: read, and checked to fit each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json
from patchit_hf.common.hub_access import USUAL, HubAccess
from patchit_hf.common.layout import BACKBONE_FILE, CONFIG_FILE, DONE_FILE
from patchit_hf.models.exported import locate, read_config

DIGITS = 4  # mean and deviation of the input are compared to this many


@dataclass(frozen=True)
class Source:
    """An export that is averaged.

    Attributes:
        name: what the user wrote.
        hub: whether it is on the Hub.
        weights: its backbone's safetensors file.
        config: what ``config.json`` holds.
        record: what ``patchit.json`` holds.
    """

    name: str
    hub: bool
    weights: Path
    config: dict[str, Any]
    record: dict[str, Any]

    @property
    def cfg(self) -> dict[str, Any]:
        """The configuration that timm reads, of the weights."""
        return dict(self.config["pretrained_cfg"])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        _, height, width = self.cfg["input_size"]
        return int(height), int(width)


def open_source(name: str, access: HubAccess = USUAL) -> Source:
    """Read an export.

    Args:
        name: a folder, or ``org/name[@revision]`` on the Hub.
        access: how the Hub is read.

    Raises:
        InputError: if there is no export of a pretrained backbone.
    """
    location = locate(name, **access.options())
    config = read_config(location)
    folder = location.fetch(DONE_FILE, CONFIG_FILE, BACKBONE_FILE)
    record = read_json(folder / DONE_FILE)
    if "downstream" in record:
        raise InputError(
            f"{name!r}: is a finetuned model; only pretrained backbones can be averaged"
        )
    if "input_size" not in config["pretrained_cfg"]:
        raise InputError(f"{name!r}: {CONFIG_FILE} has no input_size")
    return Source(name, location.folder is None, folder / BACKBONE_FILE, config, record)


def check_alike(sources: list[Source]) -> None:
    """Check that all sources are of one network, one normalisation and one start.

    Raises:
        InputError: naming the first that differs from the first source, and in what.
    """
    first = sources[0]
    for other in sources[1:]:
        for what, mine, theirs in (
            ("architecture", first.config["architecture"], other.config["architecture"]),
            ("network arguments", _args(first), _args(other)),
            ("mean of the input", _rounded(first, "mean"), _rounded(other, "mean")),
            ("deviation of the input", _rounded(first, "std"), _rounded(other, "std")),
        ):
            if mine != theirs:
                raise InputError(
                    f"{other.name!r}: its {what} is {theirs}, that of {first.name!r} is {mine}; "
                    "an average needs the same"
                )
    for index, one in enumerate(sources):
        for other in sources[index + 1 :]:
            start, theirs = start_of(one.record), start_of(other.record)
            if not same_start(start, theirs):
                found, expected = in_words(theirs), in_words(start)
                if found == expected:
                    found += f" with fingerprint {theirs.get('fingerprint')}"
                    expected += f" with {start.get('fingerprint')}"
                raise InputError(
                    f"{other.name!r} started from {found}, and {one.name!r} from {expected}; "
                    "an average needs the same"
                )


def shared_size(sources: list[Source], given: tuple[int, int] | None) -> tuple[int, int]:
    """Return the size at which the average sees whole crops, in pixels.

    Raises:
        InputError: if the sources differ and none is given, or if the network takes only another.
    """
    first = sources[0]
    if given is not None:
        if first.cfg.get("fixed_input_size") and given != first.size:
            raise InputError(
                f"--input-size {given[0]}x{given[1]}: this network takes only "
                f"{first.size[0]}x{first.size[1]}"
            )
        return given
    for other in sources[1:]:
        if other.size != first.size:
            raise InputError(
                f"{other.name!r}: its input is {other.size[0]}x{other.size[1]} px, that of "
                f"{first.name!r} {first.size[0]}x{first.size[1]}; choose one with --input-size"
            )
    return first.size


def start_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a record says of the weights that its run started from; ``{}`` for nothing.

    Example:
        >>> start_of({"config": {"seed": 3}})
        {'init': 'random', 'seed': 3}
    """
    if isinstance(record.get("initial_weights"), dict):
        return dict(record["initial_weights"])
    config = record.get("config", {})
    init = config.get("init") or "random"
    if init != "random":
        return {"init": init}
    return {"init": init, "seed": config["seed"]} if "seed" in config else {}


def same_start(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two starts may be the same: nothing that both of them say is different.

    The fingerprint of the weights decides where both have it, since one file may have two names.

    Example:
        >>> same_start({"init": "random", "seed": 0}, {"init": "random", "seed": 1})
        False
        >>> same_start({"init": "a.safetensors"}, {})
        True
    """
    if one.get("fingerprint") and other.get("fingerprint"):
        return bool(one["fingerprint"] == other["fingerprint"])
    return all(one[key] == other[key] for key in ("init", "seed") if key in one and key in other)


def in_words(start: dict[str, Any]) -> str:
    """Return a start as messages and cards name it.

    Example:
        >>> in_words({"init": "random", "seed": 0})
        'random weights of seed 0'
    """
    if not start:
        return "weights that its record does not name"
    if start.get("init") == "random":
        return f"random weights of seed {start.get('seed')}"
    init = str(start.get("source") or start.get("init"))
    return Path(init).name if init.endswith(".safetensors") or Path(init).is_dir() else init


def _args(source: Source) -> dict[str, Any]:
    return dict(source.config.get("model_args", {}))


def _rounded(source: Source, key: str) -> list[float]:
    return [round(float(v), DIGITS) for v in source.cfg.get(key, [])]
