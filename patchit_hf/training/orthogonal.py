"""Muon's orthogonalisation, made fast: float32 Gram matrices on the CPU, replayed kernels on a GPU.

timm's Muon computes it in bfloat16, which is fast on GPUs. On a CPU without bfloat16 units it takes
twenty times as long as the rest of a step. Here it is float32. Kernels are much wider than high, so
the iteration runs on their Gram matrix: each Newton-Schulz step is a polynomial in it, and the wide
matrix is read twice instead of ten times. Columns of zeros stay zero and are left out: on a 1x1 map
only the middle of a 3x3 kernel has a gradient.

On a CUDA GPU it is timm's function; its many small kernels are captured once per matrix shape.
"""

from __future__ import annotations

import functools
import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.optim import Muon
from torch import Tensor

from patchit_hf.training.cuda_graphs import Replay

logger = logging.getLogger(__name__)

MODULE, NAME = "timm.optim.muon", "zeropower_via_newtonschulz"  # not part of timm's public API
_STEPPING = threading.RLock()  # all threads share timm's module
WIDE = 2  # from this ratio of width to height on, the Gram matrix is less work

Coefficients = list[tuple[float, float, float]]


@functools.cache
def timms_orthogonalize() -> Any:
    """Return timm's own function, which is replaced during a step.

    Raises:
        AttributeError: if this version of timm has no such function.
        ImportError: if it has no such module.
    """
    return getattr(importlib.import_module(MODULE), NAME)


def orthogonalize(
    gradient: Tensor,
    steps: int,
    coefficients: Coefficients,
    eps: float = 1e-7,
    safety_factor: float = 1.0,
    scale_eps: bool = False,
) -> Tensor:
    """Bring the singular values of matrices ``[..., M, N]`` close to 1.

    The arguments are those of timm's ``zeropower_via_newtonschulz``, which does the work on all
    devices but the CPU.

    Args:
        gradient: the matrices.
        steps: number of Newton-Schulz iterations.
        coefficients: polynomial coefficients of each step; the last ones are reused.
        eps: smallest norm.
        safety_factor: factor by which the norm is enlarged.
        scale_eps: see timm.

    Returns:
        The matrices, ``[..., M, N]``.
    """
    how = (steps, coefficients, eps, safety_factor)
    if gradient.device.type != "cpu" or scale_eps:
        dtype = torch.float32 if gradient.device.type == "cpu" else torch.bfloat16
        theirs: Tensor = timms_orthogonalize()(gradient, *how, dtype=dtype, scale_eps=scale_eps)
        return theirs
    seen = (gradient != 0).flatten(0, -2).any(0).nonzero()[:, 0]
    if len(seen) == gradient.shape[-1]:
        return _dense(gradient, *how)
    whole = torch.zeros_like(gradient, dtype=torch.float32)
    if len(seen):
        whole.index_copy_(-1, seen, _dense(gradient.index_select(-1, seen), *how))
    return whole


def _dense(
    x: Tensor, steps: int, coefficients: Coefficients, eps: float, safety_factor: float
) -> Tensor:
    """Return ``orthogonalize`` of matrices without columns of zeros."""
    if x.shape[-2] > x.shape[-1]:
        return _dense(x.mT, steps, coefficients, eps, safety_factor).mT
    if x.shape[-1] < WIDE * x.shape[-2]:
        square: Tensor = timms_orthogonalize()(
            x, steps, coefficients, eps, safety_factor, dtype=torch.float32
        )
        return square
    x = x.float()
    x = x / (x.norm(2, dim=(-2, -1), keepdim=True) * safety_factor).clamp(min=eps)
    flat: Tensor = _polynomial(x @ x.mT, steps, coefficients) @ x
    return flat


def _polynomial(gram: Tensor, steps: int, coefficients: Coefficients) -> Tensor:
    """Return the product of all steps' factors, from the Gram matrix ``[..., M, M]``."""
    identity = torch.eye(gram.shape[-1])
    product: Tensor | None = None
    for number in range(steps):
        a, b, c = coefficients[min(number, len(coefficients) - 1)]
        step = a * identity + b * gram + c * (gram @ gram)
        product = step if product is None else step @ product
        if number < steps - 1:
            gram = step @ gram @ step
    return identity if product is None else product


class Orthogonalizer:
    """``orthogonalize``, with captured kernels for matrices on a CUDA GPU."""

    def __init__(self) -> None:
        self.replays: dict[Any, Replay] = {}

    def __call__(
        self, gradient: Tensor, steps: int, coefficients: Coefficients, **options: Any
    ) -> Tensor:
        """Return ``orthogonalize``'s result; on a GPU the next call overwrites it."""

        def function(x: Tensor) -> Tensor:
            return orthogonalize(x, steps, coefficients, **options)

        if gradient.device.type != "cuda":
            return function(gradient)
        how = (steps, tuple(coefficients), *sorted(options.items()))
        key = (gradient.shape, gradient.dtype, gradient.device, how)
        if key not in self.replays:
            self.replays[key] = Replay(function, gradient)
        return self.replays[key](gradient)


class QuickMuon(Muon):  # type: ignore[misc]
    """timm's Muon with this module's orthogonalisation, only during its own steps."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take timm's step; afterwards timm's module is restored, even if the step fails."""
        ours: Orthogonalizer = self.__dict__.setdefault("orthogonalizer", Orthogonalizer())
        with _replaced(ours):
            return super().step(closure)


@contextmanager
def _replaced(ours: Orthogonalizer) -> Iterator[None]:
    """Replace the orthogonalisation in timm's module while the context is active."""
    module = importlib.import_module(MODULE)
    with _STEPPING:
        theirs = getattr(module, NAME)
        setattr(module, NAME, ours)
        try:
            yield
        finally:
            setattr(module, NAME, theirs)


def quicken(optimizer: Muon) -> None:
    """Give an optimiser of timm's Muon family this orthogonalisation; its state stays unchanged.

    If timm no longer has the function to replace, the optimiser stays timm's own.
    """
    try:
        timms_orthogonalize()
    except (AttributeError, ImportError):
        logger.warning(
            "this version of timm has no %s.%s: Muon uses timm's own, slower orthogonalisation",
            MODULE,
            NAME,
        )
        return
    optimizer.__class__ = QuickMuon
