"""Checkpoints: everything that a run needs to continue as if it had never stopped.

Weights are safetensors, the optimiser's state is read with ``weights_only=True``, the rest is JSON;
nothing is ever unpickled. A checkpoint is written and flushed to the disk under another name, with
the checksum of each file in ``SHA256SUMS``, and renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.files import read_json, replacing_folder, save_weights, write_json
from patchit_hf.common.layout import CHECKPOINT_FILES, SUMS_FILE
from patchit_hf.training.run_folder import refuse_other

logger = logging.getLogger(__name__)

STATE_FILE, WEIGHTS_FILE, OPTIMIZER_FILE = CHECKPOINT_FILES
_NAME = re.compile(r"step-\d{8}")


class DamagedError(InputError):
    """A checkpoint that cannot be read, or whose files are not those that were written."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        folder: where it lies.
        step: number of steps done.
        config: what decides the trained weights, including the data.
        notes: JSON values that were stored with it.
        weights: the model's parameters and buffers.
        optimizer: the optimiser's state.
        scaler: the gradient scaler's state, empty for none.
    """

    folder: Path
    step: int
    config: dict[str, Any]
    notes: dict[str, Any]
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]


def save_checkpoint(
    folder: Path,
    step: int,
    config: dict[str, Any],
    model: nn.Module,
    optimizer: Any,
    scaler: Any,
    notes: dict[str, Any],
    limit: int,
) -> Path:
    """Write a checkpoint after ``step`` steps, and delete the oldest ones beyond ``limit``.

    Args:
        folder: folder of the checkpoints.
        step: number of steps done.
        config: what decides the trained weights, including the data.
        model: the unwrapped model.
        optimizer: the optimiser.
        scaler: the gradient scaler of fp16, or None.
        notes: JSON values to store with it.
        limit: number of checkpoints to keep.

    Returns:
        The checkpoint's folder, ``step-<step>``.

    Raises:
        ResourceError: if there is no room; the checkpoints before it stay.
    """
    final = folder / f"step-{step:08d}"
    if final.exists():
        try:
            check(final)
        except DamagedError:
            shutil.rmtree(final) if final.is_dir() else final.unlink()
        else:
            return final
    state = {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict() if scaler else {}}
    needed = sum(t.nbytes for t in (*model.state_dict().values(), *_tensors(state)))
    with replacing_folder(final, needed=needed) as draft:
        save_weights(model, draft / WEIGHTS_FILE)
        with (draft / OPTIMIZER_FILE).open("wb") as file:  # torch's own writer loses the error
            torch.save(state, file)
        write_json(draft / STATE_FILE, {"step": step, "config": config, "notes": notes})
        lines = [f"{_checksum(draft / name)}  {name}\n" for name in CHECKPOINT_FILES]
        (draft / SUMS_FILE).write_text("".join(lines), encoding="utf-8")
        for path in (*draft.iterdir(), draft):
            _flush(path)
    _flush(folder)
    for old in checkpoints(folder)[limit:]:
        shutil.rmtree(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest first; nothing is read."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, reverse=True)


def newest_whole(folder: Path, *, say: bool = True) -> Checkpoint | None:
    """Return the newest checkpoint that is whole; a damaged one is named and passed over.

    Args:
        folder: folder of the checkpoints.
        say: whether this process names the damaged ones.
    """
    for path in checkpoints(folder):
        try:
            return read_checkpoint(path)
        except DamagedError as error:
            if say:
                logger.warning("%s; looking for the checkpoint before it", error)
    return None


def check(folder: Path) -> None:
    """Check that a checkpoint has its files, and that they are those that were written.

    Checkpoints of versions before 0.2 have no checksums; of these only the files are checked.

    Raises:
        DamagedError: naming the file, and what is wrong with it.
    """
    for name in CHECKPOINT_FILES:
        file = folder / name
        if not file.is_file():
            raise DamagedError(f"checkpoint {str(folder)!r} is damaged: it has no {name}")
        if file.stat().st_size == 0:
            raise DamagedError(f"checkpoint {str(folder)!r} is damaged: {name} is empty")
    sums = folder / SUMS_FILE
    if not sums.is_file():
        return
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines()
    wanted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in CHECKPOINT_FILES:
        if wanted.get(name) != _checksum(folder / name):
            raise DamagedError(
                f"checkpoint {str(folder)!r} is damaged: {name} is not the file that was written "
                f"(its SHA-256 is not that in {SUMS_FILE})"
            )


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint into memory.

    Raises:
        DamagedError: if it cannot be read, naming the file and what is wrong with it.
    """
    check(folder)
    name = STATE_FILE
    try:
        state = read_json(folder / STATE_FILE)
        step, config, notes = int(state["step"]), dict(state["config"]), dict(state["notes"])
        name = WEIGHTS_FILE
        weights = load_file(folder / WEIGHTS_FILE)
        name = OPTIMIZER_FILE
        stored = torch.load(folder / OPTIMIZER_FILE, map_location="cpu", weights_only=True)
        optimizer, scaler = stored["optimizer"], stored["scaler"]
    except (InputError, SafetensorError, OSError, RuntimeError, EOFError) as error:
        raise DamagedError(
            f"checkpoint {str(folder)!r} is damaged: {name} cannot be read: {one_line(error)}"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError, json.JSONDecodeError) as error:
        raise DamagedError(
            f"checkpoint {str(folder)!r} is damaged: {name} lacks "
            f"{type(error).__name__} {one_line(error)}"
        ) from error
    except Exception as error:  # torch's reader of pickles has exceptions of its own
        raise DamagedError(
            f"checkpoint {str(folder)!r} is damaged: {name} cannot be read: {one_line(error)}"
        ) from error
    return Checkpoint(folder, step, config, notes, weights, optimizer, scaler)


def restore(
    checkpoint: Checkpoint,
    config: dict[str, Any],
    model: nn.Module,
    optimizer: Any,
    scaler: Any,
    change: Sequence[str] = (),
) -> dict[str, list[Any]]:
    """Load a checkpoint into model and optimiser.

    Args:
        checkpoint: the checkpoint.
        config: what decides the trained weights now.
        model: the unwrapped model.
        optimizer: the optimiser.
        scaler: the gradient scaler of fp16, or None.
        change: names of values that may differ from those of the checkpoint.

    Returns:
        The values that changed, before and after, by name.

    Raises:
        InputError: if it belongs to another run or task.
    """
    where = f"checkpoint {str(checkpoint.folder)!r} belongs to another run"
    changed = refuse_other(where, checkpoint.config, config, change)
    try:
        model.load_state_dict(checkpoint.weights)
        optimizer.load_state_dict(checkpoint.optimizer)
        if scaler and checkpoint.scaler:
            scaler.load_state_dict(checkpoint.scaler)
    except Exception as error:  # whoever wrote it may have put anything into it
        raise InputError(
            f"checkpoint {str(checkpoint.folder)!r} does not fit this run: {one_line(error)}"
        ) from error
    return changed


def _tensors(state: Any) -> Iterator[Tensor]:
    """Yield every tensor of a state of lists and dictionaries."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from _tensors(value)


def _checksum(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    """Have the operating system write a file, or a folder's list of files, to the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # nor do some network file systems flush them
        pass
    finally:
        os.close(descriptor)
