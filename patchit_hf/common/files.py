"""Atomic writes: a file is always either the complete old one or the complete new one.

torch is imported only where weights are written, so that reading records starts fast.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.common.errors import InputError
from patchit_hf.common.text import read_json_value

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Write a file atomically: it is always either the complete old one or the complete new one.

    Args:
        path: the file.
        shared: set this if several processes may write the file at once; each then has its own
            draft. Otherwise a draft left by a killed process is overwritten by the next one.

    Yields:
        The draft to write, in the same folder. It becomes the file, or is deleted if an exception
        is raised.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "notes.txt") as draft:
        ...     _ = draft.write_text("whole")
        >>> [file.name for file in folder.iterdir()]
        ['notes.txt']
    """
    draft = _draft(path, shared)
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Create a folder atomically: it exists completely or not at all; see ``replacing``.

    Yields:
        The draft, an empty folder.

    Raises:
        OSError: if the folder already exists and is not empty.
    """
    draft = _draft(path, shared)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        os.replace(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def adding_to(folder: Path) -> Iterator[Path]:
    """Write several files that replace those of a folder only once all of them are complete.

    Yields:
        The draft, an empty folder inside ``folder``. Its files are moved to ``folder``, or deleted
        if an exception is raised.
    """
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=folder) as name:
        draft = Path(name)
        yield draft
        for file in sorted(draft.iterdir()):
            os.replace(file, folder / file.name)


def _draft(path: Path, shared: bool) -> Path:
    mine = f".{os.getpid()}.{uuid.uuid4().hex[:8]}" if shared else ""
    return path.with_name(f".{path.name.removeprefix('.')}{mine}.tmp")


def save_weights(module: nn.Module, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a module's parameters and buffers as safetensors: on the CPU, contiguous, unshared.

    The write is atomic, and the file gets the mode that any new file gets.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in module.state_dict().items()
    }
    with replacing(path) as draft:
        draft.unlink(missing_ok=True)
        draft.touch()
        mode = stat.S_IMODE(draft.stat().st_mode)
        save_file(tensors, draft, metadata={"format": "pt", **(metadata or {})})
        draft.chmod(mode)  # safetensors makes it readable for the owner only; exports are shared


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: if the file is damaged, or holds another value.
    """
    value = read_json_value(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: must contain a JSON object")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value atomically; see ``replacing``."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write JSON values atomically, one per line; see ``replacing``."""
    write_text(path, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


def write_text(path: Path, text: str, *, shared: bool = False) -> None:
    """Write text as UTF-8, atomically; see ``replacing``."""
    with replacing(path, shared=shared) as draft:
        draft.write_text(text, encoding="utf-8")
