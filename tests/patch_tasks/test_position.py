import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks import create_task
from patchit_hf.patch_tasks.grid import Grid, cut_patches


def coordinates(height, width, count=1):
    """Crops whose first two channels are a pixel's own y and x."""
    y, x = np.mgrid[0:height, 0:width]
    crop = np.stack([y, x, 0 * y], axis=0).astype(np.uint8)
    return torch.from_numpy(crop).expand(count, -1, -1, -1)


def test_pt18_and_pt8_lie_where_the_paper_has_them():
    grid = create_task("pt18").grid
    top, left = grid.corners(torch.arange(18))
    assert sorted(set(top.tolist())) == [4, 36, 68, 100, 132, 164]
    assert sorted(set(left.tolist())) == [2, 34, 66]
    assert (top[4], left[4]) == (36, 34)  # row-major
    assert grid.reach == (4, 2)
    top, left = create_task("pt8").grid.corners(torch.arange(8))
    assert sorted(set(top.tolist())) == [36, 68, 100, 132]
    assert sorted(set(left.tolist())) == [18, 50]


def test_sample_equals_a_naive_loop(crops):
    task = create_task("position", (50, 25), rows=3, cols=2, patch_size=8, jitter=3)
    images = torch.stack(
        [torch.from_numpy(np.asarray(im).copy()).permute(2, 0, 1) for im in crops["image"]]
    )
    numbers = torch.arange(1000, 1040)
    batch = task.sample(images, Draws(9, numbers))
    for i, number in enumerate(numbers):
        draws = Draws(9, number[None])
        cell = int(draws.integers("cell", 6))
        reach_y, reach_x = min(3, (50 - 24) // 2), min(3, (25 - 16) // 2)
        top = (50 - 24) // 2 + 8 * (cell // 2)
        top += int(draws.integers("jitter_y", 2 * reach_y + 1)) - reach_y
        left = (25 - 16) // 2 + 8 * (cell % 2)
        left += int(draws.integers("jitter_x", 2 * reach_x + 1)) - reach_x
        patch = images[i, :, top : top + 8, left : left + 8].float() / 255
        assert batch.targets[i] == cell
        assert torch.allclose(batch.inputs[i], (patch - 0.5) / 0.25)


def _offsets(task, count=40_000):
    """Return cells and the offsets of their patches, read off the pixels."""
    found = []
    for start in range(0, count, 4000):
        draws = Draws(1, torch.arange(start, start + 4000))
        task = task.with_statistics((0.0,) * 3, (1.0,) * 3)
        batch = task.sample(coordinates(*task.canvas, 4000), draws)
        corner = (batch.inputs[:, :2, 0, 0] * 255).round().long()
        top, left = task.grid.corners(batch.targets)
        found.append(torch.stack([batch.targets, corner[:, 0] - top, corner[:, 1] - left]))
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("name", ["pt18", "pt8"])
def test_offsets_are_distributed_alike_in_every_cell(name):
    task = create_task(name)
    cells, dy, dx = _offsets(task)
    for offset, reach in ((dy, task.grid.reach[0]), (dx, task.grid.reach[1])):
        values = 2 * reach + 1
        table = torch.zeros(task.num_classes, values)
        table.index_put_((cells, offset + reach), torch.ones(len(cells)), accumulate=True)
        expected = table.sum(1, keepdim=True) / values
        chi2 = ((table - expected) ** 2 / expected).sum()
        freedom = task.num_classes * (values - 1)
        assert chi2 < freedom + 5 * (2 * freedom) ** 0.5


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 6),
    cols=st.integers(1, 5),
    size=st.integers(4, 20),
    margin=st.integers(0, 5),
    jitter=st.integers(0, 12),
    extra=st.tuples(st.integers(0, 15), st.integers(0, 15)),
)
def test_every_patch_lies_inside_its_jittered_cell(rows, cols, size, margin, jitter, extra):
    canvas = (
        rows * (size + margin) - margin + extra[0],
        cols * (size + margin) - margin + extra[1],
    )
    task = create_task(
        "position", canvas, rows=rows, cols=cols, patch_size=size, margin=margin, jitter=jitter
    )
    cells, dy, dx = _offsets_small(task)
    assert dy.abs().max() <= min(jitter, extra[0] // 2)
    assert dx.abs().max() <= min(jitter, extra[1] // 2)
    assert cells.min() >= 0
    assert cells.max() < rows * cols


def _offsets_small(task):
    task = task.with_statistics((0.0,) * 3, (1.0,) * 3)
    batch = task.sample(coordinates(*task.canvas, 300), Draws(1, torch.arange(300)))
    got = (batch.inputs[:, :2] * 255).round().long()
    # Whole patches come from consecutive pixels of the crop: none is clamped or padded.
    size = task.grid.patch_size
    steps = torch.arange(size)
    assert torch.equal(got[:, 0], got[:, 0, :1, :1] + steps[:, None].expand(size, size))
    assert torch.equal(got[:, 1], got[:, 1, :1, :1] + steps.expand(size, size))
    top, left = task.grid.corners(batch.targets)
    return batch.targets, got[:, 0, 0, 0] - top, got[:, 1, 0, 0] - left


def test_sample_all_asks_every_cell():
    task = create_task("pt18")
    batch = task.sample_all(coordinates(200, 100, 3), Draws(0, torch.arange(3)))
    assert batch.inputs.shape == (54, 3, 32, 32)
    assert torch.equal(batch.targets, torch.arange(18).repeat(3))


def test_several_patches_of_a_crop_at_once():
    crops = torch.randint(0, 256, (4, 3, 30, 20), dtype=torch.uint8)
    top, left = torch.randint(0, 22, (4, 5)), torch.randint(0, 12, (4, 5))
    patches = cut_patches(crops, top, left, 8)
    for b in range(4):
        for k in range(5):
            y, x = int(top[b, k]), int(left[b, k])
            assert torch.equal(patches[b, k], crops[b, :, y : y + 8, x : x + 8])


def test_head_starts_at_chance():
    task = create_task("pt18")
    output = task.head(64)(torch.randn(5, 64, 2, 2))
    values = task.loss(output, torch.arange(5))
    assert values["loss"].item() == pytest.approx(np.log(18), abs=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rows": 0}, "rows=0 in --task-kwargs: must be a whole number of at least 1"),
        ({"rows": 2.5}, "rows=2.5"),
        ({"jitter": -1}, "jitter=-1"),
        ({"margin": -3}, "margin=-3"),
        ({"patch_size": 128, "rows": 1, "cols": 1}, "patch_size=128 is larger than the canvas"),
        ({"cols": 4}, "more than the canvas 200x100 in width"),
        ({"grayscale": 1.5}, "grayscale=1.5"),
        ({"input_scale": 0}, "input_scale=0"),
        ({"standardize": 1}, "standardize=1"),
        ({"head_hidden": -2}, "head_hidden=-2"),
        ({"patchsize": 16}, "no option 'patchsize'; did you mean patch_size"),
    ],
)
def test_nonsense_is_refused(kwargs, message):
    with pytest.raises(InputError) as error:
        create_task("position", **kwargs).head(8)
    assert message in str(error.value)


def test_unknown_task_is_refused():
    with pytest.raises(InputError, match=r"--task 'positon': unknown task \(known: .*position"):
        create_task("positon")


def test_grid_of_any_shape():
    grid = Grid(1, 1, 8, 100, 0, (9, 8))
    assert grid.origin == (0, 0)
    assert grid.reach == (0, 0)
