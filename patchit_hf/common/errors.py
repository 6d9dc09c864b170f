"""The exception for bad user input, and exception messages in one line."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from patchit_hf.common.shown import in_one_line, redact, shown

LONGEST = 300  # characters of another library's message
LOOKED_AT = 10_000  # files of a folder among which a close name is searched


def one_line(error: object, limit: int = LONGEST) -> str:
    """Return the message of an exception, or any text, on one line.

    Args:
        error: the exception. If it has no message, the name of its type is returned.
        limit: maximum number of characters; longer text is cut and ends in ``...``.

    Example:
        >>> one_line(ValueError("two   words"))
        'two words'
        >>> one_line(EOFError())
        'EOFError'
    """
    line = " ".join(shown(error).split()) or type(error).__name__
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


class InputError(ValueError):
    """Bad input from a user: a flag, a file, a column, a folder.

    The message is one line that names the value, where it came from, and what is allowed. Commands
    print it and exit with code 2. Any other exception is a bug and keeps its traceback. Values may
    be somebody else's text, so a message has no terminal escapes and no secrets.

    Args:
        message: the line.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(redact(in_one_line(message)))


class ResourceError(RuntimeError):
    """The machine lacks what the work needs.

    The message is one line that names the folder and, where room is lacking, the free and the
    needed bytes. Commands print it and exit with code 1; what was written before is whole.
    """


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever the readers of somebody else's files raise into one kind of error.

    Args:
        name: what the error calls the data.

    Raises:
        InputError: if they fail.
    """
    try:
        yield
    except (InputError, ResourceError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{name}: cannot be read: it holds a pickle (.pt, .pth), which might run a program"
        ) from error
    except Exception as error:
        raise InputError(
            f"{name}: cannot be read: {type(error).__name__}: {one_line(error)}"
        ) from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message that names the closest known word; empty if none is close.

    Args:
        word: what was given.
        known: what it could have been.

    Example:
        >>> did_you_mean("squach", ["squash", "cover"])
        '; did you mean squash?'
        >>> did_you_mean("lemon", ["squash", "cover"])
        ''
    """
    import difflib

    by_small = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_small, 1)
    return f"; did you mean {by_small[near[0]]}?" if near else ""


def did_you_mean_file(path: str | Path) -> str:
    """Return the end of a message that names the closest file or folder that exists, or nothing.

    Args:
        path: one that does not exist.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "boxes.json").touch()
        >>> did_you_mean_file(folder / "boxs.json").endswith("boxes.json?")
        True
    """
    import difflib

    found = Path()
    for part in Path(path).parts:
        here = found / part
        if not here.exists():
            try:
                with os.scandir(found) as entries:
                    names = [entry.name for entry in islice(entries, LOOKED_AT)]
            except OSError:
                return ""
            near = difflib.get_close_matches(part, names, 1)
            if not near:
                return ""
            here = found / near[0]
        found = here
    return f"; did you mean {found}?"


def check_options(task: str, given: Iterable[str], allowed: Sequence[str]) -> None:
    """Check the names of a task's options.

    Args:
        task: the name of the task.
        given: the option names that were given.
        allowed: the option names that the task accepts.

    Raises:
        InputError: naming the first unknown option and the closest known one.

    Example:
        >>> check_options("pair", ["colums"], ["rows", "cols"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        patchit_hf.common.errors.InputError: --task-kwargs: task 'pair' has no option 'colums'...
    """
    for key in given:
        if key not in allowed:
            raise InputError(
                f"--task-kwargs: task {task!r} has no option {key!r}{did_you_mean(key, allowed)} "
                f"(options: "
                f"{', '.join(allowed)})"
            )
