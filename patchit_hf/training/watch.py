"""An error of several processes' communication as one line: another process ended, or hangs."""

from __future__ import annotations

import re

from torch import distributed

from patchit_hf.common.errors import ResourceError, one_line

_LOST = re.compile(r"gloo|nccl|timed out|timeout|connection (closed|reset)|broken pipe", re.I)
_PLACE = re.compile(r"^\[/\S+\] ")  # where gloo's source was when it was compiled


def lost_process(error: BaseException, seconds: float) -> ResourceError | None:
    """Return the line for an error of several processes' communication; None for any other error.

    Args:
        error: what was raised.
        seconds: how long the others are waited for.

    Example:
        >>> lost_process(RuntimeError("shapes cannot be multiplied"), 60.0) is None
        True
    """
    several = distributed.is_available() and distributed.is_initialized()
    if not several or not isinstance(error, RuntimeError):
        return None
    if not isinstance(error, distributed.DistError) and not _LOST.search(str(error)):
        return None
    said = _PLACE.sub("", one_line(error))
    return ResourceError(
        f"another process of this run has ended, or has not answered for {seconds:g} s "
        f"(--timeout): {one_line(said, 160)}"
    )
