"""Input checks of the metrics, and the small helpers that they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from patchit_hf.common.errors import InputError


def check_shape(name: str, tensor: Tensor, *sides: int | None) -> None:
    """Check the shape of a tensor.

    Args:
        name: its name in the message.
        tensor: the tensor.
        sides: the expected lengths; None allows any length.

    Raises:
        InputError: if the shape differs; the message names both.

    Example:
        >>> check_shape("scores", torch.zeros(3, 2), None, 4)
        Traceback (most recent call last):
        patchit_hf.common.errors.InputError: scores of shape [3, 2]: must be of shape [any, 4]
    """
    fits = tensor.ndim == len(sides) and all(
        side in (None, length) for side, length in zip(sides, tensor.shape, strict=True)
    )
    if not fits:
        allowed = ", ".join("any" if side is None else str(side) for side in sides)
        raise InputError(f"{name} of shape {list(tensor.shape)}: must be of shape [{allowed}]")


def check_numbers(name: str, tensor: Tensor) -> None:
    """Check that a tensor is of floating type and has no NaN.

    Raises:
        InputError: otherwise; the message gives the type or the number of NaN.
    """
    if not tensor.is_floating_point():
        raise InputError(f"{name} of type {tensor.dtype}: must be of a floating type")
    if bad := int(tensor.isnan().sum()):
        raise InputError(f"{name}: {bad} of {tensor.numel()} values are NaN: must be numbers")


def check_integers(name: str, tensor: Tensor, low: int, high: int | None = None) -> None:
    """Check that a tensor is of integer (or bool) type with values in ``[low, high]``.

    Raises:
        InputError: otherwise; the message gives the type or the value, and what is allowed.
    """
    if tensor.is_floating_point() or tensor.is_complex():
        raise InputError(f"{name} of type {tensor.dtype}: must be of an integer type")
    if not tensor.numel():
        return
    least, most = int(tensor.min()), int(tensor.max())
    wrong = least if least < low else most
    if least < low or (high is not None and most > high):
        allowed = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InputError(f"{name}: value {wrong}: must be {allowed}")


def check_names(name: str, names: Sequence[str], count: int) -> None:
    """Check that there are ``count`` names and that they differ.

    Raises:
        InputError: otherwise.
    """
    if len(names) != count:
        raise InputError(f"{name}: {len(names)} names: must be {count}")
    if len(set(names)) != count:
        twice = sorted({word for word in names if list(names).count(word) > 1})
        raise InputError(f"{name}: {', '.join(map(repr, twice))} more than once: must differ")


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def known_only(metrics: dict[str, float | None]) -> dict[str, float]:
    """Return the metrics that are not None."""
    return {key: value for key, value in metrics.items() if value is not None}


def ratio(part: Tensor, whole: Tensor) -> list[float | None]:
    """Return part / whole element by element, both ``[K]``; None where whole is 0."""
    quotients = (part.to(torch.float64) / whole).tolist()
    return [q if n else None for q, n in zip(quotients, whole.tolist(), strict=True)]
