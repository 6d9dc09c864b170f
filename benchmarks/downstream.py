"""What pretraining gains for attributes, re-identification, pose and action on real images.

    python benchmarks/downstream.py --list
    python benchmarks/downstream.py --run peta-resnet10t lspet

runs the commands of the named comparisons one after the other. Finished runs are not repeated, and
interrupted ones are continued. The comparisons pretrain on the training split of a data set in
``DATA``, without its labels. They finetune from these weights, from random weights and, for
``mobilenetv2_100``, from ImageNet weights. Results go into ``benchmarks/results/compare-*.json``,
and a table of all of them into ``downstream.md`` in the same folder.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from patchit_hf.metrics.names import short_name

DATA = "../shared/data"
IMAGENET = "../shared/weights/mobilenetv2_100.imagenet.safetensors"
RESULTS = Path("benchmarks/results")
SMALL, LARGE = "128x64", "200x100"  # canvas of standing people
SQUARE = "128x128"  # canvas of people in any pose
RATES = "5e-4 1e-3 2e-3 4e-3"
BUDGET = "--eval-every 0 --save-every 0"

# PRETRAINING[run] = backbone, data set, canvas, options of the task, steps of 256 patches.
PRETRAINING = {
    "peta-resnet10t": ("resnet10t", "peta", SMALL, "patch_size=20", 4000),
    "peta-resnet10t-scale2": ("resnet10t", "peta", SMALL, "patch_size=20 input_scale=2", 1000),
    "peta-resnet10t-scale2-seed43": (
        "resnet10t", "peta", SMALL, "patch_size=20 input_scale=2 --seed 43", 1000,
    ),
    "peta-resnet10t-large": ("resnet10t", "peta", LARGE, "patch_size=32", 4000),
    "peta-resnet10t-large-256k": ("resnet10t", "peta", LARGE, "patch_size=32", 1000),
    "peta-mobilenetv2_100": ("mobilenetv2_100", "peta", SMALL, "patch_size=20", 4000),
    "peta-mobilenetv2_100-scale2-2m": (
        "mobilenetv2_100", "peta", SMALL, "patch_size=20 input_scale=2", 8000,
    ),
    "lspet-resnet10t": ("resnet10t", "lspet", SQUARE, "rows=6 cols=6 patch_size=20", 2000),
    "har-resnet10t": ("resnet10t", "har", SQUARE, "rows=6 cols=6 patch_size=20", 2000),
}  # fmt: skip
PETA = f"--task attributes --dataset {DATA}/peta --input-size {SMALL} --epochs 10"
RESNET = f"{PETA} --backbone resnet10t --init random --init patchit=runs/peta-resnet10t"
CANVAS = (
    f"--task attributes --dataset {DATA}/peta --input-size 192x96 --epochs 10 --backbone resnet10t "
    "--init random --init 256k=runs/peta-resnet10t-large-256k "
    "--init 1024k=runs/peta-resnet10t-large --fractions 0.198"
)
MOBILE = (
    f"{PETA} --backbone mobilenetv2_100 --init random --init patchit=runs/peta-mobilenetv2_100 "
    "--init scale2=runs/peta-mobilenetv2_100-scale2-2m "
    f"--init imagenet={IMAGENET} --reference imagenet"
)
PARTS = f"--fractions 0.099 0.198 --select-at 0.198 --seeds 3 --learning-rates {RATES}"
ALL = f"--fractions 1 --select-at 0.198 --learning-rates {RATES}"
ONCE = "--fractions 0.198 --seeds 3 --learning-rates 1e-3"

# COMPARISONS[name] = folder of its cells, options; a cell of two comparisons runs once. Where a
# full run is long, rates are chosen with a part of the labels. With all of theirs, `viper`, `lspet`
# and `har` would take a CPU core two to three hours each; they have a half or a quarter.
COMPARISONS = {
    "peta-resnet10t": ("peta-resnet10t", f"{RESNET} {PARTS}"),
    "peta-resnet10t-all": ("peta-resnet10t", f"{RESNET} {ALL} --seeds 3"),
    "peta-resnet10t-as-exported": (
        "peta-resnet10t-as-exported",
        f"{RESNET} {ONCE} --no-reestimate-batch-norm",
    ),
    "peta-resnet10t-scale2": (
        "peta-resnet10t",
        f"{RESNET} --init scale2=runs/peta-resnet10t-scale2 "
        f"--init scale2-seed43=runs/peta-resnet10t-scale2-seed43 {ONCE}",
    ),
    "peta-resnet10t-large": (
        "peta-resnet10t-large",
        f"{CANVAS} --seeds 3 --learning-rates {RATES}",
    ),
    "peta-resnet10t-muon": (
        "peta-resnet10t-muon",
        f"{RESNET} --optimizer muon --fractions 0.198 --seeds 3 "
        "--learning-rates 4e-3 8e-3 1.6e-2 3.2e-2",
    ),
    "peta-resnet10t-large-muon": (
        "peta-resnet10t-large-muon",
        f"{CANVAS} --optimizer muon --seeds 1 --learning-rates 4e-3",
    ),
    "peta-mobilenetv2_100": ("peta-mobilenetv2_100", f"{MOBILE} {PARTS}"),
    "peta-mobilenetv2_100-all": ("peta-mobilenetv2_100", f"{MOBILE} {ALL} --seeds 2"),
    "peta-mobilenetv2_100-muon": (
        "peta-mobilenetv2_100-muon",
        f"{PETA} --backbone mobilenetv2_100 --init random --init patchit=runs/peta-mobilenetv2_100 "
        f"--init imagenet={IMAGENET} --reference imagenet --optimizer muon --fractions 0.198 "
        "--seeds 3 --learning-rates 2e-3 4e-3 8e-3 1.6e-2",
    ),
    "viper": (
        "viper",
        f"--task reid --dataset {DATA}/peta --test-dataset {DATA}/viper --input-size {SMALL} "
        "--epochs 10 --backbone resnet10t --init random --init patchit=runs/peta-resnet10t "
        f"--fractions 0.5 --select-at 0.25 --seeds 3 --learning-rates {RATES}",
    ),
    "lspet": (
        "lspet",
        f"--task pose --dataset {DATA}/lspet --input-size {SQUARE} --epochs 10 "
        "--backbone resnet10t --init random --init patchit=runs/lspet-resnet10t "
        f"--fractions 0.25 --select-at 0.25 --seeds 3 --learning-rates {RATES}",
    ),
    "har": (
        "har",
        f"--task action --dataset {DATA}/har --input-size {SQUARE} --epochs 10 "
        "--backbone resnet10t --init random --init patchit=runs/har-resnet10t "
        f"--fractions 0.25 --select-at 0.25 --seeds 3 --learning-rates {RATES}",
    ),
}


def pretraining(run: str) -> list[str]:
    """Return the arguments of a pretraining command, after the name of the module."""
    backbone, data, canvas, options, steps = PRETRAINING[run]
    return shlex.split(
        f"--backbone {backbone} --dataset {DATA}/{data} --canvas {canvas} --task-kwargs {options} "
        f"--max-steps {steps} --eval-every 0.25 --max-eval-crops 660 --no-figures "
        f"--output-dir runs/{run}"
    )


def comparison(name: str) -> list[str]:
    """Return the arguments of a comparison, after the name of the module."""
    folder, options = COMPARISONS[name]
    return shlex.split(f"{options} {BUDGET} --output-dir runs/compare-{folder}")


def needed(name: str) -> list[str]:
    """Return the pretraining run that a comparison starts from."""
    sources = [word.rpartition("=")[2] for word in comparison(name)]
    return [run for run in PRETRAINING if f"runs/{run}" in sources]


def run(name: str) -> None:
    """Run a comparison and the pretraining that it needs, and store its results."""
    for first in needed(name):
        if not Path("runs", first, "patchit.json").exists():
            _python("patchit_hf.pretrain", pretraining(first))
        shutil.copyfile(f"runs/{first}/patchit.json", RESULTS / f"pretrain-{first}.json")
    _python("patchit_hf.compare", comparison(name))
    folder = COMPARISONS[name][0]
    shutil.copyfile(f"runs/compare-{folder}/compare.json", RESULTS / f"compare-{name}.json")
    if name == "viper":
        at_home(f"runs/compare-{folder}")
    (RESULTS / "downstream.md").write_text(table())


def at_home(folder: str) -> None:
    """Also evaluate on PETA's own test split what was finetuned for search in another data set."""
    result = json.loads(Path(folder, "compare.json").read_text())
    found: dict[str, dict[str, Any]] = {}
    for row in result["rows"]:
        cells = f"fraction-{row['fraction']:g}/lr-{row['learning_rate']:g}"
        for seed in row["seeds"]:
            model = f"{folder}/{row['contender']}/{cells}/seed-{seed}"
            output = Path(f"runs/reid-peta-test/{row['contender']}-{seed}")
            words = f"{model} --dataset {DATA}/peta --split test --output-dir {output}"
            if not (output / "metrics.json").exists():
                _python("patchit_hf.evaluate", words.split())
            found[f"{row['contender']}-{seed}"] = json.loads((output / "metrics.json").read_text())
    (RESULTS / "reid-peta-test.json").write_text(json.dumps(found, indent=1) + "\n")


def table() -> str:
    """Return all available results, as Markdown."""
    lines = [
        "| comparison | backbone | figure | labels | init | on the test split | "
        "against random (95 %) | share of the gap | seeds | learning rate | computed on |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in COMPARISONS:
        file = RESULTS / f"compare-{name}.json"
        if file.exists():
            result = json.loads(file.read_text())
            lines += [_line(name, result, row) for row in result["rows"]]
    return "\n".join(lines) + "\n"


def _line(name: str, result: dict[str, Any], row: dict[str, Any]) -> str:
    spread = "" if row["deviation"] is None else f" ± {100 * row['deviation']:.1f}"
    lead = ""
    if "interval" in row:
        low, high = (f"{100 * value:+.1f}" for value in row["interval"])
        lead = f"{100 * row['difference']:+.1f} ({low} to {high})"
    share = row.get("gap_closed")
    edge = ", end of the grid" if row["contender"] in result.get("at_the_edge", ()) else ""
    cells = (
        name, result["backbone"], short_name(result["primary_metric"]), f"{row['labels']:,}",
        row["contender"],
        f"{100 * row['mean']:.1f}{spread}", lead, "" if share is None else f"{100 * share:.0f} %",
        str(len(row["seeds"])), f"{row['learning_rate']:g}{edge}",
        " and ".join(word.partition(",")[0] for word in row["hardware"]),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _python(module: str, words: list[str]) -> None:
    subprocess.run([sys.executable, "-m", module, *words], check=True)


def main() -> None:
    """List the commands, or run some."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--list", action="store_true", help="print every command")
    parser.add_argument("--run", nargs="*", default=[], choices=COMPARISONS, metavar="NAME")
    what = parser.parse_args()
    if what.list:
        listed = [("pretrain", pretraining(name)) for name in PRETRAINING]
        listed += [("compare", comparison(name)) for name in COMPARISONS]
        for module, words in listed:
            sys.stdout.write(f"python -m patchit_hf.{module} {shlex.join(words)}\n")
    for name in what.run:
        run(name)


if __name__ == "__main__":
    main()
