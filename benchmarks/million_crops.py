"""A million crops: how soon training starts, how much memory it takes, how fast crops are read.

The crops are made up and tiny (see made_up_crops.py). Each measurement has its own process:

- training by the code of `python -m patchit_hf.pretrain`, from the start of the process past its
  first optimiser step: the first start, which builds the index, the second start, and the memory;
- reading: crops per second of this package's readers and of plain reads of the same bytes, in
  turns, as a ratio;
- streaming: the same, and that two processes with two workers each see every crop once.

    python benchmarks/million_crops.py --work runs/million --output benchmarks/results

It needs about 2 GB at a time, and deletes them afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from made_up_crops import make_parquet, make_pictures, make_tars

MEASURE = str(Path(__file__).with_name("million_measure.py"))
MAKE = {"parquet": make_parquet, "pictures": make_pictures, "tar": make_tars}
BARE = {
    "read": "same bytes, same order, nothing done",
    "stream": "same files, nothing done",
}


def child(work: Path, *words: object) -> list[Any]:
    """Run a measurement in its own process, and return the JSON lines that it printed."""
    env = {**os.environ, "HF_DATASETS_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, MEASURE, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] in ("{", "[")]


def start(work: Path, data: Path, steps: int, *more: str) -> dict[str, Any]:
    """Start a training; return the time of its first step, and its memory over time."""
    run = work / "run"
    shutil.rmtree(run, ignore_errors=True)
    lines = child(
        work, "train", "--data", data, "--run", run, "--steps", steps, "--started", time.time(),
        *more,
    )  # fmt: skip
    return {
        "seconds to the first step": lines[0]["seconds"],
        "of them for imports": lines[0]["imports"],
        "CPU seconds of the process": lines[0]["cpu"],
        "memory in 10**6 bytes": {
            str(line["step"]): {**line["memory"], "workers": line["workers"]} for line in lines
        },
    }


def rates(kind: str, rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Return each reader's median rate, and its ratio to plain reading within each round."""
    bare = BARE[kind]
    return {
        name: {
            "crops a second": round(statistics.median(r[name] for r in rounds)),
            "ratio": round(statistics.median(r[name] / r[bare] for r in rounds), 4),
            "ratios": [round(r[name] / r[bare], 4) for r in rounds],
        }
        for name in rounds[0]
    }


def measure(work: Path, kind: str, rows: int, steps: int) -> dict[str, Any]:
    """Make one kind of data, measure, and delete it."""
    data = work / kind
    if not data.exists():
        MAKE[kind](data, rows)
    found: dict[str, Any] = {}
    try:
        if kind != "tar":
            found["first start"] = start(work, data, 1)
            found["second start"] = start(work, data, steps)
        if kind == "parquet":
            (rounds,) = child(work, "read", "--data", data, "--rows", rows)
            found["reading"] = rates("read", rounds)
        if kind != "pictures":
            found["streaming start"] = start(work, data, steps, "--streaming")
            (streamed,) = child(work, "stream", "--data", data, "--rows", rows)
            found["streaming"] = rates("stream", streamed["rounds"])
            (found["an epoch of two processes with two workers"],) = child(
                work, "seen", "--data", data, "--rows", rows
            )
    finally:
        for folder in (data, work / f"{kind}-store", work / "cache", work / "run"):
            shutil.rmtree(folder, ignore_errors=True)
    return found


def table(result: dict[str, Any]) -> str:
    """Return the results as text."""
    lines = [
        f"# {result['rows']:,} crops",
        "",
        *(
            f"- {kind}: `{found['command']}`, commit {found['commit']}, {found['machine']}; load "
            f"average {found['load average before']} before and {found['load average after']} after"
            for kind, found in result["data"].items()
        ),
        "",
        "| data | start | seconds to the first step | of them imports | CPU seconds of the process "
        "| memory at the first step | at the last |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, found in result["data"].items():
        for name in (n for n in found if n.endswith("start")):
            marks = list(found[name]["memory in 10**6 bytes"].items())
            sizes = [f"{mark['VmRSS']:,} MB (step {step})" for step, mark in (marks[0], marks[-1])]
            lines.append(
                f"| {kind} | {name} | {found[name]['seconds to the first step']} | "
                f"{found[name]['of them for imports']} | "
                f"{found[name].get('CPU seconds of the process', '')} | {sizes[0]} | {sizes[1]} |"
            )
    lines += ["", "| data | how it is read | crops a second | as a ratio |", "|---|---|---|---|"]
    for kind, found in result["data"].items():
        for way in ("reading", "streaming"):
            for name, rate in found.get(way, {}).items():
                lines.append(
                    f"| {kind}, {way} | {name} | {rate['crops a second']:,} | {rate['ratio']} |"
                )
    lines += [""]
    for kind, found in result["data"].items():
        seen = found.get("an epoch of two processes with two workers")
        if seen:
            lines.append(
                f"Streaming {kind}, two processes with two workers each read {seen['crops']:,} "
                f"crops in an epoch, {seen['by the first process']:,} and "
                f"{seen['by the second']:,}; {seen['seen once']:,} of them were seen once."
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write JSON and a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="an empty or new folder")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--data", nargs="+", choices=sorted(MAKE), default=list(MAKE))
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    words = parser.parse_args()
    words.work.mkdir(parents=True, exist_ok=True)
    words.output.mkdir(parents=True, exist_ok=True)
    file = words.output / "million-crops.json"
    result: dict[str, Any] = {"rows": words.rows, "data": {}}
    if file.exists():
        result = json.loads(file.read_text(encoding="utf-8"))
    commit = subprocess.run(  # before the results change the checkout
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    for kind in words.data:  # other entries of the file stay
        about = {
            "command": f"python benchmarks/million_crops.py --work {words.work} --rows "
            f"{words.rows} --steps {words.steps} --data {kind} --output {words.output}",
            "commit": commit,
            "machine": f"{os.cpu_count()} CPU cores, {platform.system()}, Python "
            f"{platform.python_version()}",
            "load average before": round(os.getloadavg()[0], 2),
        }
        figures = measure(words.work, kind, words.rows, words.steps)
        about["load average after"] = round(os.getloadavg()[0], 2)
        result["data"][kind] = {**about, **figures}
        file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        file.with_suffix(".md").write_text(table(result), encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
