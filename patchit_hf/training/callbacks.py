"""Callbacks: objects that a trainer tells of steps, evaluations, checkpoints and its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from patchit_hf.common.errors import InputError

METHODS = ("on_step", "on_evaluate", "on_save", "on_end")


class Callback(Protocol):
    """What a callback may have; an object with one of these methods is enough.

    All are called on every process, except ``on_save``, which only the main process calls.

    Example:
        >>> class Prints:
        ...     def on_evaluate(self, trainer, step, values):
        ...         print(step, values["eval_accuracy"])
        >>> _ = Callbacks([Prints()])
    """

    def on_step(self, trainer: Any, step: int) -> None:
        """See a step; ``step`` steps are done with it."""

    def on_evaluate(self, trainer: Any, step: int, values: dict[str, Any]) -> None:
        """See an evaluation: the line of ``metrics.jsonl``."""

    def on_save(self, trainer: Any, step: int, folder: Path) -> None:
        """See a checkpoint that has been written to a folder."""

    def on_end(self, trainer: Any, results: dict[str, Any]) -> None:
        """See the results, once everything is written."""


class Callbacks:
    """Several callbacks as one.

    Args:
        given: the callbacks.

    Raises:
        InputError: for an object that is none.
    """

    def __init__(self, given: Sequence[Any] | None) -> None:
        if given is not None and not isinstance(given, list | tuple):
            given = [given]
        self.given = tuple(given or ())
        for callback in self.given:
            name = type(callback).__name__
            if isinstance(callback, type):
                raise InputError(f"callbacks: {callback.__name__} is a class; give an object of it")
            if hasattr(callback, "on_step_end"):  # transformers calls them with other arguments
                raise InputError(
                    f"callbacks: {name} is a callback of transformers; here they have "
                    f"{', '.join(METHODS)} (see patchit_hf.training.callbacks)"
                )
            if not any(callable(getattr(callback, method, None)) for method in METHODS):
                raise InputError(
                    f"callbacks: {name} has none of {', '.join(METHODS)} (see "
                    "patchit_hf.training.callbacks)"
                )

    def tell(self, method: str, *values: Any) -> None:
        """Call a method of every callback that has it, in order."""
        for callback in self.given:
            found = getattr(callback, method, None)
            if callable(found):
                found(*values)
