"""The measurements of million_crops.py, each in its own process: train, read, stream or seen."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

MARKS = ("VmRSS", "RssAnon", "RssFile", "VmHWM")
ROUNDS = 5


def memory(process: int | str = "self") -> dict[str, int]:
    """Return the memory of a process, in 10**6 bytes."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    words = {line.split(":")[0]: line.split() for line in lines}
    return {mark: int(words[mark][1]) * 1024 // 10**6 for mark in MARKS}


def workers() -> list[dict[str, int]]:
    """Return the memory of the processes that this one started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
    return [memory(child) for child in children]


def train(words: argparse.Namespace) -> None:
    """Pretrain by the command's own code, and print a JSON line at some of its steps."""
    from patchit_hf.pretrain.command import run
    from patchit_hf.pretrain.trainer import PatchTaskTrainer

    imported = time.time() - words.started
    after_step = PatchTaskTrainer._after_step

    def mark(self: Any, step: int, means: Any) -> bool:
        stop: bool = after_step(self, step, means)
        if step + 1 in (1, 10, *range(50, words.steps + 1, 50)):
            line = {
                "step": step + 1, "seconds": round(time.time() - words.started, 2),
                "imports": round(imported, 2), "cpu": round(time.process_time(), 2),
                "memory": memory(), "workers": workers(),
            }  # fmt: skip
            print(json.dumps(line), flush=True)
        return stop

    PatchTaskTrainer._after_step = mark  # type: ignore[method-assign]
    argv = [
        "--backbone", "test_resnet", "--dataset", words.data, "--output-dir", words.run,
        "--max-steps", str(words.steps), "--no-figures", "--no-audit", "--save-every", "0",
        "--eval-every", "0",
    ]  # fmt: skip
    run([*argv, "--streaming"] if words.streaming else argv)


def rate(crops: Iterator[Any], count: int) -> float:
    """Return the crops read per second, for ``count`` crops."""
    began = time.perf_counter()
    read = sum(1 for _ in islice(crops, count))
    if read != count:
        raise RuntimeError(f"{read} crops instead of {count}")
    return count / (time.perf_counter() - began)


def read(words: argparse.Namespace) -> None:
    """Read in turns with the package and with plain system calls, and print the rates."""
    import datasets
    import torch

    from patchit_hf.common.draws import epoch_order
    from patchit_hf.data.bad import BadImages
    from patchit_hf.data.lazy import LazyCrops
    from patchit_hf.data.opened import recall
    from patchit_hf.data.rows import ImageRows

    splits = recall(Path(words.data))
    if splits is None:
        raise RuntimeError("the folder has not been opened before")
    data = splits["train"]
    rows = ImageRows(data, "image")
    order = epoch_order(0, 0, len(rows)).tolist()
    places = [rows.place(row) for row in order]
    names = sorted({place[0] for place in places})
    files = {name: os.open(name, os.O_RDONLY) for name in names}
    table = data.cast_column("image", datasets.Image(decode=False))
    lazy = LazyCrops(rows, (200, 100), "squash", 0, "", BadImages())

    def bare(at: int) -> Iterator[bytes]:
        return (os.pread(files[name], size, first) for name, first, size in places[at:])

    def by_datasets(at: int) -> Iterator[Any]:
        for first in range(at, len(order), 256):
            yield from table[order[first : first + 256]]["image"]

    def decoded(at: int) -> Iterator[Any]:
        plan = torch.tensor(order[at:]).split(256)
        return (crop for crops in lazy.batches(plan) for crop in crops)

    def in_a_row(at: int) -> Iterator[Any]:
        """Yield as many things as there are crops in what is read of the files, as they lie."""
        for file in names:
            with open(file, "rb", buffering=0) as opened:
                opened.seek(at * 900)
                while block := opened.read(900 * 1000):
                    yield from range(len(block) // 900)

    sample = words.rows // 50
    ways = {
        "same bytes, same order, nothing done": (bare, sample),
        "same files, as they lie, nothing done": (in_a_row, sample),
        "this package, not decoded": (lambda at: (rows[row] for row in order[at:]), sample),
        "datasets, not decoded": (by_datasets, sample),
        "this package, decoded to 200x100": (decoded, sample // 10),
    }
    rounds = [
        {name: rate(way(number * sample), count) for name, (way, count) in ways.items()}
        for number in range(ROUNDS + 1)
    ]
    print(json.dumps(rounds[1:]))  # the first round is warm-up


def stream(words: argparse.Namespace) -> None:
    """Stream as one worker of one process and print rates, or count what all of them see."""
    import datasets

    from patchit_hf.data.source import load_crops
    from patchit_hf.data.stream import StreamedCrops

    crops = load_crops(words.data, streaming=True)
    whole = next(iter(datasets.load_dataset(words.data, streaming=True).values()))
    source = StreamedCrops(crops.train, crops.image_column, (200, 100), "squash", 0, seed=1)
    rows, plain = source.rows(0), iter(whole.cast_column(crops.image_column, datasets.Image(False)))
    files = sorted(Path(words.data).iterdir())

    def bare() -> Iterator[int]:
        """Read the files in blocks, and yield as many things as there are crops in them."""
        size = sum(file.stat().st_size for file in files) / words.rows
        for file in files:
            with file.open("rb", buffering=0) as opened:
                while block := opened.read(2**20):
                    yield from range(round(len(block) / size))

    raw, sample = bare(), words.rows // 50
    rounds = []
    for _ in range(ROUNDS + 1):
        batches = islice(rows, sample // 10)
        rounds.append(
            {
                "same files, nothing done": rate(raw, 2 * sample),
                "datasets, as they come": rate(plain, sample),
                "this package, shuffled and split, not decoded": rate(rows, sample),
                "this package, decoded to 200x100": rate(
                    (source.decode([row]) for row in batches), sample // 10
                ),
            }
        )
    print(json.dumps({"rounds": rounds[1:], "memory": memory()}))


def seen(words: argparse.Namespace) -> None:
    """Count and print which crops two processes with two workers each see in an epoch."""
    import datasets
    import numpy as np
    from torch.utils.data import DataLoader, IterableDataset

    from patchit_hf.data.stream import StreamedCrops

    class Names(IterableDataset):  # type: ignore[type-arg]
        def __init__(self, source: StreamedCrops) -> None:
            self.source = source

        def __iter__(self) -> Iterator[int]:
            for row in self.source.rows(0):
                yield int(Path(row.value["path"]).name.removesuffix(".jpg"))

    counts = np.zeros((2, words.rows), np.int64)
    began = time.perf_counter()
    for rank in range(2):
        data = next(iter(datasets.load_dataset(words.data, streaming=True).values()))
        column = next(k for k, f in data.features.items() if isinstance(f, datasets.Image))
        source = StreamedCrops(data, column, (200, 100), "squash", 2, 1, rank, 2)
        for numbers in DataLoader(Names(source), batch_size=1000, num_workers=source.workers):
            np.add.at(counts[rank], numbers.numpy(), 1)
    found = {
        "crops": words.rows, "seen once": int((counts.sum(0) == 1).sum()),
        "by the first process": int(counts[0].sum()), "by the second": int(counts[1].sum()),
        "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    print(json.dumps(found))


def main() -> None:
    """Run the measurement that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "read", "stream", "seen"))
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--run", default="")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--started", type=float, default=time.time())
    parser.add_argument("--streaming", action="store_true")
    words = parser.parse_args()
    {"train": train, "read": read, "stream": stream, "seen": seen}[words.what](words)


if __name__ == "__main__":
    main()
