"""Accuracy and loss during training, compared with chance and with simple cues."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import blended_transform_factory

from patchit_hf.figures.page import (
    BLUE,
    FAINT,
    INK,
    MARGIN,
    NAVY,
    SMALL,
    SOFT,
    TEXT,
    Page,
    page_width,
    with_look,
)

HELD_OUT, TRAINING = NAVY, BLUE
DASHES = ((0, (1, 2)), (0, (6, 2)), (0, (6, 2, 1, 2)), (0, (3, 2, 1, 2, 1, 2)), (0, (10, 4)))
LEFT, NAMES = 82, 216  # room for the axis labels and for the names of the lines, in pixels
TALL, SHORT, BETWEEN, FOOT = 340, 170, 26, 44  # heights of the parts, in pixels
LETTERS = 17  # height of a line's name, in pixels
UNITS = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"))


class End(NamedTuple):
    """The end of a line, and the label written there."""

    x: float
    y: float
    name: str
    color: str


@with_look
def learning_curve(
    entries: list[dict[str, Any]], chance: float, baselines: dict[str, float] | None = None
) -> Figure | None:
    """Draw accuracy and loss over the samples seen.

    Args:
        entries: the lines of ``metrics.jsonl``.
        chance: accuracy of guessing.
        baselines: accuracies of methods that need no network, by name.

    Returns:
        The figure; None if there is no accuracy to draw.
    """
    if not any("train_accuracy" in e or "eval_accuracy" in e for e in entries):
        return None
    page = Page(
        TALL + BETWEEN + SHORT + FOOT,
        "How often the answer is right, while training",
        "Held-out crops: at each point. Training: the mean since the previous point, drawn halfway "
        "between the two.\nLevel lines: accuracy by chance, or from simple cues alone.",
    )
    unit, name = _unit(max(float(e["samples"]) for e in entries))
    width = page_width() - MARGIN - LEFT - min(NAMES, round(0.34 * page_width()))
    upper = page.axes(LEFT, 0, width, TALL)
    lower = page.axes(LEFT, TALL + BETWEEN, width, SHORT)
    ends = _draw_lines(upper, entries, "accuracy", unit)
    ends += _draw_levels(upper, {"chance": chance, **(baselines or {})})
    highest = max(float(y) for line in upper.lines for y in line.get_ydata())
    upper.set_ylim(0, min(1.0, 1.08 * highest))
    upper.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))
    upper.set_ylabel("right answers", fontsize=TEXT)
    upper.tick_params(labelbottom=False)
    lower_ends = _draw_lines(lower, entries, "loss", unit)
    lower.set_ylabel("loss", fontsize=TEXT)
    lower.set_xlabel(f"samples seen{name}", fontsize=TEXT)
    for axes in (upper, lower):  # matplotlib puts the labels beside the numbers, off the page
        at_the_edge = blended_transform_factory(page.figure.transFigure, axes.transAxes)
        axes.yaxis.set_label_coords(18 / page_width(), 0.5, transform=at_the_edge)
    for axes, height, named in ((upper, TALL, ends), (lower, SHORT, lower_ends)):
        _dress(axes, float(entries[-1]["samples"]) / unit)
        _name_lines(axes, height, named)
    return page.finish()


def _unit(largest: float) -> tuple[float, str]:
    for unit, name in UNITS:
        if largest >= 2 * unit:
            return unit, f", {name}"
    return 1.0, ""


def series(entries: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """Return samples and finite values; a mean since the last entry is placed halfway between."""
    points, before = [], 0.0
    for entry in entries:
        samples = float(entry["samples"])
        if math.isfinite(entry.get(key, math.nan)):
            x = (before + samples) / 2 if key.startswith("train_") else samples
            points.append((x, float(entry[key])))
        before = samples
    return points


def _draw_lines(axes: Any, entries: list[dict[str, Any]], what: str, unit: float) -> list[End]:
    """Draw a quantity in training and on held-out crops; return the ends of the lines."""
    ends = []
    for key, name, color, style in (
        (f"train_{what}", "training", TRAINING, (0, (4, 2))),
        (f"eval_{what}", "held-out crops", HELD_OUT, "solid"),
    ):
        line = [(x / unit, y) for x, y in series(entries, key)]
        if not line:
            continue
        marker = "o" if key.startswith("eval_") or len(line) == 1 else None
        x, y = zip(*line, strict=True)
        options = {"linestyle": style, "linewidth": 2, "marker": marker, "markersize": 4.5}
        axes.plot(x, y, color=color, label=name, clip_on=False, **options)
        value = f"{100 * y[-1]:.1f}%" if what == "accuracy" else f"{y[-1]:.3g}"
        ends.append(End(x[-1], y[-1], f"{name} {value}", color))
    return ends


def _draw_levels(axes: Any, levels: dict[str, float]) -> list[End]:
    ends = []
    for turn, (name, value) in enumerate(levels.items()):
        style = DASHES[turn % len(DASHES)]
        axes.axhline(value, color=SOFT, linestyle=style, linewidth=1.2, label=name, zorder=1)
        words = name.replace("_", " ")  # such as edge_energy
        ends.append(End(float("inf"), value, f"{words} {100 * value:.1f}%", SOFT))
    return ends


def _dress(axes: Any, last: float) -> None:
    axes.set_xlim(0, last * 1.01)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(labelsize=SMALL, color=FAINT, length=3)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def _name_lines(axes: Any, height: float, ends: list[End]) -> None:
    """Write each line's name to the right of its end, moved apart where names would touch."""
    low, high = axes.get_ylim()
    right = axes.get_xlim()[1]
    ends = sorted(ends, key=lambda end: end.y)
    wanted = [(end.y - low) / (high - low) * height for end in ends]
    for end, place in zip(ends, spread(wanted, LETTERS, height), strict=True):
        axes.annotate(
            end.name,
            xy=(min(end.x, right), end.y),
            xytext=(1.025, place / height),
            textcoords="axes fraction",
            fontsize=SMALL + 0.5,
            fontweight="bold" if end.color == HELD_OUT else "normal",
            color=INK if end.color == SOFT else end.color,
            va="center",
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkB": 3},
            annotation_clip=False,
        )


def spread(places: list[float], gap: float, height: float) -> list[float]:
    """Move positions apart, as little as needed, so that they keep a minimum distance.

    Args:
        places: positions in ascending order, in pixels.
        gap: minimum distance, in pixels.
        height: upper limit of the positions, in pixels; exceeded only if there is no room.

    Example:
        >>> spread([10.0, 12.0, 90.0], gap=10, height=100)
        [6.0, 16.0, 90.0]
    """
    groups: list[tuple[float, int]] = []  # centre and members of what has been pushed together
    for place in places:
        centre, count = min(max(place, 0.0), height), 1
        while groups:
            other, members = groups[-1]
            if centre - other >= gap * (count + members) / 2:
                break
            groups.pop()
            centre = (centre * count + other * members) / (count + members)
            count += members
            half = gap * (count - 1) / 2
            centre = max(min(centre, height - half), half)
        groups.append((centre, count))
    return [centre + gap * (i - (n - 1) / 2) for centre, n in groups for i in range(n)]
