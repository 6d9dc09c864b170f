"""Callbacks: objects that a trainer tells of steps, evaluations, checkpoints and its end.

A callback that returns true from ``on_step`` or ``on_evaluate`` ends the run, as early stopping
does: the weights are evaluated, a checkpoint is written, the result is exported, and the record
says which callback asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from accelerate.utils import gather_object

from patchit_hf.common.errors import InputError

METHODS = ("on_step", "on_evaluate", "on_save", "on_end")


class Callback(Protocol):
    """What a callback may have; an object with one of these methods is enough.

    All are called on every process, except ``on_save``, which only the main process calls. If one
    process is told to stop, all do.

    Example:
        >>> class Prints:
        ...     def on_evaluate(self, trainer, step, values):
        ...         print(step, values["eval_accuracy"])
        ...         return values["eval_accuracy"] > 0.9  # true ends the run
        >>> _ = Callbacks([Prints()])
    """

    def on_step(self, trainer: Any, step: int) -> bool | None:
        """See a step; ``step`` steps are done with it. True ends the run."""

    def on_evaluate(self, trainer: Any, step: int, values: dict[str, Any]) -> bool | None:
        """See an evaluation: the line of ``metrics.jsonl``. True ends the run.

        With ``keep_initial``, the run ends after one more step, because the initial weights are
        mixed in before the last evaluation.
        """

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

    def tell(self, method: str, *values: Any) -> str | None:
        """Call a method of every callback that has it, in order.

        Returns:
            Why the run is to end, on this process; None if nobody asked for it.
        """
        reason = None
        for callback in self.given:
            found = getattr(callback, method, None)
            told = found(*values) if callable(found) else None
            if isinstance(told, bool | np.bool_) and told and reason is None:
                reason = f"the callback {type(callback).__name__} asked for it"
        return reason

    def agreed(self, method: str, world: int, *values: Any) -> str | None:
        """Call a method on every process; return the same on all, see ``tell``.

        Args:
            method: its name.
            world: number of processes.
            *values: what it is called with.
        """
        reason = self.tell(method, *values)
        if world == 1 or not self.given:
            return reason
        return next((told for told in gather_object([reason]) if told), None)
