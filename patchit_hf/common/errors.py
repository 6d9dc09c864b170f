"""The one exception that means: the input is wrong, and here is what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """Bad input from a user: a flag, a file, a column, a folder.

    The message is one line that names the value, where it came from, and what is allowed. The
    commands print it and leave with exit code 2; every other exception is a bug and keeps its
    traceback.
    """


def check_options(task: str, given: Iterable[str], allowed: Sequence[str]) -> None:
    """Check the names of the options of a task.

    Args:
        task: the name of the task.
        given: the names that were given.
        allowed: the names that it has.

    Raises:
        InputError: naming the first unknown option, and the nearest known one.

    Example:
        >>> check_options("pair", ["colums"], ["rows", "cols"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        patchit_hf.common.errors.InputError: --task-kwargs: task 'pair' has no option 'colums'...
    """
    for key in given:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(
                f"--task-kwargs: task {task!r} has no option {key!r}{hint} (options: "
                f"{', '.join(allowed)})"
            )
