"""Kill runs by SIGKILL, start them again, and compare their ends with that of an uninterrupted one.

They are killed at random instants (``random_kills``), and right before every event of the file
system (``kills_at_events``): each file that Python opens for writing, renames or removes. The
commands run in forks of one process; see ``tests/forked.py``.

    python tests/kill.py --kills 100 --events --output benchmarks/results/kill.json
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.forked import Server, log_of

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
    "random": "--max-steps 40 --batch-size 16 --save-every 5 --eval-every 10".split(),
    "events": "--max-steps 3 --batch-size 16 --save-every 1 --eval-every 2".split(),
}


def end_of(work: Path) -> dict[str, Any]:
    """Return what a finished run left: weights, metrics, results, and the names of its files."""
    run = work / "run"
    times = ("seconds", "samples_per_second", "data_share")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    weights = [p for p in run.glob("*.safetensors")]
    left = [str(p.relative_to(work)) for p in work.rglob("*") if is_draft(p.name)]
    return {
        "weights": {p.name: p.read_bytes() for p in weights},
        "metrics": [{k: v for k, v in line.items() if k not in times} for line in lines],
        "results": json.loads((run / "patchit.json").read_text())["results"],
        "files": sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()),
        "leftovers": [name for name in left if "cache/" not in name],
    }


def is_draft(name: str) -> bool:
    """Whether a file or folder of this name is written and not yet moved."""
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
    assert server.start(reference, words, event=0) == [0], log_of(reference)
    events = [line for line in log_of(reference).splitlines() if line.startswith("EVENT ")]
    whole, bad, kills = end_of(reference), [], 0
    for number in range(first, len(events) + 1, every):
        work = server.folder / f"event-{words[0]}-{number}"
        status = server.start(work, words, event=number)
        kills += status == [-signal.SIGKILL]
        again = server.start(work, words)
        problems = [] if again == [0] else [f"exit code {again}: {log_of(work)[-500:]}"]
        if not problems:
            problems = differences(end_of(work), whole)
        if "Traceback" in log_of(work):
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
    assert server.start(reference, words, processes) == [0] * processes, log_of(reference)
    seconds, whole = time.monotonic() - began, end_of(reference)
    done, runs, bad, steps = 0, 0, [], []
    while done < kills:
        work, ended = server.folder / f"random-{name}-{runs}", [1]
        while done < kills and ended != [0] * processes:
            began = time.monotonic()
            ended = server.start(work, words, processes, seconds=draw.uniform(0, seconds))
            if ended == [0] * processes:  # faster than the kill: the machine is less busy now
                seconds = min(seconds, time.monotonic() - began)
            done += -signal.SIGKILL in ended
            steps += [_newest(work)] if -signal.SIGKILL in ended else []
        if ended != [0] * processes:
            ended = server.start(work, words, processes)
        problems = [] if set(ended) == {0} else [f"exit codes {ended}: {log_of(work)[-500:]}"]
        problems = problems or differences(end_of(work), whole)
        if "Traceback" in log_of(work):
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


def main() -> int:
    """Kill as often as asked, write the record, and return 1 if any end differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--events", action="store_true", help="also kill at every event")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    parts = []
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        plan = [(PRETRAIN, 0.5, 1), (PRETRAIN, 0.25, 2), (FINETUNE, 0.25, 1)]
        for seed, (words, share, processes) in enumerate(plan):
            kills = round(args.kills * share)
            if kills:
                parts.append(random_kills(server, words, kills, seed, processes))
                write(args.output, parts)
        for words in (PRETRAIN, FINETUNE) if args.events else ():
            parts.append(kills_at_events(server, words))
            write(args.output, parts)
    return 1 if any(part["other ends"] for part in parts) else 0


def write(output: Path | None, parts: list[dict[str, Any]]) -> None:
    """Write what has been done so far, and say it."""
    other = sum(len(part["other ends"]) for part in parts)
    result = {"kills": sum(part["kills"] for part in parts), "other ends": other, "parts": parts}
    print(f"\n{result['kills']} kills, {other} runs ended otherwise", flush=True)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
