import math

import numpy as np
import pytest
import torch

from patchit_hf import create_task
from patchit_hf.audit.cues import (
    CUES,
    border_pixels,
    colour_histogram,
    cues,
    edge_energy,
    held_out_questions,
    mean_colour,
    training_questions,
)
from patchit_hf.common.draws import Draws
from patchit_hf.patch_tasks import list_tasks
from tests.audit.planted import CANVAS, GRID


@pytest.fixture
def pictures():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _random_crops(count, canvas):
    return torch.randint(
        0, 256, (count, 3, *canvas), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def test_mean_colour_is_that_of_a_loop(pictures):
    for picture, found in zip(pictures.numpy(), mean_colour(pictures).numpy(), strict=True):
        assert found == pytest.approx([channel.mean() for channel in picture], abs=1e-6)


def test_colour_histogram_is_that_of_a_loop(pictures):
    pictures[0, 0, 0, 0], pictures[0, 1, 0, 0] = -100, 100  # outliers count at the ends
    edges = [-math.inf, *(-2.5 + 5 / 16 * i for i in range(1, 16)), math.inf]
    for picture, found in zip(pictures.numpy(), colour_histogram(pictures).numpy(), strict=True):
        naive = [np.histogram(channel, edges)[0] / 1024 for channel in picture]
        assert found == pytest.approx(np.concatenate(naive), abs=1e-6)


def test_edge_energy_is_that_of_a_loop(pictures):
    found = edge_energy(pictures)[0].numpy()
    grey, naive = pictures[0].mean(0).numpy().astype(np.float64), []
    for scale in (1, 2, 4):
        side = 32 // scale
        small = grey.reshape(side, scale, side, scale).mean((1, 3))
        for steps in (np.abs(np.diff(small, axis=1)), np.abs(np.diff(small, axis=0))):
            rows = _halves(steps.shape[0])
            naive += [steps[y][:, x].mean() for y in rows for x in _halves(steps.shape[1])]
    assert found == pytest.approx(np.log(np.array(naive) + 0.01), abs=1e-4)


def _halves(length):
    return slice(0, math.ceil(length / 2)), slice(length // 2, length)


def test_border_pixels_are_those_of_a_loop(pictures):
    picture = pictures[0].numpy()
    strips = [picture[:, :2].mean(1), picture[:, -2:].mean(1)]
    strips += [picture[:, :, :2].mean(2), picture[:, :, -2:].mean(2)]
    naive = [strip.reshape(3, 4, 8).mean(2).ravel() for strip in strips]
    naive += [strip.std(1, ddof=1) for strip in strips]
    assert border_pixels(pictures)[0].numpy() == pytest.approx(np.concatenate(naive), abs=1e-5)


def test_pictures_of_a_puzzle_show_where_they_run_on():
    tall = torch.randn(1, 3, 1, 64, generator=torch.Generator().manual_seed(0)).cumsum(3)
    wide = tall.expand(1, 3, 32, 64) + 5 * torch.arange(32.0)[:, None]
    puzzle = torch.stack([wide[..., 32:], wide[..., :32]], 1)  # right half, left half
    seams = cues(puzzle)["border_pixels"][0, -8:-4].view(2, 2)  # [right side of, left side of]
    assert seams.argmin() == 2  # the second picture goes on in the first


@pytest.mark.parametrize("side", [4, 8, 20, 64])
def test_sizes(side):
    seen = cues(torch.randn(5, 2, 3, side, side))
    seams = 2 * 2 * 2
    assert {name: tuple(x.shape) for name, x in seen.items()} == {
        "mean_colour": (5, 6),
        "colour_histogram": (5, 96),
        "edge_energy": (5, 48),
        "border_pixels": (5, 120 + seams),
    }
    assert all(x.isfinite().all() for x in seen.values())


def test_an_enlarged_picture_says_what_the_picture_says(pictures):
    large = torch.nn.functional.interpolate(pictures, scale_factor=3, mode="nearest")
    for name, seen in cues(pictures[:, None]).items():
        assert torch.allclose(cues(large[:, None])[name], seen, atol=2e-4), name


def test_a_standardised_patch_has_no_mean_colour():
    task = create_task("position", CANVAS, **GRID, standardize=True)
    seen = training_questions(task, _random_crops(8, CANVAS), 0).seen
    assert (seen["mean_colour"] == 0).all()
    assert np.ptp(seen["border_pixels"]) > 0


@pytest.mark.parametrize("name", list_tasks())
def test_every_task_can_be_asked(name):
    task = create_task(name)
    crops = _random_crops(3, task.canvas)
    for questions in (training_questions(task, crops, 0), held_out_questions(task, crops, 0)):
        assert set(questions.seen) == set(CUES)
        assert all(np.isfinite(x).all() for x in questions.seen.values())
        assert {len(x) for x in questions.seen.values()} == {len(questions.truth)}
        assert 0 <= questions.truth.min() <= questions.truth.max() < task.num_classes


def test_questions_belong_to_their_answers():
    task = create_task("position", CANVAS, **GRID)
    crops = _random_crops(150, CANVAS)
    asked = held_out_questions(task, crops, 0)
    assert asked.starts == list(range(0, 75 * 36, 36))  # two crops a group, every question
    seen, truth = [], []
    for rows in torch.arange(150).split(2):
        batch = task.sample_all(crops[rows], Draws(0, rows))
        order = task.truth(batch.targets)
        seen.append(batch.inputs.mean((2, 3)))
        truth.append(order)
    for cell in (0, 7, 17):
        naive = torch.cat(seen)[torch.cat(truth) == cell].numpy()
        found = asked.seen["mean_colour"][asked.truth == cell]
        assert np.sort(found, 0) == pytest.approx(np.sort(naive, 0), abs=1e-4)


def test_random_options_are_for_training_alone():
    task = create_task("position", CANVAS, **GRID, grayscale=1.0)
    crops = _random_crops(4, CANVAS)
    red, green, _ = training_questions(task, crops, 0).seen["mean_colour"].T
    assert red == pytest.approx(green, abs=2e-4)
    red, green, _ = held_out_questions(task, crops, 0).seen["mean_colour"].T
    assert np.abs(red - green).max() > 0.01
