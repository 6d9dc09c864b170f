"""Read a finetuned model back: backbone, head, task and the way of crops to it."""

from __future__ import annotations

from collections.abc import Callable
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
from patchit_hf.common.layout import BACKBONE_FILE, CONFIG_FILE, DONE_FILE, FORMAT_VERSION
from patchit_hf.downstream import task_class
from patchit_hf.downstream.augment import Geometry
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.models.bounds import check_sides, check_size
from patchit_hf.models.exported import Location, creation_args, locate, read_config, undamaged
from patchit_hf.models.weights_fit import tensor_shapes


@dataclass(frozen=True)
class FinetunedExport:
    """What the export of a finetuned model holds.

    Attributes:
        backbone: the network with its weights.
        head: the task's head with its weights, or None.
        task: the downstream task.
        geometry: maps crops to inputs.
        fit: how crops are fitted to the canvas.
        statistics: mean and standard deviation per channel, of crops in [0, 1].
        record: its ``patchit.json``.
    """

    backbone: nn.Module
    head: nn.Module | None
    task: DownstreamTask
    geometry: Geometry
    fit: str
    statistics: tuple[list[float], list[float]]
    record: dict[str, Any]


def read_finetuned(
    source: str | Path,
    revision: str | None = None,
    *,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> FinetunedExport:
    """Read a finetuned model; see ``FinetunedModel.from_pretrained``.

    Raises:
        InputError: if there is no finetuned model, or one that this version cannot read.
    """
    location = locate(source, revision, cache_dir=cache_dir, token=token)
    with undamaged(location.name):
        return _read(location)


def _read(location: Location) -> FinetunedExport:
    record = read_json(location.fetch(DONE_FILE) / DONE_FILE)
    entry = record.get("downstream")
    if not isinstance(entry, dict):
        raise InputError(
            f"{location.name!r}: not a finetuned model; finetune it first, or fit a "
            "probe to its features (--probe)"
        )
    if record.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{location.name!r}: {DONE_FILE} has format {record.get('format_version')!r}; "
            f"this version of patchit_hf reads {FORMAT_VERSION}"
        )
    config = read_config(location)
    try:
        task = task_class(entry["task"]).from_kwargs(entry["kwargs"])
        geometry = Geometry(*(check_sides(entry[k], k) for k in ("canvas", "window", "size")))
        mean, std = (torch.zeros(3).copy_(torch.tensor(entry[k])) for k in ("mean", "std"))
    except InputError as error:
        raise InputError(f"{location.name!r}: {DONE_FILE}: {error}") from error
    backbone, head = _filled(location, config, task)
    task = task.with_input_size(geometry.size)
    statistics = mean.tolist(), std.tolist()
    return FinetunedExport(backbone, head, task, geometry, str(entry["fit"]), statistics, record)


def _filled(
    location: Location, config: dict[str, Any], task: DownstreamTask
) -> tuple[nn.Module, nn.Module | None]:
    """Return backbone and head with their weights."""
    args = creation_args(config)
    args.pop("pretrained_model_args", None)

    def build() -> tuple[Any, nn.Module | None]:
        backbone: Any = timm.create_model(
            config["architecture"], num_classes=task.num_classes, **args, **_size(config)
        )
        return backbone, task.head(int(backbone.num_features))

    folder = location.fetch(BACKBONE_FILE, CONFIG_FILE)
    _check_size(build, folder, location.name)
    backbone, head = build()
    _fill(backbone, folder / BACKBONE_FILE)
    if head is not None:
        _fill(head, location.fetch_head(folder))
    return backbone, head


def _check_size(build: Callable[[], Any], folder: Path, name: str) -> None:
    """Check that a model is about as large as its weights, before it is built."""
    shapes = tensor_shapes(folder / BACKBONE_FILE, f"{name!r}: {BACKBONE_FILE}")
    check_size(build, shapes, f"{name!r}: {CONFIG_FILE} or {DONE_FILE}")


def _size(config: dict[str, Any]) -> dict[str, Any]:
    cfg = config["pretrained_cfg"]
    return {"img_size": cfg["input_size"][1:]} if cfg.get("fixed_input_size") else {}


def _fill(module: nn.Module, file: Path) -> None:
    try:
        module.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{file}: cannot be read: {one_line(error)}") from error
