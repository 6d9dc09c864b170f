"""Read a pretrained export back: backbone, pretext head, task and history."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.files import read_json
from patchit_hf.common.layout import BACKBONE_FILE, DONE_FILE, FORMAT_VERSION, HEAD_FILE
from patchit_hf.models.backbone import (
    BackboneSpec,
    build_backbone,
    num_features,
    pretraining_args,
)
from patchit_hf.models.bounds import check_sides, check_size
from patchit_hf.models.exported import (
    Location,
    check_architecture,
    check_args,
    locate,
    read_config,
    undamaged,
)
from patchit_hf.models.given_model import unwrapped
from patchit_hf.models.origin import Origin, fingerprint, origin_of_export
from patchit_hf.models.own_network import own_backbone
from patchit_hf.models.weights_fit import backbone_state, tensor_shapes
from patchit_hf.patch_tasks import create_task
from patchit_hf.patch_tasks.base import PatchTask


@dataclass(frozen=True)
class Export:
    """What an export holds.

    Attributes:
        backbone: the network with its weights.
        head: the task's head with its weights.
        spec: how the backbone was built.
        task: the task, with mean and deviation of the crops.
        origin: where the weights come from: this export, with its own history.
        record: its ``patchit.json``.
    """

    backbone: nn.Module
    head: nn.Module
    spec: BackboneSpec
    task: PatchTask
    origin: Origin
    record: dict[str, Any]


def read_export(
    source: str | Path,
    revision: str | None = None,
    *,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    backbone: nn.Module | None = None,
) -> Export:
    """Read an export; see ``PatchTaskModel.from_pretrained``.

    Args:
        source: a folder, or ``org/name[@revision]`` on the Hub.
        revision: branch, tag or commit on the Hub.
        cache_dir: where files of the Hub are kept; None for the usual place.
        token: for the Hub; None for that of the login, False for none.
        backbone: a network like the one that was trained, if that was not timm's.

    Raises:
        InputError: if there is no export, or one that this version cannot read.
    """
    location = locate(source, revision, cache_dir=cache_dir, token=token)
    with undamaged(location.name):
        return _read(location, backbone)


def _read(location: Location, given: nn.Module | None) -> Export:
    record = read_json(location.fetch(DONE_FILE) / DONE_FILE)
    if "averaged" in record:
        raise InputError(
            f"{location.name!r}: is an average of backbones, which has no head; load it with timm"
        )
    folder = location.fetch(DONE_FILE, BACKBONE_FILE)
    where = f"{location.name!r}: {DONE_FILE}"
    version = record.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{where}: has format {version!r}; this version of patchit_hf reads {FORMAT_VERSION}"
        )
    try:
        task = _task(record)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    head_file = location.fetch_head(folder)
    files = folder / BACKBONE_FILE, head_file
    network, spec = _network(record["backbone"], task, files, location.name, given)
    with torch.random.fork_rng(devices=[]):
        head = task.head(num_features(network))  # its random weights are replaced
    _fill(network, folder / BACKBONE_FILE, location)
    _fill(head, head_file, location)
    config = read_config(location, own=spec.own)
    origin = origin_of_export(location.name, spec.name, location, config["pretrained_cfg"])
    origin = dataclasses.replace(origin, fingerprint=fingerprint(backbone_state(network)))
    return Export(network, head, spec, task, origin, record)


def _task(record: dict[str, Any]) -> PatchTask:
    entry, data = record["task"], record["data"]
    canvas = check_sides(entry["canvas"], f"{DONE_FILE}: canvas")
    task = create_task(entry["name"], canvas, **entry["kwargs"])
    return task.with_statistics(data["mean"], data["std"])


def _network(
    entry: dict[str, Any],
    task: PatchTask,
    files: tuple[Path, Path],
    source: str,
    given: nn.Module | None,
) -> tuple[nn.Module, BackboneSpec]:
    """Build the network of a record, or take the given one if it is not timm's."""
    name, args, where = entry["name"], entry["args"], f"{source!r}: {DONE_FILE}"
    if bool(entry.get("own")) != (given is not None):
        kind = (
            f"is not timm's; give it: PatchTaskModel.from_pretrained({source!r}, backbone=...)"
            if given is None
            else "is timm's, which builds it; leave out backbone="
        )
        raise InputError(f"{where}: its network {name!r} {kind}")
    if given is not None:
        network, spec = own_backbone(unwrapped(given), task)
        shapes = tensor_shapes(files[1], f"{source!r}: {HEAD_FILE}")
        check_size(lambda: task.head(num_features(network)), shapes, where)
        return network, spec
    check_architecture(name, where)
    check_args(args, where)
    _check_network(name, args, task, files, source)
    return build_backbone(name, task.input_size, 0, **args)


def _check_network(
    name: str, args: dict[str, Any], task: PatchTask, files: tuple[Path, Path], where: str
) -> None:
    """Check that backbone and head are about as large as their weights, before they are built."""
    shapes = tensor_shapes(files[0], f"{where!r}: {BACKBONE_FILE}")
    args = {**pretraining_args(name, task.input_size)[0], **args}
    backbone = check_size(
        lambda: timm.create_model(name, pretrained=False, num_classes=0, **args),
        shapes,
        f"{where!r}: {DONE_FILE}",
    )
    shapes = tensor_shapes(files[1], f"{where!r}: {HEAD_FILE}")
    check_size(lambda: task.head(num_features(backbone)), shapes, f"{where!r}: {DONE_FILE}")


def _fill(module: nn.Module, file: Path, location: Location) -> None:
    try:
        module.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:
        name = HEAD_FILE if file.as_posix().endswith(HEAD_FILE) else file.name
        raise InputError(f"{location.name!r}: {name} cannot be read: {one_line(error)}") from error
