"""How commands write to the terminal: one line for bad input, and one process at a time."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from patchit_hf.common.errors import InputError


def guarded(
    run: Callable[[list[str] | None], int],
    argv: list[str] | None,
    after_interrupt: str = "the same command continues from the newest checkpoint",
) -> int:
    """Run a command; bad input becomes one line on stderr and exit code 2.

    Other libraries' messages are shown from warnings up.

    Args:
        run: the command.
        argv: its arguments.
        after_interrupt: what Ctrl-C tells the user to do next.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("patchit_hf").setLevel(logging.INFO)
    try:
        return run(argv)
    except InputError as error:
        say(f"error: {error}")
        return 2
    except FloatingPointError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say(f"interrupted; {after_interrupt}")
        return 130


def say(line: str) -> None:
    """Write a line to stderr: any line from the main process, only errors from the others."""
    rank = os.environ.get("RANK", "0")
    if rank == "0":
        sys.stderr.write(f"{line}\n")
    elif line.startswith("error:"):
        sys.stderr.write(f"process {rank}: {line}\n")
