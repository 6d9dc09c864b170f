"""Muon's orthogonalisation: on the CPU in float32 and on the matrix' small side, on a GPU replayed.

timm's Muon computes it in bfloat16, which is what GPUs are fast at. A CPU without bfloat16 units
takes twenty times as long for it as for all the rest of a step. Here it is float32, and kernels,
which are far wider than high, are iterated on as their Gram matrix: each step of the Newton-Schulz
iteration is a polynomial in it, so that the wide matrix is read twice instead of ten times. Columns
of zeros stay zeros and are left out: on a map of one position only the middle of a 3x3 kernel has a
gradient.

On a CUDA GPU it is timm's, whose many small kernels are captured once for each shape of a matrix.
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
_STEPPING = threading.RLock()  # timm's module is the same for all threads
WIDE = 2  # times as wide as high: from here on the Gram matrix is less work

Coefficients = list[tuple[float, float, float]]


@functools.cache
def timms_orthogonalize() -> Any:
    """Return timm's own function, which ours stands in for during a step.

    Raises:
        AttributeError: if this version of timm has none by that name.
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
    """Bring the singular values of matrices ``[..., M, N]`` near 1.

    The arguments are those of timm's ``zeropower_via_newtonschulz``, which does all that lies on
    other devices.

    Args:
        gradient: the matrices.
        steps: Newton-Schulz iterations.
        coefficients: of the polynomial of each step; the last ones go on.
        eps: smallest norm.
        safety_factor: the norm counts as so many times as large.
        scale_eps: see timm.
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
    """Return what ``orthogonalize`` does, where there are no columns of zeros."""
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
    """Return what the steps multiply a matrix by, from its Gram matrix ``[..., M, M]``."""
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
    """``orthogonalize``, with replays for matrices on a CUDA GPU."""

    def __init__(self) -> None:
        self.replays: dict[Any, Replay] = {}

    def __call__(
        self, gradient: Tensor, steps: int, coefficients: Coefficients, **options: Any
    ) -> Tensor:
        """Return what ``orthogonalize`` does; on a GPU it lasts until the next call."""

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
    """timm's Muon with this module's orthogonalisation, in its own steps alone."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take timm's step; its module is as it was afterwards, also where the step fails."""
        ours: Orthogonalizer = self.__dict__.setdefault("orthogonalizer", Orthogonalizer())
        with _replaced(ours):
            return super().step(closure)


@contextmanager
def _replaced(ours: Orthogonalizer) -> Iterator[None]:
    """While it is entered, timm's module has this orthogonalisation."""
    module = importlib.import_module(MODULE)
    with _STEPPING:
        theirs = getattr(module, NAME)
        setattr(module, NAME, ours)
        try:
            yield
        finally:
            setattr(module, NAME, theirs)


def quicken(optimizer: Muon) -> None:
    """Let an optimiser of timm's Muon family orthogonalise this way; its state stays as it is.

    Where timm no longer has the function that is replaced, the optimiser stays timm's own.
    """
    try:
        timms_orthogonalize()
    except (AttributeError, ImportError):
        logger.warning("this version of timm has no %s.%s: Muon's steps are its own", MODULE, NAME)
        return
    optimizer.__class__ = QuickMuon
