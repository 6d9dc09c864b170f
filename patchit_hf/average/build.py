"""Build the average of several exports: weights, batch statistics, record and card."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from patchit_hf.average.arguments import AverageArguments
from patchit_hf.average.sources import (
    Source,
    check_alike,
    in_words,
    open_source,
    shared_size,
    start_of,
)
from patchit_hf.average.weights import mean_weights
from patchit_hf.common.draws import epoch_order
from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.hub_access import USUAL, HubAccess
from patchit_hf.common.layout import CONFIG_FILE, FORMAT_VERSION
from patchit_hf.common.provenance import command, versions
from patchit_hf.data.source import load_crops
from patchit_hf.data.training_set import STATISTICS_CROPS, open_training
from patchit_hf.models.backbone import has_batch_norm
from patchit_hf.models.bounds import check_size
from patchit_hf.models.features import reestimate_batch_norm
from patchit_hf.publish.export import write_export
from patchit_hf.publish.model_card import render_card
from patchit_hf.publish.timm_config import averaged_config

BATCH = 64


def average(
    runs: Sequence[str | Path],
    output: str | Path,
    dataset: str | None = None,
    *,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    **options: Any,
) -> Path:
    """Average the exports of several runs of one architecture that share a start.

    The weights are averaged in double precision. Batch-norm statistics do not average, and are
    estimated anew on whole crops.

    Args:
        runs: exports of pretrained backbones: folders, or ``org/name[@revision]`` on the Hub.
        output: folder for the average; it must not exist yet.
        dataset: crops for the batch-norm statistics, a Hub id or a folder; by default those that
            the runs were trained on.
        cache_dir: where files of the Hub are kept; None for the usual place.
        token: for the Hub; None for that of the login, False for none.
        **options: further fields of ``AverageArguments``.

    Returns:
        The folder, an export without a head.

    Raises:
        InputError: for runs that differ in architecture, shapes, normalisation or start, or crops
            that cannot be read.

    Example:
        >>> average(["runs/a", "runs/b"], "runs/ab", dataset="crops")  # doctest: +SKIP
        PosixPath('runs/ab')
    """
    names = [str(run) for run in runs]
    return build_average(
        AverageArguments(runs=names, output=str(output), dataset=dataset, **options),
        HubAccess(cache_dir=cache_dir, token=token),
    )


def build_average(what: AverageArguments, access: HubAccess = USUAL) -> Path:
    """Average as the arguments say; see ``average``."""
    folder = Path(what.output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--output {what.output!r}: exists already; choose another folder")
    sources = [open_source(name, access) for name in what.runs]
    check_alike(sources)
    size = shared_size(sources, what.size)
    backbone = _backbone(sources)
    statistics = None
    if has_batch_norm(backbone):
        statistics = _estimate(backbone, sources, what, size, access)
    first = sources[0]
    config = averaged_config(backbone, first.config, size)
    record = _record(sources, statistics)
    return write_export(folder, backbone, None, config, render_card(record, config), record)


def _backbone(sources: list[Source]) -> nn.Module:
    """Return the network with the mean weights, in evaluation mode."""
    config = sources[0].config
    weights = mean_weights(sources)

    def build() -> nn.Module:
        network: nn.Module = timm.create_model(
            config["architecture"], num_classes=0, **config.get("model_args", {})
        )
        return network

    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    check_size(build, shapes, f"{sources[0].name!r}: {CONFIG_FILE}")
    try:
        backbone = build()
        backbone.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{sources[0].name!r}: its weights do not fit {config['architecture']}: "
            f"{one_line(error)}"
        ) from error
    return backbone.eval()


def _estimate(
    backbone: nn.Module,
    sources: list[Source],
    what: AverageArguments,
    size: tuple[int, int],
    access: HubAccess,
) -> dict[str, Any]:
    """Set the batch-norm statistics to those of whole crops, and return which they were."""
    dataset = what.dataset if what.dataset is not None else _trained_on(sources)
    crops = load_crops(
        dataset,
        split=what.split,
        image_column=what.image_column,
        allow_urls=what.allow_urls,
        **access.options(),
    )
    share = float(sources[0].cfg.get("crop_pct", 1.0))
    height, width = (max(side, round(side / share)) for side in size)
    opened = open_training(crops.train, what.decode, (height, width), name=crops.name)
    whole = torch.cat(list(opened.sample(STATISTICS_CROPS)))
    whole = whole[epoch_order(0, 0, len(whole))]  # mixed, since data are often sorted by source
    cfg = sources[0].cfg
    reestimate_batch_norm(backbone, _inputs(whole, size, cfg["mean"], cfg["std"]))
    return {
        "dataset": crops.name,
        "split": crops.split,
        "rendered": crops.meta["rendered"],
        "hub": crops.meta["hub"],
        "fingerprint": opened.fingerprint,
        "crops": len(whole),
        "bad_images": len(opened.bad.found),
    }


def _inputs(
    crops: Tensor, size: tuple[int, int], mean: list[float], std: list[float]
) -> Iterator[Tensor]:
    """Yield the normalised centres of crops, in parts of nearly equal size."""
    top, left = ((full - side) // 2 for full, side in zip(crops.shape[-2:], size, strict=True))
    centres = crops[:, :, top : top + size[0], left : left + size[1]]
    shift, scale = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    for part in centres.tensor_split(math.ceil(len(centres) / BATCH)):
        yield (part.float() / 255 - shift) / scale


def _trained_on(sources: list[Source]) -> str | None:
    """Return the data set that all runs were trained on, None for the rendered people.

    Raises:
        InputError: if they name several.
    """
    data = [source.record.get("data", {}) for source in sources]
    names = {str(entry.get("name")) for entry in data}
    if len(names) > 1 or "None" in names:
        found = ", ".join(sorted(names - {"None"})) or "none"
        raise InputError(
            f"--dataset: is needed, since the runs were trained on different crops ({found})"
        )
    return None if all(entry.get("rendered") for entry in data) else names.pop()


def _record(sources: list[Source], statistics: dict[str, Any] | None) -> dict[str, Any]:
    """Return ``patchit.json`` of the average."""
    first = sources[0]
    cfg, data = first.cfg, [source.record.get("data", {}) for source in sources]
    known = [start_of(source.record) for source in sources]
    start = max(known, key=len)  # the one that says most: all are the same
    random = start.get("init") == "random"
    return {
        "format_version": FORMAT_VERSION,
        "backbone": {
            "name": first.config["architecture"],
            "args": first.config.get("model_args", {}),
        },
        "averaged": [_entry(source) for source in sources],
        "config": {"seed": start["seed"]} if random else {},
        "initial_weights": None if random or not start else start,
        "start": in_words(start),
        "batch_norm": statistics,
        "data": {
            "name": ", ".join(dict.fromkeys(str(entry.get("name")) for entry in data)),
            "rendered": all(entry.get("rendered") for entry in data),
            "mean": list(cfg["mean"]),
            "std": list(cfg["std"]),
        },
        "command": command(),
        "results": {},
        "figures": [],
        "versions": versions(),
    }


def _entry(source: Source) -> dict[str, Any]:
    """Return what the average's record says about one of its sources."""
    record = source.record
    data, training = record.get("data", {}), record.get("training", {})
    return {
        "source": source.name,
        "hub": source.hub,
        "sha256": hashlib.sha256(source.weights.read_bytes()).hexdigest(),
        "task": record.get("task", {}).get("name"),
        "averaged": len(record.get("averaged", [])),
        "seed": record.get("config", {}).get("seed"),
        "steps": training.get("steps"),
        "seconds": training.get("seconds"),
        "initial": start_of(record),
        "command": record.get("command"),
        "data": {
            key: data[key]
            for key in ("name", "hub", "rendered", "license", "fingerprint", "train_crops",
                        "citation", "homepage")
            if data.get(key) is not None
        },
    }  # fmt: skip
