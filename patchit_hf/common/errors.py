"""The one exception for wrong input, and one line of any other."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

LONGEST = 300  # characters of somebody else's message


def one_line(error: object, limit: int = LONGEST) -> str:
    """Return the message of an exception, or any text, in one line.

    Args:
        error: the exception; one without a message is named by its type.
        limit: largest number of characters; what is longer ends in ``...``.

    Example:
        >>> one_line(ValueError("two   words"))
        'two words'
        >>> one_line(EOFError())
        'EOFError'
    """
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


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
