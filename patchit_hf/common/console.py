"""How commands write to the terminal: one line for bad input, and one process at a time."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from patchit_hf.common.errors import InputError
from patchit_hf.common.interrupts import Stopped, stoppable
from patchit_hf.common.orphans import orphans_stop
from patchit_hf.common.resources import line_of
from patchit_hf.common.shown import shown
from patchit_hf.common.waiting import wait_briefly

BARS = ("HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS")

AGAIN = "the same command continues from the newest checkpoint, if there is one"


class Command(Protocol):
    """Runs a command."""

    def __call__(self, argv: list[str] | None = None) -> int:
        """Return the exit code.

        Args:
            argv: arguments of the command; those of the process if None.
        """


def as_command(run: Callable[[list[str] | None], int], after_interrupt: str = AGAIN) -> Command:
    """Return the ``main`` of a command: bad input is one line on stderr and exit code 2.

    Args:
        run: the command; see ``guarded``.
        after_interrupt: what a line about a signal tells the user to do next.
    """

    def main(argv: list[str] | None = None) -> int:
        """Run the command; bad input is one line on stderr and exit code 2."""
        return guarded(run, argv, after_interrupt)

    return main


def guarded(
    run: Callable[[list[str] | None], int],
    argv: list[str] | None,
    after_interrupt: str = AGAIN,
) -> int:
    """Run a command; bad input becomes one line on stderr and exit code 2.

    What the machine lacks (room, permission, memory, open files) becomes one line and exit code 1.
    A signal that asks it to stop becomes one line, too, and exit code 128 + the signal's number.

    Other libraries' messages are shown from warnings up. Threads of torch wait for each other as
    ``waiting`` says.

    Args:
        run: the command.
        argv: its arguments.
        after_interrupt: what a line about a signal tells the user to do next.
    """
    wait_briefly()
    if not sys.stderr.isatty():  # a bar that moves would be a line for each move
        for name in BARS:
            os.environ.setdefault(name, "1")
    with _lasting_stderr():
        logging.basicConfig(level=logging.WARNING, handlers=[_handler()])
        with messages_from(logging.INFO):
            return _guarded(run, argv, after_interrupt)


@contextlib.contextmanager
def messages_from(level: int) -> Iterator[None]:
    """Show the package's messages from a level up, and afterwards those that were shown before."""
    package = logging.getLogger("patchit_hf")
    before = package.level
    package.setLevel(level)
    try:
        yield
    finally:
        package.setLevel(before)


def _guarded(
    run: Callable[[list[str] | None], int], argv: list[str] | None, after_interrupt: str
) -> int:
    try:
        with stoppable(), orphans_stop():
            return run(argv)
    except InputError as error:
        say(f"error: {error}")
        return 2
    except FloatingPointError as error:
        say(f"error: {error}")
        return 1
    except Exception as error:
        line = line_of(error)
        if line is None:
            raise
        say(f"error: {line}; {after_interrupt}")
        return 1
    except Stopped as stopped:
        say(f"stopped by {stopped.name}; {stopped.state or after_interrupt}")
        return stopped.exit_code
    except KeyboardInterrupt:
        say(f"interrupted; {after_interrupt}")
        return 130


class _Lasting:
    """A stream that says nothing where it cannot be written, as on a full disk."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or do nothing."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is pending, or do nothing."""
        with contextlib.suppress(OSError):
            self._stream.flush()


@contextlib.contextmanager
def _lasting_stderr() -> Iterator[None]:
    """Keep a run alive whose log is on a full disk, or goes into a pipe that nobody reads."""
    before, lasting = sys.stderr, _Lasting(sys.stderr)
    sys.stderr = lasting
    try:
        yield
    finally:
        if sys.stderr is lasting:
            sys.stderr = before


def say_then(*words: str) -> None:
    """Say what to do next: a command that works as it is printed.

    Args:
        *words: what follows ``patchit``.
    """
    say(f"then: {shlex.join(['patchit', *words])}")


def say(line: str) -> None:
    """Write a line to stderr: any line from the main process, only errors from the others."""
    rank, line = os.environ.get("RANK", "0"), shown(line)
    # a log may be on a full disk, or a pipe that nobody reads
    with contextlib.suppress(OSError), _beside_bars():
        if rank == "0":
            sys.stderr.write(f"{line}\n")
        elif line.startswith("error:"):
            sys.stderr.write(f"process {rank}: {line}\n")


class _Shown(logging.Formatter):
    """The message alone, without terminal escapes and secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


def _beside_bars() -> contextlib.AbstractContextManager[None]:
    """Take a bar away while a line is written; without progress, nothing is imported for it."""
    progress = sys.modules.get("patchit_hf.common.progress")
    found: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    return found if progress is None else progress.paused()


if TYPE_CHECKING:
    _Stream = logging.StreamHandler[Any]
else:
    _Stream = logging.StreamHandler  # takes no type before Python 3.11


class _Handler(_Stream):
    """Writes above a bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        with _beside_bars():
            super().emit(record)


def _handler() -> logging.Handler:
    handler = _Handler(sys.stderr)
    handler.setFormatter(_Shown("%(message)s"))
    return handler
