"""A command on several processes of this machine, without torch's page of text when it stops.

``python -m patchit_hf.training.launch --processes 2 pretrain --backbone resnet18 ...`` starts what
``torchrun`` and ``accelerate launch`` start. These print a traceback of their own below the line of
the process that was stopped; here that line is all. They remain the way to several machines.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import uuid

from patchit_hf.common.console import as_command, say
from patchit_hf.common.errors import InputError


def run(argv: list[str] | None = None) -> int:
    """Start the processes and wait for their end.

    Returns:
        0, or the exit code of the process that failed first.

    Raises:
        InputError: for no command, or fewer than one process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m patchit_hf.training.launch",
        description="Run a command of patchit on several processes of this machine.",
    )
    parser.add_argument("--processes", type=int, default=2, help="number of processes (default: 2)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a command of patchit")
    words = parser.parse_args(argv)
    if words.processes < 1:
        raise InputError(f"--processes {words.processes}: must be at least 1")
    if not words.command:
        raise InputError("COMMAND: is missing, such as pretrain")
    cores = os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // words.processes)))
    return _launch(words.processes, words.command)


def _launch(processes: int, command: list[str]) -> int:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for part in ("agent.server.api", "multiprocessing.api"):
        logging.getLogger(f"torch.distributed.elastic.{part}").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, sys.executable)("-u", "-m", "patchit_hf", *command)
    except SignalException as stopped:  # the processes got it, too, and have said what they did
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        _, failure = failed.get_first_failure()
        if failure.exitcode >= 0:  # that process has said why
            return int(failure.exitcode)
        name = signal.Signals(-failure.exitcode).name
        say(f"error: process {failure.local_rank} was ended by {name}")
        return 128 - int(failure.exitcode)
    return 0


main = as_command(run, "the same command continues from the newest checkpoint")


if __name__ == "__main__":
    sys.exit(main())
