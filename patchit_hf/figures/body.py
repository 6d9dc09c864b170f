"""What the network confuses and how often it is right, drawn on the mean crop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from patchit_hf.figures.cells import coverage, layers, rows
from patchit_hf.figures.page import (
    FAINT,
    HEAT,
    INK,
    MARGIN,
    SMALL,
    TEXT,
    TITLE,
    WIDTH,
    Array,
    Page,
    Panel,
    halo,
    ink_on,
    page_width,
    with_look,
)

SCALE = 3  # pixels of a drawn body per pixel of the canvas, before it is resized to its panel
PANELS_A_LINE, TALLEST = 8, 420  # bodies per line, and maximum height of a body in pixels
GAP, BREAK = 10, 26  # between the panels of a row of cells, and between rows, in pixels
COLUMN_SHAPE = 2.2  # largest height of a figure in a paper's column, in widths: 7.4 inches
NAME = 24  # room for a panel's name above it, in pixels
WORTH_A_NUMBER, READABLE = (
    0.05,
    18,
)  # minimum share of the patches, and width of a cell in pixels, to write a number


def mean_crop(crops: Tensor) -> Tensor:
    """Return the mean of uint8 crops ``[N, 3, H, W]``: float32 ``[H, W, 3]`` in [0, 1].

    Example:
        >>> mean_crop(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1))
        tensor([[[0.5000, 0.5000, 0.5000]]])
    """
    total = torch.zeros(crops.shape[1:], dtype=torch.int64, device=crops.device)
    for part in crops.split(256):
        total += part.sum(0, dtype=torch.int64)
    return (total.cpu().double() / max(len(crops), 1) / 255).permute(1, 2, 0).to(torch.float32)


@with_look
def confusion_on_body(confusion: Tensor, boxes: Tensor, mean: Tensor) -> Figure:
    """Draw, for every true cell, where the network places its patches.

    Where cells of several sizes overlap, their shares add up.

    Args:
        confusion: counts ``[C, C]``; rows are true cells, columns predicted ones.
        boxes: the cells, xyxy in pixels of the canvas, int64 ``[C, 4]``.
        mean: the mean crop, ``[H, W, 3]`` in [0, 1].
    """
    shares, cells = _shares(confusion), boxes.cpu().numpy()
    canvas = (mean.shape[0], mean.shape[1])
    sheets = layers(cells)
    groups = [row for layer in sheets for row in rows(cells, layer)]
    (first, *places), width, height = _arrange([1, *map(len, groups)], canvas)
    page = Page(
        height,
        "Where the network puts the patches of each cell",
        "One body per cell, marked by the number above it and a thick frame; first, the mean.\n"
        "The darker an area, the more of this cell's patches the network puts there, in per cent."
        + (" Overlapping cells add up." if len(sheets) > 1 else ""),
        key=True,
    )
    norm = PowerNorm(0.5, 0, 1)
    page.heat_key([0, 0.25, 0.5, 0.75, 1], norm, "share of the cell's patches")
    page.picture(_enlarged(mean.numpy()), *first, width, canvas).name("mean", canvas)
    for number, (left, top) in zip(np.concatenate(groups).tolist(), places, strict=True):
        heat = HEAT(norm(_enlarged(coverage(cells, shares[number], canvas))))[..., :3]
        panel = page.picture(heat, left, top, width, canvas)
        panel.name(str(number), canvas, fontweight="bold")
        sheet = next(layer for layer in sheets if number in layer)
        for other in sheet:
            panel.frame(cells[other], color=FAINT)
        panel.frame(cells[number], 3 if page_width() == WIDTH else 2, INK, halo=1)
        if len(sheets) > 1:
            _number(panel, cells[number], shares[number, number], TEXT - 1, path_effects=halo())
            continue
        for other in sheet[(shares[number, sheet] >= WORTH_A_NUMBER) | (sheet == number)]:
            share = shares[number, other]
            _number(panel, cells[other], share, TEXT - 1, color=ink_on(HEAT(norm(share))))
    return page.finish()


@with_look
def accuracy_on_body(confusion: Tensor, boxes: Tensor, mean: Tensor) -> Figure:
    """Draw how often the patches of each cell are recognised.

    For a single grid of cells, also draw how often the patches put into a cell belong there.

    Args:
        confusion: counts ``[C, C]``; rows are true cells, columns predicted ones.
        boxes: the cells, xyxy in pixels of the canvas, int64 ``[C, 4]``.
        mean: the mean crop, ``[H, W, 3]`` in [0, 1].
    """
    cells, canvas = boxes.cpu().numpy(), (mean.shape[0], mean.shape[1])
    panels = _accuracies(confusion, cells)
    count, top = len(panels) + 1, 2 * NAME
    width = (page_width() - 2 * MARGIN - BREAK * (count - 1)) / count
    width = min(width, 1.5 * TALLEST * canvas[1] / canvas[0])
    page = Page(
        top + width * canvas[0] / canvas[1],
        "How often the patches of each cell are recognised",
        _summary(confusion, cells),
        key=True,
    )
    page.heat_key([0, 0.25, 0.5, 0.75, 1], Normalize(0, 1), "share of patches")
    left = (page.width - count * width - (count - 1) * BREAK) / 2
    panel = page.picture(_enlarged(mean.numpy()), left, top, width, canvas)
    panel.name("mean crop", canvas)
    for name, values, sheet in panels:
        left += width + BREAK
        heat = np.ones((*canvas, 3))
        for number in sheet:
            x0, y0, x1, y1 = cells[number]
            heat[y0:y1, x0:x1] = HEAT(values[number])[:3]
        panel = page.picture(_enlarged(heat), left, top, width, canvas)
        panel.name(name, canvas)
        for number in sheet:
            panel.frame(cells[number])
            ink = ink_on(HEAT(values[number]))
            _number(panel, cells[number], values[number], TITLE, color=ink, fontweight="bold")
    return page.finish()


def _number(panel: Panel, box: Array, share: float, size: float, **options: Any) -> None:
    """Write a share in per cent into a cell; smaller in a small cell, not at all in a tiny one."""
    x0, _, x1, _ = panel.place(box)
    if x1 - x0 >= READABLE:
        fitting = size if x1 - x0 >= 2.5 * READABLE else min(size, SMALL)
        panel.label(box, f"{100 * share:.0f}", fitting, **options)


def _shares(confusion: Tensor) -> Array:
    counts = confusion.cpu().numpy().astype(np.float64)
    shares: Array = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares


def _accuracies(confusion: Tensor, cells: Array) -> list[tuple[str, Array, Array]]:
    """Return the panels: what is counted, its share for every cell, and the cells drawn."""
    right, sheets = np.diag(_shares(confusion)), layers(cells)
    if len(sheets) == 1:
        precision = np.diag(_shares(confusion.T))
        names = (
            "% of the patches cut here\nthat the network puts here",
            ("% of the patches put here\nthat were cut here"),
        )
        if page_width() < WIDTH:
            names = "cut here:\n% put here", "put here:\n% cut here"
        return [(names[0], right, sheets[0]), (names[1], precision, sheets[0])]
    sizes = [cells[sheet[0], 2:] - cells[sheet[0], :2] for sheet in sheets]
    return [
        (f"cells of {wide}x{high} px:\n% put back here", right, sheet)
        for (wide, high), sheet in zip(sizes, sheets, strict=True)
    ]


def _enlarged(values: Array) -> Array:
    """Repeat each pixel of ``[H, W, ...]``."""
    large: Array = values.repeat(SCALE, 0).repeat(SCALE, 1)
    return large


def _arrange(
    groups: list[int], canvas: tuple[int, int]
) -> tuple[list[tuple[float, float]], float, float]:
    """Arrange panels in lines; a group, one row of cells, stays together.

    Args:
        groups: number of panels in each group.
        canvas: height and width of a body, in pixels.

    Returns:
        Left and top of each panel, the width of a panel, and the total height, in pixels.
    """
    share = page_width() / WIDTH
    least, fitting = round(PANELS_A_LINE * share), math.sqrt(2 * share * sum(groups))
    a_line = max(least, math.ceil(fitting), *groups)
    lines, width = _lines(groups, a_line, canvas)
    while share < 1 and a_line < sum(groups):  # a column is no longer than its page
        height = width * canvas[0] / canvas[1] + NAME + GAP
        if len(lines) * height <= COLUMN_SHAPE * page_width():
            break
        a_line += 1
        lines, width = _lines(groups, a_line, canvas)
    height = width * canvas[0] / canvas[1] + NAME
    places = []
    for turn, line in enumerate(lines):
        left = float(MARGIN)
        for group in line:
            for _ in range(group):
                places.append((left, turn * (height + GAP) + NAME))
                left += width + GAP
            left += BREAK - GAP
    return places, width, len(lines) * (height + GAP) - GAP


def _lines(
    groups: list[int], a_line: int, canvas: tuple[int, int]
) -> tuple[list[list[int]], float]:
    """Return the groups of each line, of at most ``a_line`` panels, and a panel's width."""
    lines: list[list[int]] = [[]]
    for group in groups:
        if lines[-1] and sum(lines[-1]) + group > a_line:
            lines.append([])
        lines[-1].append(group)
    room = page_width() - 2 * MARGIN
    spare = [GAP * (sum(line) - len(line)) + BREAK * (len(line) - 1) for line in lines]
    width = min((room - s) / sum(line) for s, line in zip(spare, lines, strict=True))
    width = min(width, TALLEST * canvas[1] / canvas[0])
    return lines, width if page_width() == WIDTH else math.floor(width)


def _summary(confusion: Tensor, boxes: Array) -> str:
    """Describe how often the cell, its row and its column were right."""
    counts = confusion.cpu().numpy()
    total = max(int(counts.sum()), 1)
    same_row = (boxes[:, None, [1, 3]] == boxes[None, :, [1, 3]]).all(2)
    same_column = (boxes[:, None, [0, 2]] == boxes[None, :, [0, 2]]).all(2)
    return (
        f"Right cell {np.trace(counts) / total:.0%}, right row {counts[same_row].sum() / total:.0%}"
        f", right column {counts[same_column].sum() / total:.0%}\n"
        f"of {int(counts.sum()):,} held-out patches."
    )
