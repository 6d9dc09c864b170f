"""The README's first command beside busy programs, by how its threads wait.

``patchit pretrain --backbone resnet18`` on the embedded people, for some steps: alone, and beside
busy niced programs, as the command sets it and as torch does by itself. Runs of three kinds take
turns; patches a second are those of the training, without start and evaluation.

    python benchmarks/main_job.py --output benchmarks/results/main-job.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from busy_cores import beside

from patchit_hf.common.provenance import command, versions

TORCHS_OWN = {"GOMP_SPINCOUNT": "300000"}  # libgomp's default where threads have their cores
OPTIONS = ("--save-every", "0", "--save-minutes", "0", "--max-eval-crops", "1", "--no-figures",
           "--no-audit")  # fmt: skip


def rate(steps: int, settings: dict[str, str]) -> float:
    """Run the command; returns patches a second in its second half."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["-m", "patchit_hf.pretrain", "--backbone", "resnet18", "--output-dir", folder,
                 "--max-steps", str(steps), "--eval-every", str(steps // 2), *OPTIONS]  # fmt: skip
        environment = {**os.environ, **settings}
        done = subprocess.run([sys.executable, *words], capture_output=True, env=environment)
        if done.returncode:
            raise RuntimeError(done.stderr.decode()[-2000:])
        rows = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return float(json.loads(rows[-1])["samples_per_second"])


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--nice", type=int, default=19, help="niceness of the busy programs")
    parser.add_argument("--priority", type=int, default=0, help="niceness of their sessions")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    words = parser.parse_args()
    kinds: dict[str, tuple[int, int, dict[str, str]]] = {  # busy programs, steps, settings
        "alone": (0, 2 * words.steps, {}),
        "beside": (words.busy, words.steps, {}),
        "beside, as torch waits": (words.busy, max(4, words.steps // 2), TORCHS_OWN),
        "beside, one thread": (words.busy, words.steps, {"OMP_NUM_THREADS": "1"}),
    }
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(words.rounds):
        for name, (busy, steps, settings) in kinds.items():
            others = beside(words, busy)
            try:
                found[name].append(rate(steps, settings))
            finally:
                for other in others:
                    other.kill()
                    other.wait()
            print(name, found[name], flush=True)
    alone = found["alone"]
    slower: dict[str, Any] = {
        name: round(statistics.median(a / b for a, b in zip(alone, rates, strict=True)), 2)
        for name, rates in found.items()
    }
    result = {
        "command": command(), "cores": len(os.sched_getaffinity(0)), "busy programs": words.busy,
        "load of the machine when this ended": os.getloadavg()[0], "versions": versions(),
        "patches per second": found, "times slower than alone": slower,
    }  # fmt: skip
    if words.output:
        words.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(slower, indent=1))


if __name__ == "__main__":
    main()
