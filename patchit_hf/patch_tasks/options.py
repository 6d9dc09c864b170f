"""Checks of a task's options."""

from __future__ import annotations

from patchit_hf.common.errors import InputError


def whole(name: str, value: object, low: int) -> int:
    """Return a whole number of at least ``low``.

    Raises:
        InputError: for anything else.

    Example:
        >>> whole("parts", 1, 0)
        1
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise InputError(
            f"{name}={value!r} in --task-kwargs: must be a whole number of at least {low}"
        )
    return value


def within(name: str, value: object, high: float, low: float = 0.0) -> float:
    """Return a number from ``low`` to ``high``.

    Raises:
        InputError: for anything else.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise InputError(f"{name}={value!r} in --task-kwargs: a number from {low:g} to {high:g}")


def rows_and_cols(name: str, value: object) -> list[int]:
    """Return two whole numbers of at least 1.

    Raises:
        InputError: for anything else.
    """
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InputError(f"{name}={value!r} in --task-kwargs: rows and columns, such as [13,7]")
    return [whole(name, number, 1) for number in value]
