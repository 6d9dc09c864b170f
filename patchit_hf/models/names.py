"""Timm's model names, read off its source: importing timm, and with it torch, takes seconds."""

from __future__ import annotations

import difflib
import re
from importlib.util import find_spec
from pathlib import Path

from patchit_hf.common.errors import InputError

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


def unknown_backbone(name: str, known: list[str], flag: str = "--backbone") -> InputError:
    """Return the error for a name that timm does not have, with the names that are close."""
    near = difflib.get_close_matches(name, known, 4, 0.5)
    hint = f"; similar names: {', '.join(near)}" if near else ""
    return InputError(f"{flag} {name!r}: timm has no such model{hint}")


def _models() -> tuple[list[str], list[str]]:
    """Return the names of timm's models, and the text of its files."""
    spec = find_spec("timm")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = sorted(Path(folders[0], "models").glob("*.py")) if folders else []
    sources = [file.read_text(encoding="utf-8") for file in files]
    return sorted({name for text in sources for name in _MODEL.findall(text)}), sources
