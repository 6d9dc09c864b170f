"""How much of the machine's cores other programs have."""

from __future__ import annotations

import contextlib
import time

import psutil

BUSY = 0.25  # share of the cores from which on fewer threads may be faster


def used_by_others() -> float:
    """Return the seconds that the cores have spent on other processes than this one's family."""
    times = psutil.cpu_times()
    used = float(times.user + getattr(times, "nice", 0.0) + times.system) - time.process_time()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            spent = child.cpu_times()
            used -= spent.user + spent.system
    return used


class OtherPrograms:
    """Watches other programs from its making on."""

    def __init__(self) -> None:
        self.began, self.used = time.perf_counter(), used_by_others()

    def cores(self) -> float:
        """Return how many cores other programs had on average."""
        return max(0.0, used_by_others() - self.used) / (time.perf_counter() - self.began)


def advice(used: float, cores: int, threads: int) -> str | None:
    """Return a line about other programs; None if they hardly count.

    Args:
        used: cores that they have.
        cores: of the machine.
        threads: of this process, which wait for each other.

    Example:
        >>> advice(0.1, 2, 2)
        >>> advice(1.5, 2, 2)
        'other programs use 1.5 of 2 cores: fewer threads may be faster (OMP_NUM_THREADS=1)'
    """
    free = max(1, round(cores - used))
    if threads <= free or used < BUSY * cores:
        return None
    return (
        f"other programs use {used:.1f} of {cores} cores: fewer threads may be faster "
        f"(OMP_NUM_THREADS={free})"
    )
