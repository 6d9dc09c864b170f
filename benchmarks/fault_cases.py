"""Faults of the machine and of files that a run reads back, and how each is provoked."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fault_base import BARE, LARGE, LONG, SHORT, Case, Provoke

from tests.kill import FINETUNE, PRETRAIN


def cases() -> Iterator[Case]:
    """Yield all faults."""
    yield from _signals()
    yield from _checkpoints()
    yield from _records()
    yield from _caches()
    yield from _leftovers()
    yield from _disks()
    yield from _memory()
    yield from _numbers()
    yield from _changes()


# -- damage to files -------------------------------------------------------------------------------


def truncated(file: Path) -> None:
    """Cut a file in half."""
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: Path) -> None:
    """Leave nothing of a file."""
    os.truncate(file, 0)


def zeroed(file: Path) -> None:
    """Make all bytes zero."""
    file.write_bytes(bytes(file.stat().st_size))


def flipped(file: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def beheaded(file: Path) -> None:
    """Take the first eight bytes away."""
    file.write_bytes(file.read_bytes()[8:])


DAMAGE = {
    "truncated": truncated, "emptied": emptied, "all zeros": zeroed, "one bit flipped": flipped,
    "without header": beheaded, "missing": Path.unlink,
}  # fmt: skip


def _signals() -> Iterator[Case]:
    for name in ("SIGTERM", "SIGUSR1", "SIGHUP", "SIGINT"):
        number = getattr(signal, name)

        def stop(scene: Any, stack: Any, number: int = number) -> None:
            scene.words = [*PRETRAIN, *LONG]
            scene.during((scene.run / "metrics.jsonl").exists, lambda pid: os.kill(pid, number))

        yield Case("signal", f"{name} in a pretraining", stop, 128 + number, reference="long")

    def twice(scene: Any, stack: Any) -> None:
        def act(pid: int) -> None:
            for _ in range(2):
                os.kill(pid, signal.SIGINT)

        scene.words = [*PRETRAIN, *LONG]
        scene.during((scene.run / "metrics.jsonl").exists, act)

    yield Case("signal", "Ctrl-C twice at once", twice, 130, reference="long")

    def finetuning(scene: Any, stack: Any) -> None:
        scene.words = [*FINETUNE, *LONG]
        scene.during((scene.run / "metrics.jsonl").exists, lambda pid: os.kill(pid, signal.SIGTERM))

    yield Case("signal", "SIGTERM in a finetuning", finetuning, 143, reference="finetuned")

    def early(scene: Any, stack: Any) -> None:
        scene.during(scene.run.exists, lambda pid: os.kill(pid, signal.SIGHUP))

    yield Case("signal", "SIGHUP at the very start", early, 129)

    def comparing(scene: Any, stack: Any) -> None:
        scene.expected, scene.output = "finished", scene.work / "compared"
        scene.words = [
            *"compare --task attributes --init random --workers 1 --init".split(),
            str(scene.server.folder / "whole" / "run"),
            "--backbone",
            "test_resnet",
            *"--input-size 48x24 --epochs 12 --batch-size 16 --seeds 1 --bootstrap 8".split(),
            *"--learning-rates 0.001 --test-split validation".split(),
        ]
        cell = lambda: any(scene.output.rglob("metrics.jsonl"))  # noqa: E731
        scene.during(cell, lambda pid: os.kill(pid, signal.SIGTERM))

    yield Case("signal", "SIGTERM in a comparison", comparing, 143)

    def cutting(scene: Any, stack: Any) -> None:
        from tests.crops.test_crops import as_text, make_scenes

        images = scene.work / "images"
        boxes = as_text(make_scenes(images, 60), scene.work / "boxes.txt")
        scene.expected, scene.output = "finished", scene.work / "cut"
        scene.words = [
            "crops", "--detections", str(boxes), "--images", str(images), "--output",
            str(scene.output), "--workers", "1", "--shard-size", "10",
        ]  # fmt: skip
        scene.during((scene.output / ".work").exists, lambda pid: os.kill(pid, signal.SIGTERM))

    yield Case("signal", "SIGTERM while crops are cut", cutting, 143)


def _checkpoints() -> Iterator[Case]:
    kinds = {
        "model.safetensors": (
            "truncated",
            "emptied",
            "without header",
            "missing",
            "one bit flipped",
        ),
        "optimizer.pt": ("truncated", "missing", "one bit flipped"),
        "state.json": ("missing", "emptied", "one bit flipped"),
        "SHA256SUMS": ("emptied",),
    }
    for file, damages in kinds.items():
        for damage in damages:

            def spoil(scene: Any, stack: Any, file: str = file, damage: str = damage) -> None:
                scene.broken()
                DAMAGE[damage](scene.newest / file)
                scene.start()

            yield Case("newest checkpoint", f"{file} {damage}", spoil)

    def no_config(scene: Any, stack: Any) -> None:
        scene.broken()
        (scene.newest / "SHA256SUMS").unlink()
        (scene.newest / "state.json").write_text('{"step": 4}')
        scene.start()

    yield Case("newest checkpoint", "state without configuration", no_config)

    def empty(scene: Any, stack: Any) -> None:
        scene.broken()
        (scene.run / "checkpoints" / "step-00000005").mkdir()
        scene.start()

    yield Case("newest checkpoint", "an empty folder", empty)

    def stray(scene: Any, stack: Any) -> None:
        scene.broken()
        (scene.run / "checkpoints" / "step-99999999").write_text("stray")
        scene.start()

    yield Case("newest checkpoint", "a stray file step-99999999", stray)


def _records() -> Iterator[Case]:
    def binary(scene: Any, stack: Any) -> None:
        scene.broken()
        file = scene.run / "metrics.jsonl"
        file.write_bytes(b"\xff\x00\n" + file.read_bytes())
        scene.start()

    yield Case("records", "metrics.jsonl with binary bytes", binary)

    def half(scene: Any, stack: Any) -> None:
        scene.broken()
        with (scene.run / "metrics.jsonl").open("a") as file:
            file.write('{"step": 4, "train_lo')
        scene.start()

    yield Case("records", "metrics.jsonl with half a line", half)

    def record(scene: Any, stack: Any) -> None:
        scene.broken()
        (scene.run / "patchit.json").write_text('{"command": "pyth')
        scene.start()

    yield Case("records", "patchit.json of half a line", record)


def _caches() -> Iterator[Case]:
    def own(scene: Any) -> Path:
        """Give the case a cache of its own, and return its folder."""
        scene.how = {"cache": str(scene.work / "cache")}
        scene.start()
        shutil.rmtree(scene.run)
        return Path(scene.how["cache"]) / "patchit_hf"

    kinds = {
        ".uint8": ("truncated", "missing", "all zeros", "one bit flipped"),
        ".crc32": ("truncated", "missing", "one bit flipped"),
        ".json": ("emptied", "truncated"),
        ".opened.json": ("truncated",),
    }
    words = {".uint8": "pixels", ".crc32": "checksums", ".json": "note"}
    words[".opened.json"] = "note about the folder"
    for ending, damages in kinds.items():
        for damage in damages:

            def spoil(scene: Any, stack: Any, ending: str = ending, damage: str = damage) -> None:
                (file,) = (f for f in own(scene).iterdir() if f.name[24:] == ending)
                DAMAGE[damage](file)
                scene.start()

            yield Case("crop cache", f"{words[ending]} {damage}", spoil)

    def verified(scene: Any, stack: Any) -> None:
        flipped(next(own(scene).glob("*.uint8")))
        scene.start("--verify")

    yield Case("crop cache", "pixels one bit flipped, with --verify", verified)


def _leftovers() -> Iterator[Case]:
    def drafts(scene: Any, stack: Any) -> None:
        scene.broken()
        for name in (".draft-abc", ".export-abc", "checkpoints/.step-00000006.tmp"):
            (scene.run / name).mkdir()
            (scene.run / name / "model.safetensors").write_bytes(b"half")
        scene.start()

    yield Case("leftovers", "drafts of a killed process in the run", drafts)

    def cache(scene: Any, stack: Any) -> None:
        scene.how = {"cache": str(scene.work / "cache")}
        there = Path(scene.how["cache"]) / "patchit_hf"
        scene.during(
            lambda: any(there.glob(".*.uint8.*.tmp")), lambda pid: os.kill(pid, signal.SIGKILL)
        )

    yield Case("leftovers", "killed while crops are decoded into the cache", cache, -9)


# -- what the machine lacks ------------------------------------------------------------------------


def small_disk(folder: Path, size: int, stack: contextlib.ExitStack) -> None:
    """Mount a file system of so many bytes in memory, until the case is over."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True,
        capture_output=True,
    )  # fmt: skip
    stack.callback(subprocess.run, ["umount", "--lazy", folder], check=True)


def grown(scene: Any) -> None:
    """Make the disk large enough."""
    folder = scene.work / "disk"
    subprocess.run(["mount", "-o", "remount,rw,size=100m", folder], check=True)


def _disks() -> Iterator[Case]:
    def full(words: list[str], size: int, *more: str) -> Provoke:
        def provoke(scene: Any, stack: contextlib.ExitStack) -> None:
            small_disk(scene.work / "disk", size, stack)
            scene.output, scene.words = scene.work / "disk" / "run", [*words, *more]
            scene.start()

        return provoke

    page = 4096
    pretrain, bare = [*PRETRAIN, *SHORT], [*PRETRAIN, *BARE]
    yield Case("disk full", "at the first checkpoint", full(pretrain, 500 * page), 1, grown)
    yield Case(
        "disk full",
        "at the export, beside three checkpoints",
        full(pretrain, 2500 * page),
        1,
        grown,
    )
    yield Case(
        "disk full", "at the first line of metrics.jsonl", full(bare, 2 * page), 1, grown, "bare"
    )
    yield Case("disk full", "at the export", full(bare, 100 * page), 1, grown, "bare")
    figures = [word for word in bare if word != "--no-figures"]
    yield Case("disk full", "at figures and export", full(figures, 8 * page), 1, grown, "bare")

    def limit(scene: Any, stack: Any) -> None:
        scene.start(limits={"FSIZE": 100_000})

    yield Case("file-size limit", "at a checkpoint", limit, 1)

    def cache_limit(scene: Any, stack: Any) -> None:
        scene.how = {"cache": str(scene.work / "cache")}
        scene.start("--crop-cache-gb", "0")
        shutil.rmtree(scene.run)
        scene.words, scene.expected = [*PRETRAIN, *BARE, "--canvas", "200x100"], "finished"
        scene.start(limits={"FSIZE": 2_100_000})

    yield Case("file-size limit", "at the crop cache", cache_limit, 0)

    def cache_full(scene: Any, stack: contextlib.ExitStack) -> None:
        small_disk(scene.work / "disk", 2_000_000, stack)
        scene.how = {"cache": str(scene.work / "disk" / "cache")}
        scene.start()

    yield Case("disk full", "too little room for the crop cache", cache_full, 0, grown)

    def data_full(scene: Any, stack: contextlib.ExitStack) -> None:
        small_disk(scene.work / "disk", 10 * page, stack)
        scene.how = {"cache": str(scene.work / "disk" / "cache")}
        scene.start()

    yield Case("disk full", "at the cache of the datasets library", data_full, 1, grown)

    def read_only(scene: Any, stack: contextlib.ExitStack) -> None:
        small_disk(scene.work / "disk", 100_000_000, stack)
        scene.output = scene.work / "disk" / "run"
        subprocess.run(["mount", "-o", "remount,ro", scene.work / "disk"], check=True)
        scene.start()

    yield Case("read-only", "output folder", read_only, 1, grown)

    def read_only_cache(scene: Any, stack: contextlib.ExitStack) -> None:
        small_disk(scene.work / "disk", 2_000_000_000, stack)
        scene.how = {"cache": str(scene.work / "disk" / "cache")}
        scene.start("--crop-cache-gb", "0")
        shutil.rmtree(scene.run)
        subprocess.run(["mount", "-o", "remount,ro", scene.work / "disk"], check=True)
        scene.start()

    yield Case("read-only", "cache folder", read_only_cache, 0, grown)

    def deleted(scene: Any, stack: Any) -> None:
        scene.words = [*PRETRAIN, *LONG]
        scene.during((scene.run / "metrics.jsonl").exists, lambda pid: shutil.rmtree(scene.run))

    yield Case("output folder", "deleted under the run", deleted, 1, reference="long")

    def terminal(scene: Any, stack: Any) -> None:
        scene.start(stderr="/dev/full")

    yield Case("disk full", "at the log (stderr to a full disk)", terminal)


def _memory() -> Iterator[Case]:
    def large(scene: Any, stack: Any) -> None:
        scene.words, scene.expected = LARGE, "same"
        scene.start(limits={"AS": 260_000_000})

    yield Case("memory", "the batch does not fit", large, 1, reference="large")

    def auto(scene: Any, stack: Any) -> None:
        scene.words, scene.expected = [*LARGE, "--gradient-accumulation-steps", "0"], "finished"
        scene.start(limits={"AS": 260_000_000})

    yield Case("memory", "the same, with parts to be found (--batch-size auto)", auto, 0)

    def files(scene: Any, stack: Any) -> None:
        scene.start(limits={"NOFILE": 8})

    yield Case("open files", "too many", files, 1)


def _numbers() -> Iterator[Case]:
    wild = ["--optimizer", "sgd", "--learning-rate", "1e30", "--max-grad-norm", "0"]

    def at_once(scene: Any, stack: Any) -> None:
        scene.words += [*wild, "--log-every", "1"]
        scene.expected = "refused"
        scene.start()

    yield Case("bad numbers", "the loss is not finite, before any checkpoint", at_once, 1)

    def unseen(scene: Any, stack: Any) -> None:
        scene.words += [*wild, "--log-every", "100"]
        scene.expected = "refused"
        scene.start()

    yield Case("bad numbers", "the weights are not finite at a checkpoint", unseen, 1)

    def changed(scene: Any, stack: Any) -> None:
        scene.broken()
        scene.words += ["--learning-rate", "0.001"]
        scene.start()
        scene.words += ["--change", "learning_rate"]
        scene.expected = "finished"

    yield Case("bad numbers", "another rate without --change, then with it", changed, 2)


def _changes() -> Iterator[Case]:
    def cache(scene: Any, stack: Any) -> None:
        scene.broken()
        scene.start("--crop-cache-gb", "0")

    yield Case("changed machine", "another --crop-cache-gb", cache)

    def parts(scene: Any, stack: Any) -> None:
        scene.broken()
        scene.expected = "finished"
        scene.start("--gradient-accumulation-steps", "2")

    yield Case("changed machine", "another number of parts", parts)

    def killed(scene: Any, stack: Any) -> None:
        scene.words = [*PRETRAIN, *LONG, "--save-every", "8"]
        scene.during(
            lambda: any((scene.run / "checkpoints").glob("step-*")),
            lambda pid: os.kill(pid, signal.SIGKILL),
        )

    yield Case("killed", "SIGKILL in a pretraining", killed, -9, reference="long")
