"""Draw what claim.py has recorded on the test split: gains over their cost, and by attribute.

    python benchmarks/claim_plots.py

writes ``docs/adapt-cost.png`` and ``docs/adapt-attributes.png``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from claim_figures import Difference, by_key, difference, spread
from claim_plan import IMAGENET, LITE, MOBILENET
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from patchit_hf.figures.page import BLUE, FAINT, INK, NAVY, SMALL, SOFT, TEXT, TITLE, with_look

NAMES = {
    "imagenet-octaves": "adapt",
    "imagenet-position": "position",
    "imagenet-embed-kept": "half kept",
    "imagenet-embed": "embed",
}
LOOKS = {MOBILENET: ("o", NAVY), LITE: ("s", BLUE)}
MARKS = f"circles are {MOBILENET}, squares {LITE}"
METRICS = {
    "attributes_map": "attributes after finetuning, mean AP",
    "person_map": "the same person, without labels, mAP",
}
Records = Sequence[dict[str, Any]]


def test_records(folder: Path, backbone: str) -> Records:
    """Return the records of a network on the test split."""
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*-test-*.json"))]
    return [r for r in found if r["asked"]["backbone"] == backbone and r["bench"] == "test"]


def minutes(records: Records, start: str) -> float:
    """Return the CPU-minutes of a start's pretraining."""
    mine = [r for r in records if r["kind"] == "pretrain" and r["asked"]["start"] == start]
    return statistics.mean(r["cpu_seconds"] for r in mine) / 60


def gains_by_attribute(records: Records, start: str) -> dict[str, Difference]:
    """Return the gain over ImageNet's weights in each attribute's AP, paired by seed and draw."""
    found: dict[str, dict[tuple[int, int], dict[str, float]]] = {}
    for record in records:
        asked = record["asked"]
        usual = record["kind"] == "finetune" and "column" not in asked
        if usual and "ap" in record:
            found.setdefault(asked["start"], {})[asked["seed"], asked["draw"]] = record["ap"]
    mine, base = found[start], found[IMAGENET]
    keys = sorted(mine.keys() & base.keys())
    return {
        name: spread([100 * (mine[key][name] - base[key][name]) for key in keys])
        for name in base[keys[0]]
    }


@with_look
def over_cost(records: dict[str, Records]) -> Figure:
    """Draw each start's gain over ImageNet's weights over the CPU-minutes that it costs.

    Args:
        records: of each network.
    """
    figure = Figure(figsize=(8, 4.2), dpi=125, facecolor="white")
    for number, (metric, name) in enumerate(METRICS.items()):
        axes = figure.add_axes((0.075 + 0.48 * number, 0.13, 0.4, 0.66))
        _bare(axes)
        points = []
        for backbone, mine in records.items():
            mark, colour = LOOKS[backbone]
            values = by_key(mine, metric)
            for start, label in NAMES.items():
                gain = difference(values.get(start, {}), values.get(IMAGENET, {}))
                if gain is None or gain.interval is None:
                    continue
                x, bars = minutes(mine, start), [[gain.mean - gain.interval[0]]] * 2
                axes.errorbar(
                    x, gain.mean, yerr=bars, color=colour, marker=mark, capsize=3, markersize=6,
                    linewidth=1.4,
                )  # fmt: skip
                points.append((gain.mean, x, label, colour))
        axes.set_xlim(0, 20)
        axes.set_xticks(range(0, 21, 5))
        low, high = axes.get_ylim()
        above = low
        for y, x, label, colour in sorted(points):
            above = max(y, above + (high - low) / 24)  # so that no name covers another
            axes.annotate(
                label, (x + 0.45, above), fontsize=SMALL, color=colour, va="center", zorder=5,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )  # fmt: skip
        axes.set_xlabel("CPU-minutes of pretraining", fontsize=TEXT, color=INK)
        axes.set_title(name, fontsize=TEXT, color=INK, loc="left")
        if number == 0:
            axes.set_ylabel("points above ImageNet's weights", fontsize=TEXT, color=INK)
    figure.text(
        0.04, 0.93, "What adapting ImageNet's weights wins, and costs", fontsize=TITLE, color=INK
    )
    note = f"PETA's test persons; {MARKS}; bars are 95 % intervals of paired differences,"
    note += "\nhalf kept is embed with --keep-initial 0.5."
    figure.text(0.04, 0.855, note, fontsize=SMALL, color=SOFT, linespacing=1.4)
    return figure


@with_look
def by_attribute(records: dict[str, Records], start: str) -> Figure:
    """Draw a start's gain over ImageNet's weights in each attribute, largest first.

    Args:
        records: of each network.
        start: name of the start.
    """
    gains = {backbone: gains_by_attribute(mine, start) for backbone, mine in records.items()}
    names = list(next(iter(gains.values())))
    mean = {name: statistics.mean(each[name].mean for each in gains.values()) for name in names}
    names.sort(key=lambda name: mean[name])
    figure = Figure(figsize=(8, 9), dpi=125, facecolor="white")
    axes = figure.add_axes((0.24, 0.06, 0.72, 0.85))
    _bare(axes, "x")
    for number, (backbone, each) in enumerate(gains.items()):
        mark, colour = LOOKS[backbone]
        for row, name in enumerate(names):
            gain, place = each[name], row + 0.16 - 0.32 * number
            axes.plot(gain.interval, (place, place), color=colour, linewidth=1.2)
            axes.plot(gain.mean, place, color=colour, marker=mark, markersize=4.5)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.8, len(names) - 0.2)
    axes.set_xlabel("points of average precision above ImageNet's weights", fontsize=TEXT)
    word = NAMES[start]
    figure.text(0.04, 0.965, f"What {word} wins in each attribute", fontsize=TITLE, color=INK)
    note = f"PETA's test persons, 1,600 labels, {MARKS}; lines are 95 % intervals of six pairs."
    figure.text(0.04, 0.94, note, fontsize=SMALL, color=SOFT)
    return figure


def _bare(axes: Axes, grid: str = "y") -> None:
    """Give axes a line at zero, a grid, and no frame."""
    line = axes.axhline if grid == "y" else axes.axvline
    line(0, color=INK, linewidth=0.8)
    axes.grid(axis="y" if grid == "y" else "x", color=FAINT, linewidth=0.4)
    axes.tick_params(labelsize=SMALL, colors=SOFT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def main() -> int:
    """Draw the figures; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/claim"))
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder of the figures")
    args = parser.parse_args()
    records = {backbone: test_records(args.results, backbone) for backbone in LOOKS}
    over_cost(records).savefig(args.output / "adapt-cost.png")
    by_attribute(records, "imagenet-octaves").savefig(args.output / "adapt-attributes.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
