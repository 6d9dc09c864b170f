"""Where initial weights come from: what records and cards say of them, with licence and labels."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import metadata_load
from huggingface_hub.errors import EntryNotFoundError
from torch import nn

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json
from patchit_hf.common.layout import BACKBONE_FILE, CARD_FILE, DONE_FILE
from patchit_hf.models.exported import Location

IMAGENET = "ImageNet"
INSTANCE = "a timm model given in Python"
GIVEN = "weights given by the caller"
_IMAGENET_TAG = re.compile(r"(^|_)inw?(1|12|21|22)k(_|$)")
_WITHOUT_LABELS = re.compile(r"_ijepa$|^mim_in22k$")  # ImageNet's images without its labels


@dataclass(frozen=True)
class Origin:
    """The source of initial weights.

    Attributes:
        init: what the user asked for.
        architecture: timm's name of the network.
        source: what a card calls the weights.
        trained: by which task and on which data, with the licence of the data, where a record says
            so.
        hub_id: their repository on the Hub, if they are known to be there.
        license: their licence, where one is stated.
        labels: data whose labels these weights or those that they started from have learnt.
        labels_known: whether ``labels`` is known to be all of them.
        fingerprint: of the weights, once they are loaded.
        earlier: what these weights started from themselves, newest first, as JSON values.
    """

    init: str
    architecture: str
    source: str
    trained: str | None = None
    hub_id: str | None = None
    license: str | None = None
    labels: tuple[str, ...] = ()
    labels_known: bool = False
    fingerprint: str | None = None
    earlier: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``initial_weights`` of a record."""
        return {
            **vars(self),
            "labels": list(self.labels),
            "earlier": [dict(entry) for entry in self.earlier],
        }


def fingerprint(weights: dict[str, torch.Tensor]) -> str:
    """Return a hash of tensors and their names.

    Example:
        >>> a, b = {"weight": torch.zeros(2)}, {"weight": torch.ones(2)}
        >>> fingerprint(a) == fingerprint(dict(a)), fingerprint(a) == fingerprint(b)
        (True, False)
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def origin_now(
    weights: dict[str, torch.Tensor], name: str, origin: Origin | None, drawn: str | None
) -> Origin | None:
    """Return where weights come from, which somebody may have changed since they were known.

    Args:
        weights: the weights as they are now.
        name: timm's name of the network.
        origin: where they came from once; None for random ones.
        drawn: fingerprint of random weights when they were drawn; None for none.

    Returns:
        ``origin`` if they are still those, else an origin that says that the caller gave them.

    Example:
        >>> weights = {"weight": torch.zeros(2)}
        >>> origin_now(weights, "resnet18", None, fingerprint(weights)) is None
        True
        >>> origin_now(weights, "resnet18", None, None).source
        'weights given by the caller'
    """
    now = fingerprint(weights)
    if now == (drawn if origin is None else origin.fingerprint):
        return origin
    before = () if origin is None else (origin.to_json(),)
    earlier = tuple(
        entry
        for part in before
        for entry in ({k: v for k, v in part.items() if k != "earlier"}, *part["earlier"])
    )
    labels = () if origin is None else origin.labels
    return Origin(GIVEN, name, GIVEN, labels=labels, fingerprint=now, earlier=earlier)


def origin_of_timm(init: str, name: str, model: nn.Module) -> Origin:
    """Return the origin of timm's own weights, as timm states it.

    Args:
        init: what the user asked for.
        name: timm's name of the network.
        model: the network with these weights.
    """
    cfg: Any = model.pretrained_cfg
    tag = str(cfg.get("tag") or "")
    labels = labels_of_tag(tag)
    return Origin(
        init,
        name,
        f"{name}.{tag}" if tag else name,
        hub_id=str(cfg["hf_hub_id"]) if cfg.get("hf_hub_id") else None,
        license=cfg.get("license"),
        labels=labels,
        labels_known=bool(labels),
    )


def labels_of_tag(tag: str) -> tuple[str, ...]:
    """Return whose labels a tag of timm's tells of; none does not mean that there were none.

    Example:
        >>> labels_of_tag("fb_in22k_ft_in1k"), labels_of_tag("lvd142m"), labels_of_tag("in1k_ijepa")
        (('ImageNet',), (), ())
    """
    told = _IMAGENET_TAG.search(tag) and not _WITHOUT_LABELS.search(tag)
    return (IMAGENET,) if told else ()


def origin_of_file(init: str, name: str) -> Origin:
    """Return the origin of a file of weights; the record of an export beside it is read.

    Args:
        init: the file.
        name: timm's name of the network.

    Raises:
        InputError: if there is a record that cannot be read.
    """
    file = Path(init)
    if file.name == BACKBONE_FILE and (file.parent / DONE_FILE).is_file():
        location = Location(init, file.parent)
        return _of_ours(init, name, location, read_json(file.parent / DONE_FILE), None)
    return Origin(init, name, file.name)


def origin_of_export(init: str, name: str, location: Location, cfg: dict[str, Any]) -> Origin:
    """Return the origin of an export's weights: one of this package's, or any that timm reads.

    Args:
        init: what the user asked for.
        name: timm's name of the network.
        location: where the export is.
        cfg: its ``pretrained_cfg``.

    Raises:
        InputError: if the Hub cannot be read, or the record is damaged.
    """
    record = _optional(location, DONE_FILE)
    if record is not None:
        return _of_ours(init, name, location, read_json(record), cfg)
    tag = str(cfg.get("tag") or (location.repo_id or "").partition(".")[2])
    labels = labels_of_tag(tag)
    return Origin(
        init,
        name,
        _called(location),
        hub_id=location.repo_id,
        license=_license(location, cfg),
        labels=labels,
        labels_known=bool(labels),
    )


def _of_ours(
    init: str, name: str, location: Location, record: dict[str, Any], cfg: dict[str, Any] | None
) -> Origin:
    """Return the origin of an export of this package; the labels of its own start count, too."""
    start, downstream = record.get("initial_weights"), record.get("downstream")
    asked = downstream.get("init", "random") if downstream else "random"
    if start is None and asked != "random":  # finetuned before records said more than that
        start = vars(Origin(str(asked), name, str(asked)))
    own = (_data_name(record.get("data", {})),) if downstream else ()
    before = start or {"labels": (), "labels_known": True, "earlier": ()}
    try:
        labels = (*own, *(label for label in before["labels"] if label not in own))
        known, earlier = bool(before["labels_known"]), tuple(before["earlier"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"--init {init!r}: {DONE_FILE}: damaged file: initial_weights: {error}"
        ) from error
    newest = () if start is None else ({k: v for k, v in start.items() if k != "earlier"},)
    return Origin(
        init,
        name,
        _called(location),
        trained=_training(record),
        hub_id=location.repo_id,
        license=_license(location, cfg or {}),
        labels=labels,
        labels_known=known,
        earlier=(*newest, *earlier),
    )


def _training(record: dict[str, Any]) -> str:
    """Return by what and on what the weights of a record were trained."""
    if "averaged" in record:
        runs = [
            _training({"data": run["data"], "task": {"name": run["task"] or "an average"}})
            for run in record["averaged"]
        ]
        return f"averaging runs of {', '.join(dict.fromkeys(runs))}"
    data, downstream = record.get("data", {}), record.get("downstream")
    task = downstream.get("task") if downstream else record.get("task", {}).get("name")
    if data.get("rendered"):
        return f"{task} on rendered people"
    licence = str(data.get("license") or "").strip() or "none is stated"
    return f"{task} on {_data_name(data)} (licence of the data: {licence})"


def _data_name(data: dict[str, Any]) -> str:
    """Return what labelled crops are called; of a folder, the name without the way to it."""
    name = str(data.get("name", "crops"))
    return name if data.get("hub") else Path(name).name


def _called(location: Location) -> str:
    """Return what a card calls an export; of a folder, the name without the way to it."""
    if location.folder is not None:
        return location.folder.resolve().name
    return f"{location.repo_id}@{location.revision}" if location.revision else str(location.repo_id)


def _license(location: Location, cfg: dict[str, Any]) -> str | None:
    """Return the licence in an export's card, or else in its configuration."""
    card = _optional(location, CARD_FILE)
    stated: dict[str, Any] = (metadata_load(card) if card is not None else None) or {}
    licence = stated.get("license") or cfg.get("license")
    if licence == "other":
        licence = stated.get("license_name") or licence
    return str(licence) if licence else None


def _optional(location: Location, name: str) -> Path | None:
    """Return a file of an export, or None if the export has none of this name."""
    try:
        return location.fetch(name) / name
    except InputError as error:
        if location.folder is None and not isinstance(error.__cause__, EntryNotFoundError):
            raise
        return None
