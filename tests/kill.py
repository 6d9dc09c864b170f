"""Kill runs by SIGKILL, start them again, and compare their ends with that of an uninterrupted one.

A server that has imported everything forks a process for each start of a command, so that a start
takes a second and not ten. The forks run the command's own ``main`` with its arguments; two of them
find each other by the variables that torchrun sets. They are killed

- at a random instant (``random_kills``), by the server;
- at every event of the file system (``kills_at_events``), by themselves: Python tells a hook of
  each file that is opened for writing, renamed or removed, before it happens.

    python tests/kill.py --kills 100 --events --output benchmarks/results/kill.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
DRAFTS = (".draft-", ".export-")
PRETRAIN = [
    "pretrain", "--backbone", "test_resnet", "--canvas", "50x25", "--task-kwargs", "rows=3",
    "cols=2", "patch_size=8", "--no-figures", "--no-audit", "--workers", "0",
]  # fmt: skip
FINETUNE = [
    "finetune", "--task", "attributes", "--init", "random", "--backbone", "test_resnet",
    "--input-size", "48x24", "--workers", "1",
]  # fmt: skip
LENGTH = {
    "random": [
        "--max-steps",
        "40",
        "--batch-size",
        "16",
        "--save-every",
        "5",
        "--eval-every",
        "10",
    ],
    "events": ["--max-steps", "3", "--batch-size", "16", "--save-every", "1", "--eval-every", "2"],
}


def write_data(folder: Path) -> Path:
    """Write 48 crops with two attributes, in a training and a validation split."""
    import datasets
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, count in (("train", 40), ("validation", 8)):
        images = [
            Image.fromarray(rng.integers(0, 256, (50, 25, 3)).astype(np.uint8))
            for _ in range(count)
        ]
        rows = {"image": images, "hat": [i % 2 == 0 for i in range(count)]}
        rows["bag"] = [i % 3 == 0 for i in range(count)]
        data = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
        data.to_parquet(str(folder / f"{name}-00000-of-00001.parquet"))
    return folder


# -- the server ------------------------------------------------------------------------------------


def serve() -> None:
    """Read a start per line, fork its processes, and answer how they ended."""
    import datasets
    import torch.distributed.elastic  # noqa: F401
    from sklearn.metrics import average_precision_score  # noqa: F401

    import patchit_hf.finetune.build
    import patchit_hf.finetune.trainer
    import patchit_hf.pretrain.trainer  # noqa: F401
    from patchit_hf.finetune import main as finetune
    from patchit_hf.pretrain import main as pretrain

    datasets.disable_progress_bars()
    commands = {"pretrain": pretrain, "finetune": finetune}
    for line in sys.stdin:
        asked = json.loads(line)
        children = [
            _fork(commands[asked["words"][0]], asked, rank) for rank in range(asked["processes"])
        ]
        print(json.dumps(_watch(children, asked.get("seconds"))), flush=True)


def _fork(main: Any, asked: dict[str, Any], rank: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with Path(asked["log"]).open("ab") as log:
            os.dup2(log.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if asked["processes"] > 1:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(asked["processes"]),
                "LOCAL_WORLD_SIZE": str(asked["processes"]), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(asked["port"]),
            }  # fmt: skip
        import datasets

        datasets.config.HF_DATASETS_CACHE = Path(asked["folder"]) / "cache"
        if rank == 0 and "event" in asked:
            _watch_events(asked["folder"], asked["event"])
        code = main(asked["words"][1:])
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(code)


def _watch_events(folder: str, last: int) -> None:
    """End this process by SIGKILL right before the event of this number, counted from 1."""
    seen = 0
    here = os.path.join(os.path.realpath(folder), "")

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(args[2], int) and args[2] & 0o3
        if not (writes or event in CHANGES) or not isinstance(args[0], str | os.PathLike):
            return
        if not os.path.realpath(os.fspath(args[0])).startswith(here):
            return
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
        if last == 0:  # only count
            os.write(2, b"EVENT %s %s\n" % (event.encode(), os.fsencode(args[0])))

    sys.addaudithook(hook)


def _watch(children: list[int], seconds: float | None) -> list[int]:
    """Wait for the processes, or kill them all after so many seconds; return how each ended."""
    deadline = None if seconds is None else time.monotonic() + seconds
    ended: dict[int, int] = {}
    while len(ended) < len(children):
        if deadline is not None and time.monotonic() >= deadline:
            _kill(children, ended)
            deadline = None
        for child in children:
            if child not in ended:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    ended[child] = os.waitstatus_to_exitcode(status)
        if any(ended.values()) and len(ended) < len(children):  # a launcher ends the others, too
            _kill(children, ended)
        time.sleep(0.002)
    return [ended[child] for child in children]


def _kill(children: list[int], ended: dict[int, int]) -> None:
    for child in children:
        if child not in ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


# -- its client ------------------------------------------------------------------------------------


@dataclass
class Server:
    """Starts commands in forks of a process that has imported everything."""

    folder: Path
    process: Any = field(init=False)
    data: Path = field(init=False)

    def __enter__(self) -> Server:
        self.data = self.folder / "data"
        self.data.mkdir()
        write_data(self.data)
        env = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "1"}
        env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=env,
        )  # fmt: skip
        return self

    def __exit__(self, *error: object) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def start(self, work: Path, words: list[str], processes: int = 1, **how: Any) -> list[int]:
        """Run a command in a folder of its own and return how its processes ended."""
        work.mkdir(exist_ok=True)
        words = [*words, "--dataset", str(self.data), "--output-dir", str(work / "run")]
        asked = {"words": words, "processes": processes, "folder": str(work), **how}
        asked |= {"log": str(work.parent / f"{work.name}.log"), "port": _free_port()}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer: list[int] = json.loads(self.process.stdout.readline())
        return answer


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def end_of(work: Path) -> dict[str, Any]:
    """Return what a finished run left: weights, metrics, results, and the names of its files."""
    run = work / "run"
    times = ("seconds", "samples_per_second", "data_share")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    weights = [p for p in run.glob("*.safetensors")]
    left = [str(p.relative_to(work)) for p in work.rglob("*") if _is_draft(p.name)]
    return {
        "weights": {p.name: p.read_bytes() for p in weights},
        "metrics": [{k: v for k, v in line.items() if k not in times} for line in lines],
        "results": json.loads((run / "patchit.json").read_text())["results"],
        "files": sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()),
        "leftovers": [name for name in left if "cache/" not in name],
    }


def _is_draft(name: str) -> bool:
    return name.startswith(DRAFTS) or (name.startswith(".") and name.endswith(".tmp"))


def differences(end: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    """Return the names of what differs between two ends; a leftover counts, too."""
    found = [name for name in whole if name != "leftovers" and end[name] != whole[name]]
    return found + [f"leftover {name}" for name in end["leftovers"]]


def kills_at_events(
    server: Server, words: list[str], every: int = 1, first: int = 1
) -> dict[str, Any]:
    """Kill a short run right before an event, start it again, and compare; for every such event.

    Args:
        server: starts commands.
        words: the command.
        every: of so many events, one is taken.
        first: the first event that is taken.
    """
    words = [*words, *LENGTH["events"]]
    reference = server.folder / f"whole-{words[0]}"
    assert server.start(reference, words, event=0) == [0], _log(reference)
    events = [line for line in _log(reference).splitlines() if line.startswith("EVENT ")]
    whole, bad, kills = end_of(reference), [], 0
    for number in range(first, len(events) + 1, every):
        work = server.folder / f"event-{words[0]}-{number}"
        status = server.start(work, words, event=number)
        kills += status == [-signal.SIGKILL]
        again = server.start(work, words)
        problems = [] if again == [0] else [f"exit code {again}: {_log(work)[-500:]}"]
        if not problems:
            problems = differences(end_of(work), whole)
        if "Traceback" in _log(work):
            problems.append("a traceback")
        if problems:
            bad.append({"event": events[number - 1], "number": number, "problems": problems})
        shutil.rmtree(work)
    return {"command": words, "events": len(events), "kills": kills, "other ends": bad}


def random_kills(
    server: Server, words: list[str], kills: int, seed: int, processes: int = 1
) -> dict[str, Any]:
    """Kill runs at random instants until so many kills are done; each run then goes to its end.

    Args:
        server: starts commands.
        words: the command.
        kills: how many.
        seed: of the instants.
        processes: of each run.
    """
    draw, words = random.Random(seed), [*words, *LENGTH["random"]]
    name = f"{words[0]}-{processes}"
    reference = server.folder / f"whole-{name}"
    began = time.monotonic()
    assert server.start(reference, words, processes) == [0] * processes, _log(reference)
    seconds, whole = time.monotonic() - began, end_of(reference)
    done, runs, bad, steps = 0, 0, [], []
    while done < kills:
        work, ended = server.folder / f"random-{name}-{runs}", [1]
        while done < kills and ended != [0] * processes:
            ended = server.start(work, words, processes, seconds=draw.uniform(0, seconds))
            done += -signal.SIGKILL in ended
            steps += [_newest(work)] if -signal.SIGKILL in ended else []
        if ended != [0] * processes:
            ended = server.start(work, words, processes)
        problems = [] if set(ended) == {0} else [f"exit codes {ended}: {_log(work)[-500:]}"]
        problems = problems or differences(end_of(work), whole)
        if "Traceback" in _log(work):
            problems.append("a traceback")
        bad += [{"run": runs, "problems": problems}] if problems else []
        shutil.rmtree(work)
        runs += 1
    return {
        "command": words, "processes": processes, "runs": runs, "kills": done,
        "newest checkpoint at each kill": steps, "seconds of a run": round(seconds, 2),
        "other ends": bad,
    }  # fmt: skip


def _newest(work: Path) -> int:
    found = sorted((work / "run" / "checkpoints").glob("step-*"))
    return int(found[-1].name.removeprefix("step-")) if found else 0


def _log(work: Path) -> str:
    file = work.parent / f"{work.name}.log"
    return file.read_text(errors="replace") if file.exists() else ""


def main() -> int:
    """Kill as often as asked, write the record, and return 1 if any end differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--events", action="store_true", help="also kill at every event")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.serve:
        serve()
        return 0
    parts = []
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        plan = [(PRETRAIN, 0.5, 1), (PRETRAIN, 0.25, 2), (FINETUNE, 0.25, 1)]
        for seed, (words, share, processes) in enumerate(plan):
            kills = round(args.kills * share)
            if kills:
                parts.append(random_kills(server, words, kills, seed, processes))
                print(
                    json.dumps({k: v for k, v in parts[-1].items() if k != "command"}), flush=True
                )
        for words in (PRETRAIN, FINETUNE) if args.events else ():
            parts.append(kills_at_events(server, words))
            print(json.dumps({k: v for k, v in parts[-1].items() if k != "command"}), flush=True)
    other = sum(len(part["other ends"]) for part in parts)
    result = {"kills": sum(part["kills"] for part in parts), "other ends": other, "parts": parts}
    print(f"{result['kills']} kills, {other} runs ended otherwise")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 1 if other else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
