"""Files that are either the old one or the whole new one.

torch is imported where weights are written, so that what only reads records starts at once.
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

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Write a file so that it is either the old one or the whole new one.

    Args:
        path: the file.
        shared: several processes may write it at a time, so each has a draft of its own. Otherwise
            the draft that a killed process has left is overwritten by the next one.

    Yields:
        The draft to write, beside the file; it becomes the file, or goes if anything is raised.

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
    """Make a folder that is there as a whole or not at all; see ``replacing``.

    Yields:
        The draft, an empty folder.

    Raises:
        OSError: if the folder is there already and is not empty.
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
    """Write several files that replace those of a folder once all are whole.

    Yields:
        The draft, an empty folder inside; its files are moved, or go if anything is raised.
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

    The file has the mode that any new file gets; it is either the old one or the whole new one.
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
        draft.chmod(mode)  # safetensors writes for the owner alone; an export is shared


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: if the file is damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is damaged: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold a JSON object")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is either the old one or the whole new one."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write JSON values, one a line; see ``replacing``."""
    write_text(path, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


def write_text(path: Path, text: str, *, shared: bool = False) -> None:
    """Write a text as UTF-8; see ``replacing``."""
    with replacing(path, shared=shared) as draft:
        draft.write_text(text, encoding="utf-8")
