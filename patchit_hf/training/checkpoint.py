"""Checkpoints: everything that a run needs to continue as if it had never stopped.

Weights are safetensors, the optimiser's state is read with ``weights_only=True``, the rest is JSON;
nothing is ever unpickled. Checkpoints are written atomically.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json, replacing_folder, save_weights, write_json
from patchit_hf.training.run_folder import refuse_other


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
    """
    final = folder / f"step-{step:08d}"
    if final.exists():
        return final
    state = {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict() if scaler else {}}
    with replacing_folder(final) as draft:
        save_weights(model, draft / "model.safetensors")
        torch.save(state, draft / "optimizer.pt")
        write_json(draft / "state.json", {"step": step, "config": config, "notes": notes})
    for old in sorted(folder.glob("step-*"))[:-limit]:
        shutil.rmtree(old)
    return final


def load_checkpoint(
    folder: Path, config: dict[str, Any], model: nn.Module, optimizer: Any, scaler: Any
) -> tuple[int, dict[str, Any]]:
    """Load a checkpoint into model and optimiser.

    Returns:
        The number of steps done, and the notes.

    Raises:
        InputError: if the folder is not a checkpoint, or belongs to another run or task.
    """
    state_file = folder / "state.json"
    if not state_file.is_file():
        raise InputError(f"--resume {str(folder)!r}: not a checkpoint (it has no state.json)")
    state = read_json(state_file)
    refuse_other(f"checkpoint {str(folder)!r} belongs to another run", state["config"], config)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    stored = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    optimizer.load_state_dict(stored["optimizer"])
    if scaler and stored["scaler"]:
        scaler.load_state_dict(stored["scaler"])
    return int(state["step"]), dict(state["notes"])
