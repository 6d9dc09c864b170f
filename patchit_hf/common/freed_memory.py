"""Memory that a step has freed stays with the process, for the next step.

A network's maps are tens of megabytes. The C library of most Linux systems (glibc) maps each block
above 32 MB anew and unmaps it when it is freed, and the kernel has to clear every page of it: a
step of a MobileNet on 64 px had 148,000 page faults, a fifth of its time.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # numbers of mallopt's parameters in malloc.h
BLOCKS = 65536  # glibc's maximum of mapped blocks
LARGEST = 2**31 - 1
MAPPED, TRIM = 2**25, 2**26  # what glibc's own rule comes to after large blocks, and ends with
CHOICES = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")
_within = 0
_counting = threading.Lock()


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory for later blocks while the context is active, and give it back then.

    Only with glibc, and not where the user has chosen by its environment variables or has another
    allocator preloaded. Contexts may overlap, also in several threads; the last one gives it back.
    """
    library = _glibc()
    if library is None:
        yield
        return
    _count(library, +1)
    try:
        yield
    finally:
        _count(library, -1)


def _count(library: Any, step: int) -> None:
    """Count a context; the first one and the last one change the setting."""
    global _within
    with _counting:
        before, _within = _within, _within + step
        if before == 0:
            library.mallopt(MMAP_MAX, 0)
            library.mallopt(TRIM_THRESHOLD, LARGEST)
        elif _within == 0:
            library.mallopt(MMAP_MAX, BLOCKS)
            library.mallopt(MMAP_THRESHOLD, MAPPED)
            library.mallopt(TRIM_THRESHOLD, TRIM)
            library.malloc_trim(0)


def _glibc() -> Any:
    """Return glibc; None where there is another library, or the user has chosen."""
    chosen = any(os.environ.get(name) for name in CHOICES)
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
