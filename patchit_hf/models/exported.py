"""Read an export from a folder or from the Hub: only safetensors and JSON."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    HTTPError,  # that of the HTTP library the client uses
)
from timm.models import PretrainedCfg

from patchit_hf.common.errors import InputError, ResourceError, did_you_mean_file, one_line
from patchit_hf.common.files import read_json
from patchit_hf.common.hub_access import HubAccess
from patchit_hf.common.layout import (
    BACKBONE_FILE,
    CONFIG_FILE,
    DONE_FILE,
    EARLIER_HEAD_FILE,
    HEAD_FILE,
)
from patchit_hf.common.online import cached_if_unreachable
from patchit_hf.models.names import check_local

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^@\s]+))?")
_READS_FILES = {  # arguments of timm that would load other weights than the export's
    "cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay",
    "pretrained_model_args",
}  # fmt: skip
_WEIGHTS = {"custom_load", "file", "hf_hub_filename", "hf_hub_id", "source", "state_dict", "url"}


@dataclass(frozen=True)
class Location:
    """Where an export is: in a folder, or in a repository on the Hub.

    Attributes:
        name: what the user wrote.
        folder: the folder, or None.
        repo_id: ``org/name``, or None.
        revision: branch, tag or commit; None for the main branch.
        cache_dir: where files of the Hub are kept; None for the usual place.
        token: for the Hub; None for that of the login, False for none.
    """

    name: str
    folder: Path | None = None
    repo_id: str | None = None
    revision: str | None = None
    cache_dir: str | Path | None = None
    token: str | bool | None = None

    def fetch(self, *names: str) -> Path:
        """Return a folder that holds these files, all from one commit.

        Raises:
            InputError: if one is missing, or the Hub cannot be read.
        """
        if self.folder is not None:
            for name in names:
                if not (self.folder / name).is_file():
                    raise InputError(f"{self.name!r}: not an export: it has no {name}")
            return self.folder
        revision = self.revision
        try:
            with cached_if_unreachable(self.name):
                return self._download(names, revision)
        except (HFValidationError, HTTPError, OSError) as error:
            raise InputError(
                f"{self.name!r}: no such folder, and its {', '.join(names)} cannot be read from "
                f"the Hub: {one_line(error)}"
            ) from error

    def fetch_head(self, beside: Path) -> Path:
        """Return the file of the head's weights; earlier exports have it at another place.

        Args:
            beside: what ``fetch`` returned for the backbone, whose commit the head is from.

        Raises:
            InputError: if there is none, or the Hub cannot be read.
        """
        if self.folder is not None:
            earlier = not (self.folder / HEAD_FILE).is_file()
            name = EARLIER_HEAD_FILE if earlier else HEAD_FILE
            return self.fetch(name) / name
        there = dataclasses.replace(self, revision=beside.name)
        try:
            return there.fetch(HEAD_FILE) / HEAD_FILE
        except InputError as error:
            if not isinstance(error.__cause__, EntryNotFoundError):
                raise
        return there.fetch(EARLIER_HEAD_FILE) / EARLIER_HEAD_FILE

    def _download(self, names: tuple[str, ...], revision: str | None) -> Path:
        """Return the folder of these files, all from one commit."""
        root = Path()
        for name in names:
            how: Any = {"revision": revision, "cache_dir": self.cache_dir, "token": self.token}
            path = Path(hf_hub_download(str(self.repo_id), name, **how))
            root = path.parents[len(Path(name).parts) - 1]
            revision = root.name  # the commit of the first file
        return root

    @property
    def weights(self) -> dict[str, Any]:
        """Where the weights are, as fields of timm's configuration; never a pickle."""
        folder = self.folder
        plain = self.cache_dir is None and self.token is None and _is_new_timm()
        if folder is None and not plain:
            # timm knows neither when it fetches weights, and old timm unpickles a named file
            folder = self.fetch(BACKBONE_FILE)
        if folder is not None:
            return {"file": str(folder.absolute() / BACKBONE_FILE)}
        revision = f"@{self.revision}" if self.revision else ""
        return {"hf_hub_id": f"{self.repo_id}{revision}", "hf_hub_filename": BACKBONE_FILE}


@contextmanager
def undamaged(name: str) -> Iterator[None]:
    """Turn whatever odd values of an export's records raise into one kind of error.

    Args:
        name: what the user wrote.

    Raises:
        InputError: if the records are not those of an export.
    """
    try:
        yield
    except (InputError, ResourceError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"{name!r}: {DONE_FILE} or {CONFIG_FILE} is damaged: {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error


def locate(
    source: str | Path,
    revision: str | None = None,
    *,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> Location:
    """Find out where an export is.

    Args:
        source: a folder, or ``org/name`` or ``org/name@revision`` on the Hub. timm's prefixes
            ``local-dir:`` and ``hf-hub:`` say which of the two it is.
        revision: branch, tag or commit on the Hub.
        cache_dir: where files of the Hub are kept; None for the usual place.
        token: for the Hub; None for that of the login, False for none.

    Raises:
        InputError: if it is neither, or a revision of a folder is asked for.

    Example:
        >>> locate("org/name@v1").revision
        'v1'
    """
    prefix, _, rest = str(source).partition(":")
    if prefix == "local-dir" or (prefix != "hf-hub" and Path(source).expanduser().is_dir()):
        folder = Path(rest if prefix == "local-dir" else source).expanduser()
        if not folder.is_dir():
            raise InputError(f"{str(source)!r}: no such folder{did_you_mean_file(folder)}")
        HubAccess(revision).refuse_revision(str(source))
        return Location(str(source), folder)
    match = _HUB_ID.fullmatch(rest if prefix == "hf-hub" else str(source))
    if match is None:
        raise InputError(
            f"{str(source)!r}: neither a folder nor a repository on the Hub (org/name or "
            f"org/name@revision){did_you_mean_file(str(source))}"
        )
    if prefix != "hf-hub":
        check_local(str(source), "")
    found = revision or match["revision"]
    return Location(str(source), None, match["repo"], found, cache_dir, token)


def pretrained_cfg(
    source: str | Path,
    revision: str | None = None,
    *,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> dict[str, Any]:
    """Return timm's complete configuration of an export, including where its weights are.

    For ``timm.create_model(architecture, pretrained=True, pretrained_cfg=...)``, or as an overlay
    on another configuration. Fields that the export does not set have timm's neutral value, so that
    nothing of the other configuration remains. The network's own arguments are in ``model_args``.

    Args:
        source: a folder, or ``org/name[@revision]`` on the Hub.
        revision: branch, tag or commit on the Hub.
        cache_dir: where files of the Hub are kept; None for the usual place.
        token: for the Hub; None for that of the login, False for none.

    Raises:
        InputError: if there is no export, or it refers to other files.
    """
    location = locate(source, revision, cache_dir=cache_dir, token=token)
    with undamaged(location.name):
        return whole_cfg(read_config(location), location)


def model_args(
    source: str | Path,
    revision: str | None = None,
    *,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> dict[str, Any]:
    """Return the arguments that ``timm.create_model`` needs besides ``pretrained_cfg``.

    Most convolutional networks need none. Vision transformers need their pooling (averaging) and
    the size at which they were trained.

    Args:
        source: a folder, or ``org/name[@revision]`` on the Hub.
        revision: branch, tag or commit on the Hub.
        cache_dir: where files of the Hub are kept; None for the usual place.
        token: for the Hub; None for that of the login, False for none.

    Raises:
        InputError: see ``pretrained_cfg``.
    """
    location = locate(source, revision, cache_dir=cache_dir, token=token)
    with undamaged(location.name):
        return creation_args(read_config(location))


def read_config(location: Location, *, own: bool = False) -> dict[str, Any]:
    """Return ``config.json`` after checking that it describes a timm network and no other files.

    Args:
        location: where the export is.
        own: whether the network is not timm's, but the caller's own.

    Raises:
        InputError: otherwise.
    """
    weights = () if location.folder is None else (BACKBONE_FILE,)  # on the Hub, timm fetches them
    config = read_json(location.fetch(CONFIG_FILE, *weights) / CONFIG_FILE)
    where = f"{location.name!r}: {CONFIG_FILE}"
    if not own:
        check_architecture(config.get("architecture"), where)
    check_args(config.get("model_args", {}), where)
    cfg = config.get("pretrained_cfg")
    if not isinstance(cfg, dict):
        raise InputError(f"{where}: has no pretrained_cfg")
    known = {field.name for field in dataclasses.fields(PretrainedCfg)}
    for key, value in cfg.items():
        if key not in known:
            raise InputError(f"{where}: timm does not know {key!r} in pretrained_cfg")
        if key in _WEIGHTS and value:
            raise InputError(
                f"{where}: pretrained_cfg has {key}={value!r}; only {BACKBONE_FILE} may hold "
                "an export's weights"
            )
    return config


def whole_cfg(config: dict[str, Any], location: Location) -> dict[str, Any]:
    """Return every field of timm's configuration, including where the weights are."""
    named = {"architecture": config["architecture"], "num_classes": config.get("num_classes", 0)}
    cfg = PretrainedCfg(**{**config["pretrained_cfg"], **named, **location.weights})
    return dataclasses.asdict(cfg)


def creation_args(config: dict[str, Any]) -> dict[str, Any]:
    """Return the network's arguments in the form that timm's own folder loader passes them."""
    args = dict(config.get("model_args", {}))
    return {**args, "pretrained_model_args": dict(args)} if args and _is_new_timm() else args


def _is_new_timm() -> bool:
    """Whether timm is 1.0.31 or newer: it keeps arguments, and reads named safetensors files."""
    known = inspect.signature(timm.models.build_model_with_cfg).parameters
    return "pretrained_model_args" in known


def check_architecture(name: object, where: str) -> None:
    """Check that timm has a network of this name.

    Raises:
        InputError: if it has not.
    """
    if not isinstance(name, str) or "." in name or not timm.is_model(name):
        raise InputError(f"{where}: timm {timm.__version__} has no network {name!r}")


def check_args(args: object, where: str) -> None:
    """Check that a network's arguments name no file or weights.

    Raises:
        InputError: if they do.
    """
    if not isinstance(args, dict):
        raise InputError(f"{where}: the network's arguments must be named, not {args!r}")
    for key in args:
        if key in _READS_FILES:
            raise InputError(f"{where}: {key!r} is not allowed among the network's arguments")
