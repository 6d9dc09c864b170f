"""What initial weights achieve with few labels."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from patchit_hf.figures.page import BLUE, FAINT, INK, NAVY, SMALL, SOFT, TEXT, TITLE, with_look
from patchit_hf.metrics.names import short_name

MARKS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", (0, (6, 2)), (0, (1, 2)), (0, (6, 2, 1, 2)), (0, (3, 2, 1, 2, 1, 2)), (0, (10, 4)))
COLOURS = (INK, BLUE, NAVY, SOFT)


@with_look
def label_efficiency(result: dict[str, Any]) -> Figure | None:
    """Draw the primary metric over the number of labels, one line per contender.

    Lines have different marks and dashes and carry their names; error bars are the standard
    deviation over seeds.

    Args:
        result: what ``patchit_hf.compare.cells.run_plan`` returned, with ``task`` and ``test``
            for the axis.

    Returns:
        The figure; None if there is only one number of labels.
    """
    rows = result["rows"]
    counts = sorted({row["labels"] for row in rows})
    if len(counts) < 2:
        return None
    figure = Figure(figsize=(8, 4.6), dpi=125, facecolor="white")
    axes = figure.add_axes((0.09, 0.12, 0.66, 0.74))
    ends = []
    names = list(dict.fromkeys(row["contender"] for row in rows))
    for i, name in enumerate(names):
        aside = 1 + 0.015 * (i - (len(names) - 1) / 2)  # so that no error bar hides another
        mine = sorted((r for r in rows if r["contender"] == name), key=lambda r: r["labels"])
        x = [row["labels"] * aside for row in mine]
        y = [100 * row["mean"] for row in mine]
        bars = [100 * (row["deviation"] or 0.0) for row in mine]
        axes.errorbar(
            x, y, yerr=bars, capsize=3, linewidth=1.6, markersize=6,
            color=COLOURS[i % len(COLOURS)], marker=MARKS[i % len(MARKS)],
            linestyle=LINES[i % len(LINES)],
        )  # fmt: skip
        ends.append((y[-1], name, COLOURS[i % len(COLOURS)]))
    axes.set_xscale("log")
    axes.set_xticks(counts)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(counts[0] * 0.9, counts[-1] * 1.08)
    axes.tick_params(labelsize=SMALL, colors=SOFT)
    axes.grid(axis="y", color=FAINT, linewidth=0.4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("labelled crops", fontsize=TEXT, color=INK)
    axes.set_ylabel(_measured(result), fontsize=TEXT, color=INK)
    low, high = axes.get_ylim()
    for place, name, colour in _apart(ends, (high - low) / 18):
        axes.annotate(
            name, (1.02, place), xycoords=("axes fraction", "data"), va="center",
            fontsize=TEXT, color=colour, annotation_clip=False,
        )  # fmt: skip
    seeds = max(len(row["seeds"]) for row in rows)
    figure.text(
        0.09, 0.93, "What initial weights achieve with few labels", fontsize=TITLE, color=INK
    )
    note = f"Mean over {seeds} seeds; bars are one standard deviation."
    figure.text(0.09, 0.885, note, fontsize=SMALL, color=SOFT)
    return figure


def _measured(result: dict[str, Any]) -> str:
    """Return what the axis shows: the metric, and of what on which split, where that is known."""
    words = f"{short_name(result['primary_metric'])}, %"
    known = [result[key] for key in ("task", "test") if result.get(key)]
    return f"{words}\n{', '.join(known)}" if known else words


def _apart(ends: list[tuple[float, str, str]], least: float) -> list[tuple[float, str, str]]:
    """Move names apart so that none covers another."""
    placed: list[tuple[float, str, str]] = []
    above = -math.inf
    for value, name, colour in sorted(ends):
        place = max(value, above + least)
        placed.append((place, name, colour))
        above = place
    return placed
