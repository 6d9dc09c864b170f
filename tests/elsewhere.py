"""A device that is not the CPU, on every machine: ``meta``, with tensors that carry their values.

Inside ``elsewhere()`` every operation is computed on the CPU, and one that mixes devices is an
error, as on a GPU. What ``torch`` allows there is allowed here: a scalar on the CPU beside tensors
on the device, and indices on the CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.random import fork_rng
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
MOVES = ("aten::to", "aten::_to_copy")
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
FROM_DATA = (torch.tensor, torch.as_tensor, torch.asarray)


class There(Tensor):
    """A tensor on the device; ``values`` is on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> There:
        tensor = Tensor._make_wrapper_subclass(
            cls, values.size(), strides=values.stride(), storage_offset=values.storage_offset(),
            dtype=values.dtype, layout=values.layout, device=DEVICE,
        )  # fmt: skip
        tensor.values = values
        return tensor

    def __repr__(self) -> str:
        return f"There({self.values})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})

    def __tensor_flatten__(self):
        """Say that parameters are to be swapped, so that optimisers keep theirs."""
        return ["values"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride):
        return There(inner["values"])


def _here(value: Any) -> Any:
    return value.values if isinstance(value, There) else value


def _there(value: Any) -> Any:
    return There(value) if isinstance(value, Tensor) and not isinstance(value, There) else value


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    on_device = any(isinstance(tensor, There) for tensor in tensors)
    if name == "aten::is_pinned":
        return False
    if any(t.device == DEVICE and not isinstance(t, There) for t in tensors):
        raise RuntimeError(f"{name}: a tensor on the device was made behind its back")
    if on_device and name not in MOVES and name != "aten::copy_":
        # Indices may be on the CPU.
        asked = [args[0], *args[2:3]] if name in INDEXING else tensors
        for tensor in asked:
            if isinstance(tensor, Tensor) and not isinstance(tensor, There) and tensor.ndim:
                raise RuntimeError(f"{name}: a tensor {tuple(tensor.shape)} is on the CPU")
    target = kwargs.get("device")
    here_args, here_kwargs = tree_map(_here, (args, kwargs))
    if target is not None:
        here_kwargs["device"] = "cpu"
        on_device = torch.device(target) == DEVICE
    random = on_device and torch.Tag.nondeterministic_seeded in func.tags
    with fork_rng(devices=[]) if random else nullcontext():  # the device has its own generator
        out = func(*here_args, **here_kwargs)
    if name == "aten::copy_":
        return args[0]
    if name in MOVES:
        return _there(out) if on_device else out
    if not on_device:
        return out
    return return_and_correct_aliasing(func, args, kwargs, tree_map(_there, out))


class _Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen[func._schema.name] += any(isinstance(leaf, There) for leaf in tree_leaves(args))
        return _compute(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What torch does with the numbers themselves, before any operation."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in FROM_DATA and kwargs.get("device") is not None:
            return func(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        if func is Tensor.new_tensor:
            tensor, data = args
            made = torch.tensor(data, dtype=kwargs.get("dtype") or tensor.dtype)
            return made.to(kwargs.get("device") or tensor.device)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(i) if isinstance(i, list) else i for i in index)
            return func(args[0], index, *args[2:])
        if func is Tensor.tolist:
            return func(_here(args[0]))
        return func(*args, **kwargs)


@contextmanager
def elsewhere() -> Iterator[Counter[str]]:
    """Make ``meta`` the device, and count its operations by name.

    ``torch.inference_mode``, which it cannot do, is ``no_grad``.
    """
    before, torch.inference_mode = torch.inference_mode, lambda mode=True: torch.no_grad()
    try:
        with _Operations() as operations, _Functions():
            yield operations.seen
    finally:
        torch.inference_mode = before
