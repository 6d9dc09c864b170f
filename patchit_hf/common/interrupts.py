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


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the signals in this process; its forks keep what they had."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner, before = os.getpid(), {number: signal.getsignal(number) for number in ASKED}

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            handler(number, frame)
        else:
            signal.signal(number, before[number] or signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in ASKED:
        if before[number] is not signal.SIG_IGN:  # nohup, say, has asked not to be disturbed
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, old in before.items():
            if old is not signal.SIG_IGN:
                signal.signal(number, old or signal.SIG_DFL)
