"""All patch tasks on real crops, each with the same number of input pixels for the backbone.

Every task pretrains a network with each seed. Each frozen backbone is then probed on attributes of
whole crops, once with the batch statistics that it was exported with and once with statistics
re-estimated on whole crops. The first row is the network before training.

    python benchmarks/patch_tasks.py --dataset path/to/peta --work runs/patch-tasks

needs crops with splits ``train``, ``validation`` and ``test`` and the named binary columns.
Rows that the output already has are not repeated. Several commands can add rows to one output, for
example one each for ``--seeds 0``, ``--seeds 1`` and ``--seeds 2``. Pretrained networks are kept in
``--work``.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import timm
import torch

from patchit_hf import create_task
from patchit_hf.audit import audit
from patchit_hf.common.provenance import command, versions
from patchit_hf.data.store import open_crops
from patchit_hf.metrics.probe import probe
from patchit_hf.models.backbone import BackboneSpec
from patchit_hf.models.features import pooled_features, reestimate_batch_norm, whole_crops

PATCH = 32 * 32  # pixels of a patch of the position task, the unit of the budget
COLUMNS = (
    "personalMale",
    "carryingBackpack",
    "lowerBodyTrousers",
    "upperBodyShortSleeve",
    "hairLong",
)
TASKS = ("position", "people", "shuffle", "scale", "pair", "jigsaw", "context")
NONE = "none (random weights)"
CROPS = 3000  # training crops of the probes


def batch_size(task: Any, batch: int) -> int:
    """Return the inputs per step, in whole samples, with as many pixels as ``batch`` patches."""
    height, width = task.input_size
    samples = round(batch * PATCH / (height * width) / task.inputs_per_sample)
    return max(1, samples) * int(task.inputs_per_sample)


def pretrain(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Run the command unless its run is finished; return its record."""
    folder = Path(args.work) / f"{name}-{seed}"
    task = create_task(name)
    command = [
        sys.executable, "-m", "patchit_hf.pretrain", "--backbone", args.backbone,
        "--dataset", args.dataset, "--task", name, "--seed", str(seed),
        "--batch-size", str(batch_size(task, args.batch)),
        "--max-steps", str(round(args.patches / args.batch)),
        "--max-eval-crops", "660", "--eval-every", "0", "--save-every", "200",
        "--mixed-precision", args.mixed_precision, "--output-dir", str(folder),
        "--no-figures", "--no-audit",
    ]  # fmt: skip
    if not (folder / "patchit.json").exists():
        subprocess.run(command, check=True)
    record: dict[str, Any] = json.loads((folder / "patchit.json").read_text())
    return record


def load(split: str, count: int | None, args: argparse.Namespace) -> tuple[torch.Tensor, Any]:
    """Return crops uint8 ``[N, 3, 200, 100]`` and their labels ``[N, columns]``."""
    data = datasets.load_dataset(args.dataset, split=split)
    if count is not None:
        data = data.shuffle(seed=0).select(range(min(count, len(data))))
    store = open_crops(data, "image", (200, 100), "squash", on_disk=False, main=False, name=split)
    crops = torch.cat(list(store.batches(torch.arange(len(data)).split(64))))
    return crops, np.stack([np.array(data[c][:]) for c in COLUMNS], axis=1)


def probes(backbone: Any, task: Any, train: Any, test: Any, *, estimate: bool) -> dict[str, float]:
    """Return the balanced accuracy of kNN and of a linear probe, averaged over the columns."""
    spec = BackboneSpec("", {}, fixed_size=False)

    def inputs(crops: torch.Tensor) -> Any:
        return (whole_crops(task, spec, part) for part in crops.split(64))

    if estimate:
        reestimate_batch_norm(backbone, inputs(train[0]))
    features = [pooled_features(backbone, inputs(crops)).numpy() for crops, _ in (train, test)]
    found = [
        probe(features[0], train[1][:, i], features[1], test[1][:, i]) for i in range(len(COLUMNS))
    ]
    return {kind: statistics.mean(values[kind] for values in found) for kind in ("knn", "linear")}


def backbone_of(name: str | None, seed: int, args: argparse.Namespace) -> tuple[Any, Any]:
    """Return a backbone and the task that defines its view of crops; None for random weights."""
    if name is None:
        torch.manual_seed(seed)
        seen_as = next(iter(read(args)["normalisation"]))
        return timm.create_model(args.backbone, num_classes=0).eval(), task_of(seen_as, args)
    folder = Path(args.work) / f"{name}-{seed}"
    backbone = timm.create_model(f"local-dir:{folder.resolve()}", pretrained=True, num_classes=0)
    return backbone.eval(), task_of(name, args)


def task_of(name: str, args: argparse.Namespace) -> Any:
    """Return a task with the crops' mean and deviation, which are the same in every run."""
    known = read(args)["normalisation"][name]
    return create_task(name).with_statistics(known["mean"], known["std"])


def row(name: str | None, seed: int, args: argparse.Namespace, data: Any) -> dict[str, Any]:
    """Measure one task and seed."""
    result: dict[str, Any] = {"task": name or NONE, "seed": seed}
    if name is not None:
        record = pretrain(name, seed, args)
        write(args, normalisation={name: {key: record["data"][key] for key in ("mean", "std")}})
        result |= {
            "accuracy": record["results"]["eval_accuracy"],
            "chance": record["results"]["chance"],
            "megapixels": record["training"]["pixels"] / 1e6,
            "pretraining": record["command"],
            "hardware": record["training"]["hardware"],
        }
    for statistics_of in ("crops", "exported"):
        backbone, task = backbone_of(name, seed, args)
        values = probes(backbone, task, *data, estimate=statistics_of == "crops")
        result |= {f"{kind}_{statistics_of}": value for kind, value in values.items()}
    return {**result, "command": command(), "versions": versions()}


def shortcuts(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Return the held-out accuracy of each shortcut classifier."""
    train, held_out = load("train", 2000, args)[0], load("validation", None, args)[0]
    return dict(audit(task_of(name, args), train, held_out).baselines)


def read(args: argparse.Namespace) -> dict[str, Any]:
    """Return the current contents of the output."""
    file = Path(f"{args.output}.json")
    empty: dict[str, Any] = {"columns": COLUMNS, "normalisation": {}, "shortcuts": {}, "rows": []}
    return json.loads(file.read_text()) if file.exists() else empty


def write(args: argparse.Namespace, **more: Any) -> None:
    """Add rows, shortcuts or normalisation to the output, and rewrite the table."""
    with (Path(args.work) / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = read(args)
        for key, value in more.items():
            found[key] = found[key] + value if key == "rows" else {**found[key], **value}
        order = dict.fromkeys([NONE, *TASKS, *(r["task"] for r in found["rows"])])
        found["rows"].sort(key=lambda r: (list(order).index(r["task"]), r["seed"]))
        draft = Path(f"{args.output}.tmp")
        draft.write_text(json.dumps(found, indent=1) + "\n")
        draft.replace(f"{args.output}.json")
        Path(f"{args.output}.md").write_text(table(found["rows"], found["shortcuts"]))


def spread(values: list[float]) -> str:
    """Return mean and standard deviation in per cent."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


def table(rows: list[dict[str, Any]], baselines: dict[str, dict[str, float]]) -> str:
    """Return the results as Markdown."""
    keys = ("knn_crops", "linear_crops", "knn_exported", "linear_exported")
    lines = [
        "| task | chance | best shortcut | pretext | kNN | linear | kNN, exported | "
        "linear, exported | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(r["task"] for r in rows):
        mine = [r for r in rows if r["task"] == name]
        best = max(baselines.get(name, {"": 0.0}).items(), key=lambda item: item[1])
        cells = ["", "", ""]
        if "accuracy" in mine[0]:
            cells = [
                f"{100 * mine[0]['chance']:.1f}",
                f"{100 * best[1]:.1f} ({best[0]})",
                spread([r["accuracy"] for r in mine]),
            ]
        cells += [spread([r[key] for r in mine]) for key in keys]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {len(mine)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Pretrain, probe, and extend the table after every row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--backbone", default="resnet10t")
    parser.add_argument("--patches", type=int, default=250_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--mixed-precision", default="no", choices=("no", "bf16"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--output", default="benchmarks/results/patch-tasks-peta")
    args = parser.parse_args()
    datasets.disable_progress_bars()
    Path(args.work).mkdir(parents=True, exist_ok=True)
    data = load("train", CROPS, args), load("test", None, args)
    for seed in args.seeds:
        for name in [*args.tasks, None]:
            if any((r["task"], r["seed"]) == (name or NONE, seed) for r in read(args)["rows"]):
                continue
            write(args, rows=[row(name, seed, args, data)])
            if name is not None and name not in read(args)["shortcuts"]:
                write(args, shortcuts={name: shortcuts(name, args)})


if __name__ == "__main__":
    main()
