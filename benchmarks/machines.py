"""A run that goes on with 1, 2, 4 and again 1 processes, against one process: how far apart?

The samples are the same; sums over processes are made in another order, and rounding is what
differs. A quarter of the steps is trained with each number of processes, on the CPU, by a network
without batch normalisation (whose statistics are those of a process's part, and differ anyway).

    OMP_NUM_THREADS=1 python benchmarks/machines.py --output benchmarks/results/machines.json
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from safetensors.torch import load_file  # noqa: E402

from patchit_hf.common.provenance import versions  # noqa: E402
from tests.forked import Server, log_of  # noqa: E402

PROCESSES = (1, 2, 4, 1)
RATES = {"sgd": 0.05, "adamw": 1e-3, "muon": 4e-3}
WORDS = [
    *"pretrain --backbone test_convnext --canvas 50x25 --no-figures --no-audit --workers 0".split(),
    *"--batch-size 16 --eval-every 0 --save-limit 9 --save-minutes 0".split(),
    *"--task-kwargs rows=3 cols=2 patch_size=8 jitter=2 input_scale=4".split(),
]


def compare(server: Server, optimizer: str, steps: int) -> dict[str, Any]:
    """Train with one process, and with one, two, four and one; return the differences."""
    quarter = steps // len(PROCESSES)
    words = [*WORDS, "--max-steps", str(steps), "--save-every", str(quarter)]
    words += ["--optimizer", optimizer, "--learning-rate", str(RATES[optimizer])]
    whole, changed = (server.folder / f"{optimizer}-{name}" for name in ("whole", "changed"))
    _train(server, whole, words, 1)
    for turn, processes in enumerate(PROCESSES[1:], start=1):
        run = whole if turn == 1 else changed
        if run == whole:
            shutil.copytree(whole, changed)
        for name in ("patchit.json", "model.safetensors"):
            (changed / "run" / name).unlink()
        for folder in (changed / "run" / "checkpoints").glob("step-*"):
            if int(folder.name.removeprefix("step-")) > turn * quarter:
                shutil.rmtree(folder)
        _train(server, changed, words, processes)
    one, other = (load_file(work / "run" / "model.safetensors") for work in (whole, changed))
    apart = max(float((one[name] - other[name]).abs().max()) for name in one)
    size = max(float(value.abs().max()) for value in one.values())
    losses = [
        json.loads((work / "run" / "metrics.jsonl").read_text().splitlines()[-1])["train_loss"]
        for work in (whole, changed)
    ]
    return {
        "optimizer": optimizer, "learning_rate": RATES[optimizer], "steps": steps,
        "largest difference of a weight": apart, "largest weight": size, "train_loss": losses,
    }  # fmt: skip


def _train(server: Server, work: Path, words: list[str], processes: int) -> None:
    if set(server.start(work, words, processes)) != {0}:
        raise SystemExit(log_of(work)[-2000:])


def main() -> int:
    """Compare for each optimiser and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    rows = []
    for steps in args.steps:
        with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
            for optimizer in RATES:
                rows.append(compare(server, optimizer, steps))
                print(json.dumps(rows[-1]), flush=True)
    result = {
        "command": shlex.join(["python", "benchmarks/machines.py", *sys.argv[1:]]),
        "packages": ", ".join(f"{name} {versions()[name]}" for name in ("patchit_hf", "torch")),
        "processes": PROCESSES,
        "rows": rows,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
