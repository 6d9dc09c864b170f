"""Files that are either the old one or the whole new one.

torch is imported where weights are written, so that what only reads records starts at once.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.errors import InputError

if TYPE_CHECKING:
    from torch import nn


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
    draft = path.with_name(f".{path.name}.tmp")
    draft.unlink(missing_ok=True)
    draft.touch()
    mode = stat.S_IMODE(draft.stat().st_mode)
    save_file(tensors, draft, metadata={"format": "pt", **(metadata or {})})
    draft.chmod(mode)  # safetensors writes for the owner alone; an export is shared
    os.replace(draft, path)


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
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(draft, path)
