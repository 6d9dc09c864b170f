"""The questions that the network is asked about single crops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from patchit_hf.common.draws import Draws
from patchit_hf.figures.cells import layers
from patchit_hf.figures.page import (
    INK,
    MARGIN,
    SMALL,
    SOFT,
    TEXT,
    Array,
    Page,
    halo,
    page_width,
    photo,
    with_look,
)
from patchit_hf.patch_tasks.base import PatchBatch, PatchTask, task_name

CROP_HEIGHT = 380  # maximum height of the crops with their cells, in pixels
GAP, BREAK = 8, 28  # between images, and between parts of the page, in pixels
NAME = 19  # room for a question's answer above it, in pixels
MOST = 30  # questions drawn per crop


class Questions(NamedTuple):
    """Questions about several crops.

    Attributes:
        pictures: in [0, 1], ``[n, q, K, S, S, 3]``: for each of n crops, q questions of K patches.
        answers: the right answers, int64 ``[n, q]``.
    """

    pictures: Array
    answers: Array


def questions(task: PatchTask, batch: PatchBatch, crops: int) -> Questions:
    """Return a batch's questions crop by crop."""
    pictures = task.transform.colours(task.examples(batch)).unflatten(0, (crops, -1))
    return Questions(pictures.numpy(), task.truth(batch.targets).view(crops, -1).cpu().numpy())


def in_order(asked: Questions) -> Questions:
    """Sort the questions about each crop by their answers."""
    order = asked.answers.argsort(axis=1, kind="stable")
    rows = np.arange(len(order))[:, None]
    return Questions(asked.pictures[rows, order], asked.answers[rows, order])


@with_look
def labelled_patches(
    task: PatchTask, crops: Tensor, draws: Draws, name: Callable[[int], str] = str
) -> Figure:
    """Draw crops with their cells, and the questions about them with the right answers.

    Args:
        task: the task that asks the questions.
        crops: uint8 ``[N, 3, H, W]``; two are drawn, the others give examples from training.
        draws: the draws for these crops, as in evaluation.
        name: turns an answer into its label.
    """
    whole = min(len(crops), 2)
    some = Draws(draws.seed, draws.numbers[:whole], draws.device)
    asked = in_order(questions(task, task.sample_all(crops[:whole], some), whole))
    trained = questions(task, task.sample(crops, draws), len(crops))
    cells = _cells(task)
    sheets = layers(cells) or [np.arange(0)]
    width = min(
        CROP_HEIGHT * task.canvas[1] / task.canvas[0], 0.6 * page_width() / len(sheets) - GAP
    )
    left = MARGIN + len(sheets) * (width + GAP) + BREAK - GAP
    count = asked.pictures.shape[2]
    strip = _Strip(count)
    page = Page(
        whole * (CROP_HEIGHT + BREAK) + strip.height,
        f"What the network is asked: task {task_name(task)}",
        f"Left: crops{' with the numbers of the cells' if len(cells) else ''}. "
        f"Right: {_what(count)}, as the network sees them; above, the right answer.",
    )
    for turn in range(whole):
        top = turn * (CROP_HEIGHT + BREAK)
        for place, sheet in enumerate(sheets):
            at = MARGIN + place * (width + GAP)
            panel = page.picture(photo(crops[turn]), at, top, width, task.canvas)
            for number in sheet:
                panel.frame(cells[number], 1, INK, halo=1)
                panel.label(cells[number], str(number), path_effects=halo(), fontweight="bold")
        right = (page_width() - MARGIN - left, CROP_HEIGHT)
        _draw_questions(page, asked, turn, (left, top), right, name)
    top = whole * (CROP_HEIGHT + BREAK)
    page.write(MARGIN, top, f"In training{_options(task)}:", SMALL, color=SOFT, va="top")
    _draw_strip(page, trained, top + NAME, strip, name)
    return page.finish()


class _Strip(NamedTuple):
    """A row of questions from training."""

    pictures: int  # of a question

    @property
    def side(self) -> float:
        """Side of an image, in pixels."""
        return 64.0 if self.pictures == 1 else min(64.0, 130.0 / _pattern(self.pictures)[0])

    @property
    def height(self) -> float:
        """Height including the heading, in pixels."""
        return 2 * NAME + _pattern(self.pictures)[0] * self.side


def _pattern(count: int) -> tuple[int, int]:
    """Return rows and columns of the images of one question."""
    columns = count if count <= 4 else math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns


def _draw_questions(
    page: Page,
    asked: Questions,
    person: int,
    corner: tuple[float, float],
    room: tuple[float, float],
    name: Callable[[int], str],
) -> None:
    """Draw a crop's questions, as large as they fit into a rectangle; sizes are in pixels."""
    total = asked.answers.shape[1]
    chosen = np.unique(np.linspace(0, total - 1, min(total, MOST)).round().astype(int))
    rows, columns = _pattern(asked.pictures.shape[2])
    side, across = 0.0, 1
    for a_line in range(1, len(chosen) + 1):
        lines = math.ceil(len(chosen) / a_line)
        wide = (room[0] + 2 * GAP) / a_line - 2 * GAP
        high = (room[1] + GAP) / lines - GAP - NAME
        fits = min(wide / columns, high / rows)
        if fits > side:
            side, across = fits, a_line
    for turn, number in enumerate(chosen):
        line, column = divmod(turn, across)
        left = corner[0] + column * (columns * side + 2 * GAP)
        top = corner[1] + line * (rows * side + NAME + GAP)
        text = name(int(asked.answers[person, number]))
        _draw_question(page, asked.pictures[person, number], (left, top), side, text)


def _draw_question(
    page: Page, pictures: Array, corner: tuple[float, float], side: float, text: str
) -> None:
    left, top = corner
    columns = _pattern(len(pictures))[1]
    page.write(left, top + NAME - 4, text, TEXT, va="bottom", fontweight="bold", color=INK)
    for turn, picture in enumerate(pictures):
        line, column = divmod(turn, columns)
        at = (left + column * side, top + NAME + line * side)
        height, width = picture.shape[:2]
        page.picture(picture, *at, (side - 2) * min(1.0, width / height), (height, width))


def _draw_strip(
    page: Page, trained: Questions, top: float, strip: _Strip, name: Callable[[int], str]
) -> None:
    pitch = _pattern(strip.pictures)[1] * strip.side + 2 * GAP
    for turn in range(
        min(len(trained.answers), int((page_width() - 2 * MARGIN + 2 * GAP) // pitch))
    ):
        text = name(int(trained.answers[turn, 0]))
        corner = (MARGIN + turn * pitch, top)
        _draw_question(page, trained.pictures[turn, 0], corner, strip.side, text)


def _cells(task: PatchTask) -> Array:
    """Return the boxes of the task's cells, ``[C, 4]``, even if the answers are not cells."""
    if task.boxes is not None:
        return task.boxes.cpu().numpy()
    boxes: Array = task.grid.boxes.cpu().numpy()
    return boxes if len(boxes) > 1 else boxes[:0]


def _what(pictures: int) -> str:
    if pictures == 1:
        return "patches"
    return f"questions of {pictures} patches" + (" in reading order" if pictures > 2 else "")


def _options(task: PatchTask) -> str:
    """Describe the random options used in training."""
    names = [f"{k} {v:g}" for k, v in task.transform.options.items() if _random(k, v)]
    return f", with {', '.join(names)}" if names else ""


def _random(option: str, value: Any) -> bool:
    return bool(value) and option not in ("standardize", "input_scale")
