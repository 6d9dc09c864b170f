"""Signals that ask a process to stop: one line, an exit code, and a chance to save first.

SIGTERM, SIGHUP and SIGUSR1 are what schedulers and closed terminals send, SIGINT is Ctrl-C. A
command that one of them stopped exits with 128 + the signal's number (130 for Ctrl-C).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

ASKED = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)  # Windows has two of them
)


class Stopped(KeyboardInterrupt):
    """A signal stopped the work.

    Args:
        number: the signal's number.
        state: what lies on disk now, as a clause; None where nothing was saved for the occasion.
    """

    def __init__(self, number: int, state: str | None = None) -> None:
        super().__init__()
        self.number, self.state = number, state

    def __str__(self) -> str:
        """Return what notebooks show: which signal it was, and what was saved."""
        return f"stopped by {self.name}" + (f"; {self.state}" if self.state else "")

    @property
    def exit_code(self) -> int:
        """128 + the signal's number."""
        return 128 + self.number

    @property
    def name(self) -> str:
        """The signal's name, such as ``SIGTERM``."""
        return signal.Signals(self.number).name


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise ``Stopped`` where one of the signals arrives, instead of dying without a word."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    with _handled(stop):
        yield


class StopRequest:
    """Notes the first of the signals; a second Ctrl-C stops at once.

    Used around work that can stop only at certain points, such as between two steps of a training.
    Outside of the main thread Python has no signals, and nothing is noted.

    Attributes:
        number: the signal that arrived; None before.

    Example:
        >>> with StopRequest() as request:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     request.number == signal.SIGTERM
        True
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._handled: Any = None

    def __enter__(self) -> StopRequest:
        def note(number: int, frame: FrameType | None) -> None:
            if self.number is not None and number == signal.SIGINT:
                raise Stopped(number)
            self.number = self.number or number

        self._handled = _handled(note)
        self._handled.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handled.__exit__(kind, error, trace)


_before: list[dict[int, Any]] = []  # what the signals did, the outermost first


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the signals in this process; its forks get back what they did before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ASKED}
    # nohup, say, has asked not to be disturbed; and what C code handles cannot be put back
    before = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    _before.append(before)
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        _before.remove(before)


_mask = threading.local()


def _block() -> None:
    """Hold the signals back while a process forks."""
    if _before:
        _mask.old = signal.pthread_sigmask(signal.SIG_BLOCK, ASKED)


def _unblock() -> None:
    """Let them through again, in the process that forked."""
    if hasattr(_mask, "old"):
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask.old)
        del _mask.old


def _forked() -> None:
    """Give a fork the handlers from before, and then what arrived meanwhile.

    Pools of processes end their workers by SIGTERM. A handler in Python would run only once the
    worker gets back from what it waits for, which may be never.
    """
    if _before:
        for number, old in _before[0].items():
            signal.signal(number, old)
        _before.clear()
    _unblock()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_forked)
