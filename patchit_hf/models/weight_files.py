"""Files of weights as other programs write them: with prefixes in the names, or pickled by torch.

Nothing is unpickled: ``torch.load(weights_only=True)`` reads tensors and plain values alone.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.models.names import PICKLED
from patchit_hf.models.weights_fit import tensor_shapes

INSIDE = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")
WRAPPED = ("module.", "_orig_mod.", "model.", "timm_model.")  # of every name in a file
OURS = "backbone."  # beside which there may be a head


@contextmanager
def plain_weights(file: Path, source: str) -> Iterator[Path]:
    """Yield a safetensors file of a backbone's weights by timm's names.

    It is the file itself if that is one, and else a temporary one.

    Args:
        file: a file of weights.
        source: what the user asked for.

    Raises:
        InputError: if it cannot be read, or holds no weights.
    """
    if file.suffix.lower() in PICKLED:
        weights = _unpickled(file, source)
    else:
        names = list(tensor_shapes(file, f"--init {source!r}:"))
        if plain_names(names) == {name: name for name in names}:
            yield file
            return
        weights = load_file(file)
    kept = {new: weights[old].contiguous() for old, new in plain_names(list(weights)).items()}
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "model.safetensors"
        save_file({name: tensor.clone() for name, tensor in kept.items()}, there)
        yield there


def plain_names(names: list[str]) -> dict[str, str]:
    """Return the names of a backbone's weights, without prefixes, by those in a file.

    Wrappers (``module.``, ``_orig_mod.``, ``model.``) put a prefix before every name. Where there
    are names that begin with ``backbone.``, the others are of a head.

    Example:
        >>> plain_names(["_orig_mod.backbone.conv.weight", "_orig_mod.head.0.weight"])
        {'_orig_mod.backbone.conv.weight': 'conv.weight'}
    """
    found = {name: name for name in names}
    while True:
        inner = list(found.values())
        prefix = next((p for p in WRAPPED if inner and all(n.startswith(p) for n in inner)), None)
        if prefix is None and any(n.startswith(OURS) for n in inner):
            prefix = OURS
        if prefix is None:
            return found
        found = {
            old: new.removeprefix(prefix) for old, new in found.items() if new.startswith(prefix)
        }


def _unpickled(file: Path, source: str) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        text = one_line(error).partition(".")[0]
        raise InputError(
            f"--init {source!r}: cannot be read as weights alone (torch.load with "
            f"weights_only=True): {text}"
        ) from error
    while isinstance(state, Mapping) and not _is_state(state):
        inner = next((state[key] for key in INSIDE if isinstance(state.get(key), Mapping)), None)
        if inner is None:
            break
        state = inner
    if not (isinstance(state, Mapping) and _is_state(state)):
        raise InputError(
            f"--init {source!r}: holds no weights by name (in {', '.join(INSIDE)}, or at its root)"
        )
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}


def _is_state(state: Mapping[Any, Any]) -> bool:
    return bool(state) and any(isinstance(value, Tensor) for value in state.values())
