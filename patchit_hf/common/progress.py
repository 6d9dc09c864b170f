"""Progress of what lasts: a bar on a terminal or in a notebook, a line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm
from typing_extensions import Self

EVERY = 30.0  # seconds between two lines of a log
SOON = 2.0  # seconds after which something that goes on for longer is named in a log
TICK = 1.0  # seconds between two looks at what has happened
_open: list[Progress] = []  # what goes on; only the newest is shown

# From wide to narrow; the first that fits is shown, and what is noted goes last.
WITH_TOTAL = (
    "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{unit}, {rate_fmt}, {remaining} left"
    "{postfix}",
    "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt}, {rate_fmt}, {remaining} left{postfix}",
    "{desc}: {percentage:3.0f}% {remaining} left{postfix}",
    "{desc}: {percentage:3.0f}%{postfix}",
)
WITHOUT_TOTAL = ("{desc}: {n_fmt}{unit}, {elapsed}{postfix}", "{desc}: {elapsed}{postfix}")
ONLY_TIME = ("{desc}: {elapsed}",)
LEAST_BAR = 8  # columns, below which a bar says nothing
TQDM_BAR = 10  # columns of a bar where the width is not known


class _Bar(tqdm):  # type: ignore[misc,unused-ignore]
    """A bar that is narrow before anything else is cut off."""

    def __str__(self) -> str:
        values = self.format_dict
        width, total = values["ncols"], values["total"]
        formats = WITH_TOTAL if total else WITHOUT_TOTAL if values["n"] else ONLY_TIME
        for form in formats:
            text = self.format_meter(**{**values, "bar_format": form, "ncols": None})
            spare = TQDM_BAR - LEAST_BAR if "{bar}" in form else 0
            if width is None or len(text) - spare <= width:
                break
        return str(self.format_meter(**{**values, "bar_format": form}))


class Progress:
    """Something that lasts.

    On a terminal its bar says every second how long it has taken, also where nothing moves. In a
    log, which is anything else, it is named once it has taken two seconds, then every half minute,
    and at its end. One that begins within another takes its place until it ends.

    Args:
        title: what it is called.
        total: how many units it has; None if that is not known.
        unit: what is counted.
        done: units done before.
        shown: whether this process shows it.
        leave: whether a terminal's bar stays when it ends.

    Attributes:
        first: units that were done before.

    Example:
        >>> with Progress("decoding people", 128, "crops") as progress:
        ...     progress.update(64)
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        unit: str = "",
        *,
        done: int = 0,
        shown: bool = True,
        leave: bool = True,
    ) -> None:
        self.shown, self.first, self.note = shown, done, ""
        self.log = None if live() else Log(title, total, unit, done, time.monotonic())
        kind = _Bar if sys.stderr.isatty() else tqdm
        self.bar: Any = kind(
            total=total, initial=done, unit=f" {unit}" if unit else "", unit_scale=True,
            desc=title, disable=not shown or self.log is not None, leave=leave, position=0,
            smoothing=0.1, mininterval=0.5, dynamic_ncols=True,
        )  # fmt: skip
        if shown:
            if _open:
                _open[-1].bar.clear()
            _open.append(self)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)
        if shown:
            self._thread.start()

    def update(self, count: int = 1, note: str | None = None) -> None:
        """Count units that are done.

        Args:
            count: how many.
            note: what stands behind the numbers; None for what stood there before.
        """
        if note is not None:
            self.note = note
            self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(count)
        if self.log is not None:
            self.log.done += count

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        if self.shown:
            self.bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """End it."""
        if self._over.is_set():
            return
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self in _open:
            _open.remove(self)
        self.bar.close()
        if self.log is not None and self.log.named:
            self.say(self.log.end(time.monotonic(), self.note))

    def _tick(self) -> None:
        while not self._over.wait(TICK):
            if not _open or _open[-1] is not self:
                continue
            if self.log is None:
                self.bar.refresh()
            elif line := self.log.line(time.monotonic(), self.note):
                self.say(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and self.log is not None:
            self.log.named = False  # the error says more than the end of it would
        self.close()


class Log:
    """The lines of a log about something that lasts.

    Args:
        title: what it is called.
        total: how many units it has; None if that is not known.
        unit: what is counted.
        done: units done before.
        now: when it begins, in seconds.
        soon: seconds after which it is first named; 2 by default.

    Example:
        >>> log = Log("decoding people", 200, "crops", 0, now=0.0, soon=2.0)
        >>> log.line(1.0)
        >>> log.done = 50
        >>> log.line(10.0)
        'decoding people: 50 of 200 crops (25 %), 5.0/s, 30 s left'
        >>> log.line(39.0), log.line(40.0)
        (None, 'decoding people: 50 of 200 crops (25 %), 1.2/s, 2 min 00 s left')
        >>> log.end(50.0)
        'decoding people: 50 crops in 50 s'
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        unit: str,
        done: int,
        now: float,
        soon: float | None = None,
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.first, self.done, self.began = done, done, now
        self.due, self.named = now + (SOON if soon is None else soon), False

    def line(self, now: float, note: str = "") -> str | None:
        """Return a line if one is due."""
        if now < self.due:
            return None
        self.due, self.named = now + EVERY, True
        rate = (self.done - self.first) / max(now - self.began, 1e-9)
        words = [duration(now - self.began)]
        if self.total:
            unit = f" {self.unit}" if self.unit else ""
            share = self.done / self.total
            words = [f"{self.done:,} of {self.total:,}{unit} ({share:.0%})".replace("%", " %")]
            if rate:
                words.append(f"{rate:,.1f}/s" if rate < 100 else f"{rate:,.0f}/s")
                words.append(f"{duration((self.total - self.done) / rate)} left")
        elif self.done:
            words.insert(0, f"{self.done:,} {self.unit}")
        return f"{self.title}: {', '.join([*words, *([note] if note else [])])}"

    def end(self, now: float, note: str = "") -> str:
        """Return the last line."""
        made = self.done - self.first
        what = f"{made:,} {self.unit} in ".replace("  ", " ") if made else ""
        return f"{self.title}: {what}{duration(now - self.began)}{f', {note}' if note else ''}"


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Take the bar of a terminal away for a while, so that a line can be written in its place."""
    if not _open or _open[-1].log is not None:
        yield
        return
    with tqdm.external_write_mode(file=sys.stderr):
        yield


def live() -> bool:
    """Whether stderr is a terminal, or the output of a notebook, so that a bar can move."""
    in_notebook = any(kind.__name__ == "tqdm_notebook" for kind in tqdm.__mro__)
    return bool(sys.stderr.isatty() or in_notebook)


def duration(seconds: float) -> str:
    """Return a duration for people.

    Example:
        >>> duration(0.2), duration(59.4), duration(145), duration(4000)
        ('0.2 s', '59 s', '2 min 25 s', '1 h 06 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
