"""The mean of the weights of several networks, in double precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from patchit_hf.average.sources import Source
from patchit_hf.common.errors import InputError, one_line

COUNTS = "num_batches_tracked"  # of batch normalisation: estimated anew, like its statistics


def mean_weights(sources: Sequence[Source]) -> dict[str, Tensor]:
    """Return the mean of each tensor over several exports.

    Floating tensors are added in float64, one export in memory at a time, and get their own type
    again. Integers, such as tables of indices, must be the same everywhere.

    Args:
        sources: exports of one architecture.

    Returns:
        Tensors by name.

    Raises:
        InputError: for missing or surplus tensors, another shape, other integers, or a number that
            is not finite.
    """
    first = _read(sources[0])
    totals = {key: tensor.to(_wide(tensor)) for key, tensor in first.items()}
    for other in sources[1:]:
        theirs = _read(other)
        _check_names(sources[0], first, other, theirs)
        for key, tensor in theirs.items():
            if tensor.is_floating_point():
                totals[key] += tensor.double()
            elif not key.endswith(COUNTS) and not torch.equal(tensor, first[key]):
                raise InputError(f"{other.name!r}: {key} differs from that of {sources[0].name!r}")
    return {
        key: (total / len(sources)).to(first[key].dtype) if total.is_floating_point() else total
        for key, total in totals.items()
    }


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.is_floating_point() else tensor.dtype


def _read(source: Source) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(source.weights)
    except SafetensorError as error:
        raise InputError(
            f"{source.name!r}: {source.weights.name} cannot be read: {one_line(error)}"
        ) from error
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{source.name!r}: {key} holds numbers that are not finite")
    return tensors


def _check_names(
    one: Source, mine: dict[str, Tensor], other: Source, theirs: dict[str, Tensor]
) -> None:
    for owner, keys in ((other, mine.keys() - theirs.keys()), (one, theirs.keys() - mine.keys())):
        if keys:
            raise InputError(f"{owner.name!r}: has no tensor {min(keys)}, which the others have")
    for key, tensor in theirs.items():
        if tensor.shape != mine[key].shape:
            raise InputError(
                f"{other.name!r}: {key} is {list(tensor.shape)}, that of {one.name!r} "
                f"{list(mine[key].shape)}; an average needs the same shapes"
            )
