"""A training step beside busy programs, by how OpenMP's threads wait for each other.

Threads that have done their part of a layer spin, in the belief that the others will soon have done
theirs. Where another program has the core, they spin for nothing. One process for each way to wait,
all on the same cores, works in turns with the others; only ratios within a round count, because the
machine may have other work, too.

    python benchmarks/busy_cores.py --output benchmarks/results/busy-cores.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WAYS: dict[str, dict[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{f"spin {n}": {"GOMP_SPINCOUNT": str(n)} for n in (1000, 2000, 4000, 10000, 50000)},
    **{f"block {n}": {"KMP_BLOCKTIME": n} for n in ("0", "1")},  # of LLVM's and Intel's runtime
    "one thread": {"OMP_NUM_THREADS": "1"},
}
BUSY = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000): pass
"""
OPENMP = ("OMP_", "GOMP_", "KMP_")
BATCH = 256


def work(backbone: str) -> None:
    """Train for as many seconds as each line of stdin says.

    The answer is patches a second, and how many cores other programs used meanwhile.
    """
    import torch
    import torch.nn.functional as F

    from patchit_hf import create_task
    from patchit_hf.models.build import build_model
    from patchit_hf.training.optim import create_optimizer

    model = build_model(backbone, create_task("position"), 0).to(memory_format=torch.channels_last)
    optimizer = create_optimizer(model, "muon", 4e-3, 0.05)
    inputs = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, 18, (BATCH,))
    print("ready", flush=True)
    for line in sys.stdin:
        began, steps, used = time.perf_counter(), 0, cores_of_others()
        while (taken := time.perf_counter() - began) < float(line):
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
        print(steps * BATCH / taken, (cores_of_others() - used) / taken, flush=True)


def cores_of_others() -> float:
    """Return the seconds that the cores have spent on other processes than this one."""
    user, nice, system = Path("/proc/stat").read_text(encoding="ascii").split()[1:4]
    all_of_them = (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")
    return all_of_them - time.process_time()


class Worker:
    """A process that trains when it is asked to."""

    def __init__(self, way: dict[str, str], words: argparse.Namespace) -> None:
        clean = {name: text for name, text in os.environ.items() if not name.startswith(OPENMP)}
        self.process = session(
            [sys.executable, __file__, "--backbone", words.backbone, "--work"],
            words.priority,
            env={**clean, "OMP_NUM_THREADS": str(words.threads), **way, "PYTHONPATH": str(ROOT)},
        )
        self.ask()

    def ask(self, seconds: float | None = None) -> str:
        """Return its next line, after work for some seconds."""
        assert self.process.stdin
        assert self.process.stdout
        if seconds is not None:
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        return self.process.stdout.readline()


def session(command: list[str], priority: int, **options: Any) -> subprocess.Popen[str]:
    """Start a program in a session of its own, as each window of a desktop is.

    Linux shares the cores among sessions first; niceness counts within one.
    """
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, start_new_session=True, **options
    )
    if priority:
        Path(f"/proc/{process.pid}/autogroup").write_text(str(priority), encoding="ascii")
    return process


def beside(words: argparse.Namespace, busy: int) -> list[subprocess.Popen[str]]:
    """Start programs that do nothing but keep a core busy."""
    command = ["nice", "-n", str(words.nice), sys.executable, "-c", BUSY, str(os.getpid())]
    return [session(command, words.priority) for _ in range(busy)]


def measure(workers: dict[str, Worker], words: argparse.Namespace) -> dict[str, Any]:
    """Return, by number of busy programs, patches a second and their ratio to two others."""
    rounds: dict[str, list[dict[str, tuple[float, float]]]] = {str(busy): [] for busy in words.busy}
    for _ in range(words.rounds):
        for busy in words.busy:
            others, taken = beside(words, busy), {}
            try:
                for name, worker in workers.items():
                    rate, used = worker.ask(words.seconds).split()
                    taken[name] = float(rate), float(used)
            finally:
                for other in others:
                    other.kill()
                    other.wait()
            print(busy, {n: f"{r:.1f} beside {o:.1f}" for n, (r, o) in taken.items()}, flush=True)
            rounds[str(busy)].append(taken)

    def row(name: str, turns: list[dict[str, tuple[float, float]]]) -> dict[str, Any]:
        def ratio(to: str) -> float:
            return round(statistics.median(turn[name][0] / turn[to][0] for turn in turns), 2)

        return {
            "patches per second": [round(turn[name][0], 1) for turn in turns],
            "cores used by others": [round(turn[name][1], 1) for turn in turns],
            "to the default": ratio("default"),
            "to one thread": ratio("one thread"),
        }

    return {busy: {n: row(n, turns) for n in workers} for busy, turns in rounds.items()}


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--nice", type=int, default=19, help="niceness of the busy programs")
    parser.add_argument(
        "--priority", type=int, default=0,
        help="niceness of all sessions that this starts, against the machine's other work",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], default=[*WAYS])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.work:
        return work(words.backbone)
    workers = {name: Worker(WAYS[name], words) for name in words.ways}
    try:
        found = measure(workers, words)
    finally:
        for worker in workers.values():
            worker.process.kill()
    from patchit_hf.common.provenance import command, versions

    result = {
        "command": command(), "threads": words.threads, "niceness of the others": words.nice,
        "preloaded": Path(os.environ.get("LD_PRELOAD", "")).name or None,
        "load of the machine when this ended": os.getloadavg()[0], "versions": versions(),
        "by number of busy programs": found,
    }  # fmt: skip
    if words.output:
        words.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
