"""Faults of several processes: their launcher dies or is stopped, or one of them hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fault_base import Case

from patchit_hf.training.checkpoint import checkpoints
from tests.kill import PRETRAIN

LONG = "--max-steps 1000000 --batch-size 16 --save-every 20 --save-limit 2 --eval-every 0".split()
START = 300  # seconds until the first checkpoint
OURS = ["-m", "patchit_hf.training.launch", "--processes", "2"]
TORCHS = [
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "-m",
    "patchit_hf",
]


def cases() -> Iterator[Case]:
    """Yield all of them."""

    def orphans(scene: Any, stack: Any) -> None:
        def act(launcher: subprocess.Popen[bytes], ranks: list[int]) -> None:
            launcher.kill()
            end = time.monotonic() + 60
            while any(map(is_there, ranks)) and time.monotonic() < end:
                time.sleep(0.1)
            scene.look("both ranks ended within a minute", not any(map(is_there, ranks)))

        launched(scene, TORCHS, act)

    yield Case("several processes", "torchrun is killed by SIGKILL", orphans, -9, few_steps)

    def hangs(scene: Any, stack: Any) -> None:
        def act(launcher: subprocess.Popen[bytes], ranks: list[int]) -> None:
            os.kill(ranks[1], signal.SIGSTOP)

        launched(scene, OURS, act, "--timeout", "10")

    yield Case("several processes", "a rank hangs, with --timeout 10", hangs, 1, few_steps)

    for number in (signal.SIGINT, signal.SIGTERM):

        def stopped(scene: Any, stack: Any, number: int = number) -> None:
            launched(scene, OURS, lambda launcher, ranks: launcher.send_signal(number))

        name = f"{number.name} to the launcher"
        yield Case("several processes", name, stopped, 128 + number, few_steps)

    def lost(scene: Any, stack: Any) -> None:
        launched(scene, OURS, lambda launcher, ranks: os.kill(ranks[1], signal.SIGKILL))

    yield Case("several processes", "a rank is killed by SIGKILL", lost, None, few_steps)


def launched(
    scene: Any, launcher: list[str], act: Callable[[subprocess.Popen[bytes], list[int]], None],
    *more: str,
) -> None:  # fmt: skip
    """Start two processes by a launcher, as a user does, and act once they have a checkpoint."""
    before = scene.logged()
    scene.words, scene.expected = [*PRETRAIN, *LONG, *more], "finished"
    words = [*scene.words, "--dataset", str(scene.server.data), "--output-dir", str(scene.run)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    env |= {"ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with scene.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *launcher, *words], stdout=subprocess.DEVNULL, stderr=log,
            env={**env, "HF_DATASETS_CACHE": scene.how["cache"]}, cwd=scene.work,
        )  # fmt: skip
        ranks: list[int] = []
        try:
            end = time.monotonic() + START
            while process.poll() is None and not checkpoints(scene.run / "checkpoints"):
                if time.monotonic() > end:
                    raise SystemExit(f"no checkpoint within {START} s: {scene.log.read_text()}")
                time.sleep(0.05)
            ranks = children(process.pid)
            act(process, ranks)
            code = process.wait(timeout=240)
        finally:
            for left in (process.pid, *ranks):
                if is_there(left):
                    os.kill(left, signal.SIGKILL)
            process.wait()
    scene.hear(before, code)


def few_steps(scene: Any) -> None:
    """Let the next start end soon after its checkpoint."""
    step = int(checkpoints(scene.run / "checkpoints")[0].name[5:])
    scene.words[scene.words.index("--max-steps") + 1] = str(step + 2)
    scene.words += ["--change", "max_steps"]


def children(process: int) -> list[int]:
    """Return the processes that a process has started."""
    return [
        int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ]


def is_there(process: int) -> bool:
    """Whether a process runs, or is stopped."""
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"
