"""Arguments as frozen dataclasses: each field carries its flag and is checked when it is set.

``flag`` is the spelling on the command line. ``identity`` is false for arguments that do not change
the trained weights: a run may be continued with another value.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError, did_you_mean


def arg(
    default: Any,
    flag: str,
    group: str,
    help: str,
    *,
    identity: bool = True,
    later: bool = False,
    choices: tuple[str, ...] | Callable[[], Sequence[str]] | None = None,
    words: tuple[str, ...] = (),
) -> Any:
    """Return a dataclass field that carries its flag.

    Args:
        default: the default value.
        flag: the flag, such as ``--seed``; a name without dashes is a positional argument, one in
            brackets may be left out.
        group: the heading under which ``--help`` shows it.
        help: the text that ``--help`` shows.
        identity: whether the argument changes what a run computes.
        later: whether earlier runs lack it; it is then no part of what identifies a run unless it
            is set.
        choices: the allowed values, or a function that lists them; None for any.
        words: what may be given instead of a number; the class makes a number of it.
    """
    metadata = {
        "flag": flag,
        "group": group,
        "help": help,
        "identity": identity,
        "later": later,
        "choices": choices,
        "words": words,
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class _Named(type):
    """Lets a class of arguments understand other names, and names those that it does not know."""

    def __call__(cls, **values: Any) -> Any:
        known = {item.name for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
        others = {name: values.pop(name) for name in list(values) if name not in known}
        understood = cls._understood(others, values) if others else {}  # type: ignore[attr-defined]
        return super().__call__(**values, **understood)


@dataclass(frozen=True, kw_only=True)
class Arguments(metaclass=_Named):
    """Base class of arguments; it rejects values that are not allowed.

    Numbers of NumPy are taken as Python's, paths as text, with ``~`` for the home folder.

    Raises:
        InputError: for a value that is not among a field's choices; the message names the flag.
    """

    @classmethod
    def _understood(cls, others: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        """Return what arguments of unknown names mean here.

        Args:
            others: these arguments.
            values: all others that are given.

        Raises:
            InputError: for one that means nothing here.
        """
        name = next(iter(others))
        names = [item.name for item in dataclasses.fields(cls)]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{cls.__name__} has no argument {name!r}{hint}")

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            choices, value = choices_of(item), _plain(getattr(self, item.name))
            if value is not getattr(self, item.name):
                object.__setattr__(self, item.name, value)
            if choices and value is not None and value not in choices:
                hint = did_you_mean(str(value), choices)
                raise self._error(item.name, f"one of {', '.join(choices)}", hint)

    def _check_whole(self, name: str, low: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise self._error(name, f"a whole number of at least {low}")

    def _check_number(self, name: str, *, positive: bool = False) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0 or (positive and value == 0):
            raise self._error(name, "a finite number " + ("above 0" if positive else "from 0"))

    def _error(self, name: str, allowed: str, hint: str = "") -> InputError:
        flag = flag_of(name, type(self))
        return InputError(f"{flag} {getattr(self, name)!r}: must be {allowed} ({name}){hint}")


def choices_of(item: dataclasses.Field[Any]) -> tuple[str, ...]:
    """Return the values that a field may have; empty if any."""
    choices = item.metadata["choices"]
    return tuple(choices() if callable(choices) else choices or ())


def kind_of(hint: Any) -> type[Any]:
    """Return the type behind ``X | None`` and ``dict[...]``."""
    if isinstance(hint, types.UnionType):
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    kind: type[Any] = typing.get_origin(hint) or hint
    return kind


def stated(*objects: Any, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return every argument by its flag without dashes, as ``--config`` reads it.

    Args:
        *objects: the arguments.
        without: fields to leave out.

    Example:
        >>> from patchit_hf.data.decoding import DecodeArguments
        >>> stated(DecodeArguments(fit="cover"))["fit"]
        'cover'
    """
    return {
        item.metadata["flag"].lstrip("-"): getattr(obj, item.name)
        for obj in objects
        for item in dataclasses.fields(obj)
        if item.name not in without
    }


def _plain(value: Any) -> Any:
    """Return a number of NumPy or torch as Python's, and a path as text."""
    if isinstance(value, os.PathLike):
        return os.fspath(Path(value).expanduser())
    if isinstance(value, str):
        at_home = value == "~" or value.startswith(f"~{os.sep}")
        return os.path.expanduser(value) if at_home else value
    if isinstance(value, list) and any(isinstance(v, str | os.PathLike) for v in value):
        return [_plain(v) for v in value]
    module = type(value).__module__.partition(".")[0]
    if module in ("numpy", "torch") and hasattr(value, "item") and not getattr(value, "ndim", 0):
        return value.item()
    return value


def identity(*objects: Any) -> dict[str, Any]:
    """Return the fields that decide what a run computes, by name.

    Those that earlier runs lack are left out where they have their default, so that such a run
    continues.
    """
    return {
        item.name: getattr(obj, item.name)
        for obj in objects
        for item in dataclasses.fields(obj)
        if item.metadata["identity"]
        and not (item.metadata["later"] and getattr(obj, item.name) == item.default)
    }


def flag_of(name: str, *classes: type[Any]) -> str:
    """Return the flag of a field, or the field's name if no class has it."""
    for cls in classes:
        for item in dataclasses.fields(cls):
            if item.name == name:
                return str(item.metadata["flag"])
    return name
