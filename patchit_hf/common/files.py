"""Atomic writes: a file is always either the complete old one or the complete new one.

torch is imported only where weights are written, so that reading records starts fast.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.common.errors import InputError
from patchit_hf.common.lock import LOCK, FolderLock, is_abandoned
from patchit_hf.common.resources import writing
from patchit_hf.common.shown import redact
from patchit_hf.common.text import read_json_value

if TYPE_CHECKING:
    from torch import nn


ABANDONED = 86400.0  # seconds after which an unlocked draft, as of earlier versions, has no owner


@contextmanager
def replacing(path: Path, *, shared: bool = False, needed: int | None = None) -> Iterator[Path]:
    """Write a file atomically: it is always either the complete old one or the complete new one.

    Args:
        path: the file.
        shared: set this if several processes may write the file at once; each then has its own
            draft. Otherwise a draft left by a killed process is overwritten by the next one.
        needed: the bytes that the file takes, for the error where there is no room.

    Yields:
        The draft to write, on the same disk. It becomes the file, or is deleted if an exception
        is raised.

    Raises:
        ResourceError: if the disk is full, or the folder may not be written.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "notes.txt") as draft:
        ...     _ = draft.write_text("whole")
        >>> [file.name for file in folder.iterdir()]
        ['notes.txt']
    """
    with writing(path, needed), _draft(path, shared) as draft:
        try:
            yield draft
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def replacing_folder(
    path: Path, *, shared: bool = False, needed: int | None = None
) -> Iterator[Path]:
    """Create a folder atomically: it exists completely or not at all; see ``replacing``.

    Yields:
        The draft, an empty folder.

    Raises:
        OSError: if the folder already exists and is not empty.
    """
    with writing(path, needed), _draft(path, shared) as draft:
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
    with (
        writing(folder / "."),
        tempfile.TemporaryDirectory(prefix=".draft-", dir=folder) as name,
    ):
        draft = Path(name)
        yield draft
        for file in sorted(path for path in draft.rglob("*") if path.is_file()):
            target = folder / file.relative_to(draft)
            target.parent.mkdir(exist_ok=True)
            os.replace(file, target)


@contextmanager
def _draft(path: Path, shared: bool) -> Iterator[Path]:
    """Yield the path of a draft: beside the file, or in a folder that this process holds."""
    if not shared:
        yield path.with_name(f".{path.name.removeprefix('.')}.tmp")
        return
    folder, lock = _held_folder(path)
    try:
        yield folder / path.name
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _held_folder(path: Path) -> tuple[Path, FolderLock]:
    while True:
        name = f".{path.name.removeprefix('.')}.{uuid.uuid4().hex[:12]}.tmp"
        folder = path.with_name(name)
        folder.mkdir(parents=True)
        try:
            return folder, FolderLock(folder, name)
        except (FileNotFoundError, InputError):  # tidied away before this process held it
            if not path.parent.is_dir():
                raise


def remove_abandoned(folder: Path) -> None:
    """Remove the drafts of shared files that no living process owns.

    The operating system ends a process's locks with it, however it ends. What has no lock, such as
    the drafts of versions before 0.2, goes after a day without a change.

    Args:
        folder: where the files lie; it may be missing.
    """
    for draft in folder.glob(".*.tmp"):
        try:
            old = time.time() - draft.stat().st_mtime > ABANDONED
            if is_abandoned(draft) or (old and not (draft / LOCK).exists()):
                shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
        except OSError:  # another process was faster, or it may not be removed
            continue


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
    needed = sum(value.nbytes for value in tensors.values())
    with replacing(path, needed=needed) as draft:
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
    """Write a JSON value atomically, without secrets; see ``replacing``."""
    write_text(path, redact(json.dumps(value, indent=2, ensure_ascii=False)) + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write JSON values atomically, one per line, without secrets; see ``replacing``."""
    lines = (redact(json.dumps(value, ensure_ascii=False)) + "\n" for value in values)
    write_text(path, "".join(lines))


def write_text(path: Path, text: str, *, shared: bool = False) -> None:
    """Write text as UTF-8, atomically; see ``replacing``."""
    content = text.encode(errors="backslashreplace")  # file names may hold bytes that are no text
    with replacing(path, shared=shared, needed=len(content)) as draft:
        draft.write_bytes(content)


def append_line(path: Path, line: str) -> None:
    """Append a line of text to a file; where it cannot be written whole, the file stays as it was.

    Raises:
        ResourceError: if the disk is full.
    """
    content = f"{line}\n".encode()
    with writing(path, len(content)), path.open("ab", buffering=0) as file:
        size, view = file.tell(), memoryview(content)
        try:
            while view:
                view = view[file.write(view) or 0 :]
        except OSError:
            file.truncate(size)
            raise
