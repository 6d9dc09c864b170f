"""Folders as runs leave them, small and made in no time, for tests of what happens to them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from patchit_hf.publish.failures import Retry
from patchit_hf.training.checkpoint import save_checkpoint

QUICK = Retry(attempts=3, base_seconds=0.01, limit_seconds=20)
CARD = "---\nlibrary_name: timm\n---\n# A backbone\n"
EXPORT = {
    "README.md",
    "config.json",
    "figures/curves.png",
    "head/model.safetensors",
    "metrics.jsonl",
    "model.safetensors",
    "patchit.json",
}
PICTURES = {"figures/patches.png", "figures/localisation.png"}


def make_export(folder: Path, **data: Any) -> Path:
    """A finished run's folder, with a checkpoint, a record and hidden files left in it."""
    record = {
        "backbone": {"name": "resnet18"},
        "task": {"name": "position"},
        "data": {"name": "some/where/crops", **data},
        "results": {"eval_accuracy": 0.4321},
    }
    other = ("figures/patches.txt", "run.json", ".hidden.json", "notes.txt")
    contents = {name: random.Random(name).randbytes(50_000) for name in EXPORT | PICTURES}
    contents |= {"README.md": CARD.encode(), "config.json": b"{}", "metrics.jsonl": b"{}\n"}
    contents |= {"patchit.json": json.dumps(record).encode(), **dict.fromkeys(other, b"{}")}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    save(folder, 2)
    return folder


def save(folder: Path, step: int, limit: int = 1) -> torch.nn.Module:
    """Save a checkpoint as a run does, and drop the ones before; returns the model."""
    model = torch.nn.Linear(100, 50)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    model(torch.ones(100)).sum().backward()
    optimizer.step()
    config = {"backbone": "resnet18", "task": "position"}
    save_checkpoint(folder / "checkpoints", step, config, model, optimizer, None, {}, limit)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step}) + "\n")
    return model


def checkpoint_names(step: int) -> set[str]:
    """What the Hub has of a checkpoint."""
    folder = f"checkpoints/step-{step:08d}"
    files = ("model.safetensors", "optimizer.pt", "state.json", "SHA256SUMS")
    return {f"{folder}/{name}" for name in files}


def until(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something that other threads do."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
