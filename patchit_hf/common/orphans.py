"""A process that a launcher started notices that the launcher died, and stops."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

EVERY = 5.0  # seconds between two looks at the launcher
GRACE = 30.0  # seconds that a process has to write its checkpoint once it is an orphan


@contextmanager
def orphans_stop(every: float = EVERY, grace: float = GRACE) -> Iterator[None]:
    """Stop this process when the launcher that started it dies.

    The process gets SIGTERM, as from a scheduler: it writes a checkpoint, if the others are still
    there to agree on the step, and ends. One that does not end within ``grace`` seconds, because it
    waits for the others, is ended.

    Args:
        every: seconds between two looks.
        grace: seconds from SIGTERM to the end.
    """
    if "LOCAL_RANK" not in os.environ or not hasattr(os, "getppid"):  # nobody launched it
        yield
        return
    over, launcher = threading.Event(), os.getppid()

    def watch() -> None:
        while not over.wait(every):
            if os.getppid() == launcher:
                continue
            logger.warning("the launcher (process %d) is gone; this run stops", launcher)
            os.kill(os.getpid(), signal.SIGTERM)
            if not over.wait(grace):
                os._exit(128 + signal.SIGTERM)
            return

    threading.Thread(target=watch, name="launcher", daemon=True).start()
    try:
        yield
    finally:
        over.set()
