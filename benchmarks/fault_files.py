"""Faults of files that somebody else made: exports, weights, boxes and configurations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fault_base import SHORT, Case

from tests.kill import FINETUNE, PRETRAIN

DEEP = 100_000  # brackets, one in another
NESTED = DEEP.to_bytes(8, "little") + b"[" * DEEP  # as the header of safetensors


def cases() -> Iterator[Case]:
    """Yield all of them."""
    yield from _weights()
    yield from _sizes()
    yield from _nesting()
    yield from _records()


def export(scene: Any) -> Path:
    """Copy the export of the uninterrupted run, without its checkpoints."""
    skip = shutil.ignore_patterns("checkpoints", ".lock")
    folder = scene.work / "export"
    return Path(shutil.copytree(scene.server.folder / "whole" / "run", folder, ignore=skip))


def changed(file: Path, change: Callable[[Any], None]) -> None:
    """Change the value of a JSON file."""
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def refused(scene: Any, *words: str) -> None:
    """Start a command that is refused, and end it if it takes too long."""
    scene.words, scene.expected = list(words), "refused"
    scene.how |= {"seconds": 300}
    scene.start()


def from_weights(command: str, init: Path) -> list[str]:
    """Return the words that start a training from weights."""
    words = [*(PRETRAIN if command == "pretrain" else FINETUNE), *SHORT]
    if "--init" in words:
        at = words.index("--init")
        del words[at : at + 2]
    return [*words, "--init", str(init)]


def _weights() -> Iterator[Case]:
    damages: dict[str, Callable[[bytes], bytes]] = {
        "truncated": lambda good: good[: len(good) // 2],
        "without header": lambda good: good[8:],
        "empty": lambda good: b"",
        "of zeros": lambda good: bytes(len(good)),
        "with a header nested 100,000 deep": lambda good: NESTED,
    }
    for command in ("pretrain", "finetune"):
        for name, damage in damages.items():

            def spoil(scene: Any, stack: Any, command: str = command, damage: Any = damage) -> None:
                file = scene.work / "weights.safetensors"
                file.write_bytes(damage((export(scene) / "model.safetensors").read_bytes()))
                refused(scene, *from_weights(command, file))

            yield Case("hostile file", f"{command} --init: safetensors {name}", spoil, 2)


def _sizes() -> Iterator[Case]:
    def record(scene: Any, stack: Any) -> None:
        folder = export(scene)
        wide = {"stem_width": 10**7}
        changed(folder / "patchit.json", lambda r: r["backbone"]["args"].update(wide))
        changed(folder / "config.json", lambda r: r.setdefault("model_args", {}).update(wide))
        output = str(scene.work / "vectors.npy")
        refused(scene, "embed", str(folder), str(folder / "images"), "--output", output)

    def start(scene: Any, stack: Any) -> None:
        folder = export(scene)
        changed(
            folder / "config.json",
            lambda r: r.setdefault("model_args", {}).update({"stem_width": 10**7}),
        )
        refused(scene, *from_weights("pretrain", folder))

    yield Case("hostile file", "embed: stem_width=10**7 in an export", record, 2)
    yield Case("hostile file", "pretrain --init: stem_width=10**7 in config.json", start, 2)


def _nesting() -> Iterator[Case]:
    def settings(scene: Any, stack: Any) -> None:
        file = scene.work / "deep.yaml"
        file.write_text("batch_size: " + "[" * DEEP)
        refused(scene, *PRETRAIN, *SHORT, "--config", str(file))

    yield Case("hostile file", "--config: YAML nested 100,000 deep", settings, 2)

    for text, kind in (("[" * DEEP, "lists"), ('{"images": ' * DEEP, "objects")):

        def boxes(scene: Any, stack: Any, text: str = text) -> None:
            file, pictures = scene.work / "boxes.json", scene.work / "images"
            file.write_text(text)
            pictures.mkdir()
            output = str(scene.work / "cut")
            refused(
                scene, "crops", "--detections", str(file), "--images", str(pictures),
                "--output", output,
            )  # fmt: skip

        yield Case("hostile file", f"crops --detections: JSON of {kind} 100,000 deep", boxes, 2)

    for name in ("patchit.json", "config.json"):

        def deep(scene: Any, stack: Any, name: str = name) -> None:
            folder = export(scene)
            (folder / name).write_text('{"a": ' * DEEP)
            refused(scene, *card(scene, folder))

        yield Case("hostile file", f"card: {name} nested 100,000 deep", deep, 2)

    def start(scene: Any, stack: Any) -> None:
        folder = export(scene)
        (folder / "config.json").write_text("[" * DEEP)
        refused(scene, *from_weights("pretrain", folder))

    yield Case("hostile file", "pretrain --init: config.json nested 100,000 deep", start, 2)


def card(scene: Any, folder: Path) -> list[str]:
    """Return the words that write the card of an export elsewhere."""
    return ["card", str(folder), "--output", str(scene.work / "card.md")]


def _records() -> Iterator[Case]:
    odd: dict[str, Callable[[Any], None]] = {
        "data is null": lambda r: r.update(data=None),
        "there is no task": lambda r: r.pop("task"),
        "a task that there is not": lambda r: r["task"].update(name="../x"),
        "a task of another kind": lambda r: r.update(task=[1]),
        "words where numbers are": lambda r: r["training"].update(seconds="x"),
        "results are a list": lambda r: r.update(results=[1]),
        "figures that are not there": lambda r: r.update(figures=["filters.png"]),
    }
    for name, change in odd.items():

        def spoil(scene: Any, stack: Any, change: Any = change) -> None:
            folder = export(scene)
            changed(folder / "patchit.json", change)
            refused(scene, *card(scene, folder))

        yield Case("hostile file", f"card: patchit.json where {name}", spoil, 2)
