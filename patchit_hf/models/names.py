"""Names of models and weights, checked before timm, and with it torch, is imported.

Timm's model names are read off its source.
"""

from __future__ import annotations

import difflib
import functools
import re
from importlib.util import find_spec
from pathlib import Path

from patchit_hf.common.errors import InputError, did_you_mean, did_you_mean_file

KNOWN = "random, timm[:tag], hf-hub:org/name, a folder, or a file of weights"
PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar")  # files of weights that torch writes
SUFFIXES = (".safetensors", *PICKLED)
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[^@\s]+)?")
FEWEST = 500  # names, below which timm must be written in another way than is understood here
_MODEL = re.compile(r"^@register_model\s+def (\w+)", re.MULTILINE)


def check_backbone(name: str | None, flag: str = "--backbone") -> None:
    """Check a backbone's name before torch is imported; a doubtful one is left to timm.

    Args:
        name: the name; None is right, too.
        flag: where it was given.

    Raises:
        InputError: if timm cannot have such a model, or the name has a tag.

    Example:
        >>> check_backbone("resnet18")
        >>> check_backbone("resnet81")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        patchit_hf.common.errors.InputError: --backbone 'resnet81': timm has no such model...
    """
    if name is None:
        return
    architecture, _, tag = name.partition(".")
    known, sources = _models()
    if len(known) < FEWEST:
        return
    quoted = (f'"{architecture}"', f"'{architecture}'")  # such as a name from before
    if architecture not in known and not any(q in text for text in sources for q in quoted):
        raise unknown_backbone(name, known, flag)
    if tag:
        raise InputError(
            f"{flag} {name!r}: names weights, too; write {flag} {architecture} --init timm:{tag}"
        )


def check_init(source: str, flag: str = "--init") -> None:
    """Check initial weights before torch is imported, as far as their name tells.

    Args:
        source: what was given.
        flag: where it was given.

    Raises:
        InputError: if it is no folder, file or repository, or a folder that does not exist.

    Example:
        >>> check_init("timm:a1_in1k")
        >>> check_init("tim")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        patchit_hf.common.errors.InputError: --init 'tim': neither a folder nor...
    """
    prefix, _, rest = source.partition(":")
    if source in ("random", "timm") or prefix == "timm":
        return
    if is_file_name(source):
        if not Path(source).is_file():
            raise InputError(f"{flag} {source!r}: no such file{did_you_mean_file(source)}")
        return
    bare = rest if prefix in ("hf-hub", "local-dir") else source
    if Path(bare).is_dir():
        return
    if not HUB_ID.fullmatch(bare):
        hint = did_you_mean(source, ["random", "timm"]) or did_you_mean_file(bare)
        raise InputError(f"{flag} {source!r}: neither a folder nor a known source ({KNOWN}){hint}")
    if prefix != "hf-hub":
        check_local(bare, flag)


def is_file_name(source: str) -> bool:
    """Say whether initial weights are named by a file, which there may be or not.

    Example:
        >>> is_file_name("runs/mine/model.safetensors"), is_file_name("org/name")
        (True, False)
    """
    return Path(source).suffix.lower() in SUFFIXES and not Path(source).is_dir()


def check_local(name: str, flag: str) -> None:
    """Check that what looks like a folder of this machine is one, before the Hub is asked.

    Args:
        name: of a folder that does not exist, or ``org/name``.
        flag: where it was given; empty for nowhere.

    Raises:
        InputError: if there is a folder ``org``, but no ``org/name``.
    """
    above = Path(name).parent
    if "@" not in name and above != Path() and above.is_dir():
        start = f"{flag} {name!r}".strip()
        hub = "" if name.startswith(".") else f" (hf-hub:{name} asks the Hub)"
        raise InputError(f"{start}: no such folder{did_you_mean_file(name)}{hub}")


def unknown_backbone(name: str, known: list[str], flag: str = "--backbone") -> InputError:
    """Return the error for a name that timm does not have, with the names that are close."""
    near = difflib.get_close_matches(name, known, 4, 0.5)
    hint = f"; similar names: {', '.join(near)}" if near else ""
    return InputError(f"{flag} {name!r}: timm has no such model{hint}")


@functools.cache
def _models() -> tuple[list[str], list[str]]:
    """Return the names of timm's models, and the text of its files."""
    spec = find_spec("timm")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = sorted(Path(folders[0], "models").glob("*.py")) if folders else []
    sources = [file.read_text(encoding="utf-8") for file in files]
    return sorted({name for text in sources for name in _MODEL.findall(text)}), sources
