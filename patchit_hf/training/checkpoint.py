"""Checkpoints: everything that a run needs to go on as if nothing had happened.

Weights are safetensors, the optimiser's state is read with ``weights_only=True``, the rest is JSON;
nothing is ever unpickled. A checkpoint is written under another name and moved when it is whole.
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
    """Write a checkpoint after ``step`` steps and drop the oldest beyond ``limit``.

    Args:
        folder: where checkpoints lie.
        step: number of steps done.
        config: what decides the trained weights, data included.
        model: the model, unwrapped.
        optimizer: the optimiser.
        scaler: the gradient scaler of fp16, or None.
        notes: JSON values to carry along.
        limit: how many checkpoints stay.

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
    """Read a checkpoint into model and optimiser.

    Returns:
        The number of steps done and the notes.

    Raises:
        InputError: if the folder is no checkpoint, or one of another run or task.
    """
    state_file = folder / "state.json"
    if not state_file.is_file():
        raise InputError(f"--resume {str(folder)!r}: is no checkpoint (no state.json in it)")
    state = read_json(state_file)
    refuse_other(f"checkpoint {str(folder)!r} is of another run", state["config"], config)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    stored = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    optimizer.load_state_dict(stored["optimizer"])
    if scaler and stored["scaler"]:
        scaler.load_state_dict(stored["scaler"])
    return int(state["step"]), dict(state["notes"])
