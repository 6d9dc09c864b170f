from itertools import islice

import pytest
import torch

from patchit_hf.data.store import open_crops
from patchit_hf.data.training_set import statistics
from patchit_hf.patch_tasks import create_task
from patchit_hf.pretrain.batches import held_out_batches, training_parts
from patchit_hf.training.share import Share

CPU = torch.device("cpu")


@pytest.fixture
def store(crops):
    return open_crops(crops, "image", (50, 25), "squash")


def _steps(store, task, world, accumulation, start, count):
    """Return inputs and targets of each global batch, in the order of its parts."""
    steps = []
    streams = [
        training_parts(store, task, Share(12, accumulation, rank, world), 5, start, 100, CPU)
        for rank in range(world)
    ]
    for _ in range(count):
        parts = [part for s in streams for part in islice(s, accumulation)]
        parts.sort(key=lambda part: part[0])
        assert [number for number, _ in parts] == list(range(world * accumulation))
        steps.append([torch.cat(x) for x in zip(*(batch for _, batch in parts), strict=True)])
    return steps


@pytest.mark.parametrize(("world", "accumulation"), [(1, 2), (2, 1), (3, 2), (4, 3)])
def test_any_number_of_processes_sees_what_one_sees(store, small, world, accumulation):
    task = create_task("position", (50, 25), grayscale=0.5, channel_drop=0.5, **small)
    alone = _steps(store, task, 1, 1, 0, 8)
    shared = _steps(store, task, world, accumulation, 0, 8)
    for one, many in zip(alone, shared, strict=True):
        assert torch.equal(one[0], many[0])
        assert torch.equal(one[1], many[1])


def test_a_later_start_sees_what_the_whole_run_sees(store, small):
    task = create_task("position", (50, 25), **small)
    whole, rest = _steps(store, task, 1, 1, 0, 9), _steps(store, task, 1, 1, 6, 3)
    for a, b in zip(whole[6:], rest, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


def test_the_sequence_survives_one_two_four_and_one_process(store, small):
    """The logged crop, cell and jitter of every sample, over a run on four machines."""
    task = create_task("position", (50, 25), **small)

    class Log:
        def sample(self, crops, draws):
            cells = draws.integers("cell", task.grid.num_cells)
            jitter = [draws.integers(name, 5) for name in ("jitter_y", "jitter_x")]
            return torch.stack([draws.rows, cells, *jitter], dim=1), cells

    alone = [logged for logged, _ in _steps(store, Log(), 1, 1, 0, 8)]
    changed = [
        logged
        for turn, world in enumerate((1, 2, 4, 1))
        for logged, _ in _steps(store, Log(), world, 1, 2 * turn, 2)
    ]
    assert torch.equal(torch.cat(alone), torch.cat(changed))
    assert len(torch.cat(alone).unique(dim=0)) > 80


def test_the_draws_say_which_crops_they_are(store):
    class Rows:
        def sample(self, crops, draws):
            return crops, draws.rows

    for _, (crops, rows) in islice(
        training_parts(store, Rows(), Share(12, 2, 1, 3), 5, 6, 8, CPU), 9
    ):
        assert torch.equal(crops, store[rows])


def test_the_draws_say_how_much_of_the_training_is_done(store):
    class Clock:
        def sample(self, crops, draws):
            return draws.progress

    turns = training_parts(store, Clock(), Share(12, 2, 1, 3), 5, 6, 8, CPU)
    assert [progress for _, progress in islice(turns, 4)] == [6 / 8, 6 / 8, 7 / 8, 7 / 8]


def test_an_epoch_is_one_patch_of_every_crop(store, small):
    task = create_task("position", (50, 25), **{**small, "jitter": 0})
    steps = _steps(store, task, 1, 1, 0, 10)
    cells = torch.cat([targets for _, targets in steps])
    assert len(cells) == 120
    assert set(cells.tolist()) == set(range(6))


def test_held_out_asks_every_cell_of_every_crop_once(store, small):
    task = create_task("position", (50, 25), **small)
    held = store[torch.arange(11)]
    alone = list(held_out_batches(held, task, CPU, 0, 1, size=4))
    targets = torch.cat([b.targets for b in alone])
    assert torch.equal(targets.bincount(), torch.full((6,), 11))
    shared = [b for rank in range(3) for b in held_out_batches(held, task, CPU, rank, 3, size=4)]

    def patches(batches):
        return sorted(p.numpy().tobytes() for b in batches for p in b.inputs)

    assert patches(alone) == patches(shared)


def test_statistics_are_those_of_the_covered_area(store):
    mean, std = statistics(store, (40, 20))
    area = store[torch.arange(40)][:, :, 5:45, 2:22].double() / 255
    assert torch.allclose(torch.tensor(mean).double(), area.mean((0, 2, 3)), atol=1e-5)
    expected = area.transpose(0, 1).flatten(1).std(1)
    assert torch.allclose(torch.tensor(std).double(), expected, atol=1e-4)
