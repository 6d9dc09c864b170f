"""Which timm architectures can be pretrained, exported and loaded again with equal outputs.

From every architecture module of timm, the smallest model takes two optimiser steps of the position
task in the trainer, is exported, and is loaded again by timm and by transformers. Its unpooled and
pooled features must equal those of the trained network. Each model runs in its own process, with
limited memory and time; nothing is downloaded.

    OMP_NUM_THREADS=1 python benchmarks/timm_sweep.py --output benchmarks/results/timm-sweep.json

A table is written beside the JSON, with the ending ``.md``.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import argparse
import gc
import json
import logging
import multiprocessing
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from patchit_hf import InputError, PatchTaskTrainer, TrainingArguments, create_task, load_people
from patchit_hf.common.provenance import versions
from patchit_hf.models.backbone import feature_map

STEPS = 2  # the head starts at zero, so the backbone's gradient is zero in the first step
BATCH = 4
CLOSE = 1e-5  # relative to the largest value; the effect of another order of additions
GREY = 1e-3  # the same, when three channels become one
LARGE = 30_000_000  # with more parameters Muon takes longer than the rest; plain SGD instead
GIGABYTE = 1 << 30


def smallest(module: str) -> tuple[str, int]:
    """Return the model of a module with the fewest parameters, and their number."""
    found = []
    with torch.device("meta"):
        for name in timm.list_models(module=module):
            model = timm.create_model(name, num_classes=0)
            found.append((sum(p.numel() for p in model.parameters()), name))
    count, name = min(found)
    return name, count


def pretrain(name: str, count: int, folder: Path) -> PatchTaskTrainer:
    """Run the steps at 32 px, or at the smallest size that works, and export."""
    people = load_people(16)
    light: dict[str, Any] = (
        {"optim": "momentum", "optim_args": {"momentum": 0.0}} if count > LARGE else {}
    )
    args = TrainingArguments(
        output_dir=str(folder), max_steps=STEPS, train_batch_size=BATCH, save_steps=0,
        crop_cache_gb=0, figures=False, **light,
    )  # fmt: skip
    try:
        trainer = PatchTaskTrainer(name, args, create_task("position"), people)
    except InputError as error:
        scale = re.search(r"input_scale=([\d.]+)", str(error))
        if scale is None:
            raise
        task = create_task("position", rows=2, cols=1, input_scale=float(scale[1]))
        trainer = PatchTaskTrainer(name, args, task, people)
    before = checksum(trainer.model.backbone)
    trainer.train()
    if before == checksum(trainer.model.backbone):
        raise RuntimeError("the steps changed nothing")
    return trainer


def checksum(model: nn.Module) -> list[float]:
    """Return one number per parameter that changes with the parameter."""
    with torch.no_grad():
        return [float(p.double().square().sum()) for p in model.parameters()]


def check(trainer: PatchTaskTrainer, folder: Path) -> dict[str, Any]:
    """Load the export in each way and compare it with the trained network.

    Only the trained network's outputs are kept, not the network itself, so that one network at a
    time is in memory.
    """
    trained = trainer.model.backbone.eval().to(memory_format=torch.contiguous_format)
    source = f"local-dir:{folder}"
    size = json.loads((folder / "config.json").read_text())["pretrained_cfg"]["input_size"]
    row: dict[str, Any] = {
        "trained_size": list(trainer.task.input_size),
        "exported_size": size[1:],
        "optimizer": trainer.args.optim,
    }
    torch.manual_seed(0)
    inputs, exported = torch.randn(2, 3, *row["trained_size"]), torch.randn(1, *size)
    grey = inputs[:, :1]
    wanted = features(trained, inputs)
    wanted_exported = features(trained, exported)
    wanted_grey = features(trained, grey.expand(-1, 3, -1, -1))
    del trained, trainer.model, trainer.prepared, trainer.optimizer
    trainer.accelerator.free_memory()
    gc.collect()
    loaded = timm.create_model(source, pretrained=True).eval()
    row["timm"] = compare(wanted, features(loaded, inputs))
    row["timm_exported_size"] = compare(wanted_exported, features(loaded, exported))
    del loaded
    row["transformers"] = compare(wanted, wrapped(folder, inputs))
    row["num_classes"] = attempt(lambda: classifier(source, wanted, inputs))
    row["in_chans"] = attempt(lambda: one_channel(source, wanted_grey, grey))
    return row


def features(model: nn.Module, inputs: Tensor) -> tuple[Tensor, ...]:
    """Return unpooled and pooled features."""
    with torch.no_grad():
        return feature_map(model, inputs), model(inputs)


def wrapped(folder: Path, inputs: Tensor) -> tuple[Tensor, ...]:
    """Return the same from transformers."""
    if AutoConfig.from_pretrained(folder).model_type != "timm_wrapper":
        raise RuntimeError("transformers takes the folder for something else")
    AutoImageProcessor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return feature_map(model.timm_model, inputs), model(inputs).pooler_output


def classifier(source: str, wanted: tuple[Tensor, ...], inputs: Tensor) -> str:
    """Load with a new classifier and compare the unpooled features."""
    model = timm.create_model(source, pretrained=True, num_classes=7).eval()
    with torch.no_grad():
        if model(inputs).shape != (len(inputs), 7):
            raise RuntimeError(f"an output of {tuple(model(inputs).shape)}")
        return compare(wanted[:1], (feature_map(model, inputs),))


def one_channel(source: str, wanted: tuple[Tensor, ...], grey: Tensor) -> str:
    """Load for grey images and compare with the same images in three channels.

    timm sums the weights of the three channels, which gives the same result for a plain
    convolution. It does not if the weights are standardised, and timm has no such rule for other
    first layers.
    """
    model = timm.create_model(source, pretrained=True, in_chans=1).eval()
    names = model.pretrained_cfg.get("first_conv") or ()
    first = model.get_submodule(names) if isinstance(names, str) else None
    found = features(model, grey)
    if first is not None and type(first) is not nn.Conv2d:
        worst = distance(wanted, found)
        if worst > GREY:
            return (
                f"loads, but differs by {worst:.0e} (its first layer is a {type(first).__name__})"
            )
    return compare(wanted, found, GREY)


def compare(wanted: tuple[Tensor, ...], found: tuple[Tensor, ...], close: float = CLOSE) -> str:
    """Return ``equal``, or how far the values differ.

    Raises:
        RuntimeError: if they differ by more than rounding.
    """
    worst = distance(wanted, found)
    if not worst <= close:
        raise RuntimeError(f"features differ by {worst:.1e} of the largest")
    return "equal" if worst == 0 else f"within {worst:.0e}"


def distance(wanted: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> float:
    """Return the largest difference, relative to the largest value."""
    worst = 0.0
    for a, b in zip(wanted, found, strict=True):
        if a.shape != b.shape:
            raise RuntimeError(f"features of {tuple(b.shape)} instead of {tuple(a.shape)}")
        worst = max(worst, float((a - b).abs().max() / a.abs().max().clamp(min=1e-12)))
    return worst


def attempt(action: Any) -> str:
    """Return the result of the action, or the reason why it fails."""
    try:
        return str(action())
    except Exception as error:  # the sweep is there to say so
        return "fails: " + reason(error)


def reason(error: BaseException) -> str:
    """Return an exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def study(module: str, out: Connection) -> None:
    """Do everything for one module and send the row; runs in its own process."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    sys.stderr = open(os.devnull, "w")
    row: dict[str, Any] = {"module": module, "works": False, "stage": "build"}
    try:
        row["model"], row["parameters"] = smallest(module)
        out.send(dict(row))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "run"
            row["stage"] = "pretrain"
            trainer = pretrain(row["model"], row["parameters"], folder)
            row["stage"] = "load"
            row |= check(trainer, folder)
        row["works"] = True
        del row["stage"]
    except Exception as error:  # the sweep is there to say so
        row["reason"] = reason(error)
    row["gigabytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1)
    row["seconds"] = round(time.process_time(), 1)
    out.send(row)


def supervise(module: str, gigabytes: float, seconds: float) -> dict[str, Any]:
    """Run ``study`` in a process; a crash or a timeout gives a row, too."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=study, args=(module, sender))
    process.start()
    sender.close()
    row: dict[str, Any] = {"module": module, "works": False}
    try:
        while "seconds" not in row and "reason" not in row:
            if receiver.poll(0.1):
                row = receiver.recv()
            elif busy(process.pid) > seconds:
                row["reason"] = f"takes more than {seconds:.0f} s"
            elif resident(process.pid) > gigabytes * GIGABYTE:
                row["reason"] = f"needs more than {gigabytes:g} GB"
    except EOFError:
        row["reason"] = "the process died"
    process.kill()
    process.join()
    return row


def resident(pid: int | None) -> int:
    """Return the memory of a process, in bytes; Linux only."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]
    except FileNotFoundError:  # it has just ended
        return 0
    return int(pages) * resource.getpagesize()


def busy(pid: int | None) -> float:
    """Return the CPU seconds of a process; Linux only."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def table(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    rows = result["rows"]
    lines = [
        "# timm's architectures\n",
        f"{result['works']} of {result['modules']} modules work ({result['percent']} %): the "
        "smallest model of each was pretrained for two steps, exported, and loaded again by timm "
        "and by transformers with equal features.\n",
        "The columns say how near the loaded networks come: `equal` is bit for bit, and a number "
        "is the largest difference as a share of the largest value. `num_classes=7` is a new "
        "classifier by timm; `in_chans=1` compares grey pictures in one channel with the same in "
        "three, which differs by nature where the first layer standardises its weights or is no "
        "convolution.\n",
        f"`{result['command']}` at commit `{result['commit'][:12]}`"
        + (" with changes" if result["changed_since"] else "")
        + f", {result['cpu_minutes']} minutes of one core; "
        + ", ".join(f"{name} {value}" for name, value in result["versions"].items())
        + ".\n",
        "| module | model | parameters, M | trained at, px | timm | transformers "
        "| num_classes=7 | in_chans=1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda r: (r["works"], r["module"])):
        head = f"| {row['module']} | {row.get('model', '')} | {row.get('parameters', 0) / 1e6:.1f} "
        if row["works"]:
            size = "x".join(str(side) for side in row["trained_size"])
            cells = [size, *(row[k] for k in ("timm", "transformers", "num_classes", "in_chans"))]
            lines.append(head + "| " + " | ".join(cells) + " |")
        else:
            lines.append(head + f"| **no**: {row['reason'].replace('|', '/')} | | | | |")
    return "\n".join(lines) + "\n"


def git(*words: str) -> str:
    """Return the output of a git command in this checkout."""
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    """Run the sweep, and write JSON and table after every module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", nargs="+", default=timm.models.list_modules())
    parser.add_argument("--gigabytes", type=float, default=6.0, help="memory of a model's process")
    parser.add_argument("--seconds", type=float, default=600.0, help="its CPU time")
    parser.add_argument("--output", type=Path, required=True)
    words = parser.parse_args()
    result: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "commit": git("rev-parse", "HEAD"),
        "changed_since": git("status", "--porcelain", "patchit_hf").split()[1::2],
        "versions": versions(),
        "rows": [],
    }
    if words.output.exists():  # an interrupted sweep is continued
        there = json.loads(words.output.read_text(encoding="utf-8"))
        same = all(there[key] == result[key] for key in result if key != "rows")
        result["rows"] = there["rows"] if same else []
    done = {row["module"] for row in result["rows"]}
    words.output.parent.mkdir(parents=True, exist_ok=True)
    for module in words.modules:
        if module in done:
            continue
        row = supervise(module, words.gigabytes, words.seconds)
        print(json.dumps(row), flush=True)
        result["rows"].append(row)
        save(result, words.output)


def save(result: dict[str, Any], output: Path) -> None:
    """Write the result and its table."""
    rows = result["rows"] = sorted(result["rows"], key=lambda row: row["module"])
    works = sum(row["works"] for row in rows)
    figures = {
        "modules": len(rows),
        "works": works,
        "percent": round(100 * works / len(rows), 1),
        "cpu_minutes": round(sum(row.get("seconds", 0) for row in rows) / 60),
    }
    result |= figures
    output.write_text(json.dumps({**figures, **result}, indent=2) + "\n", encoding="utf-8")
    output.with_suffix(".md").write_text(table(result), encoding="utf-8")


if __name__ == "__main__":
    main()
