"""Each task's labels against a reference that reads them off the pixels."""

import math

import pytest
import torch

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks import create_task
from patchit_hf.patch_tasks.contrast import info_nce
from patchit_hf.patch_tasks.jigsaw import distant_permutations
from tests.patch_tasks.conftest import small_task


def _corners(pictures):
    """Top left corner [N, K, 2] as y, x of pictures of coordinates [N, K, 3, S, S]."""
    return (pictures[:, :, :2, 0, 0] * 255).round().long()


def _cell(corner, top, left, size, cols, jitter):
    """The cell of a patch by its corner, the slow way."""
    for cell in range(100):
        y, x = top + size * (cell // cols), left + size * (cell % cols)
        if abs(corner[0] - y) <= jitter and abs(corner[1] - x) <= jitter:
            return cell
    raise AssertionError(f"no cell at {corner}")


# 3 x 2 cells of 8 px on 50 x 25: the first at y = 13, x = 4, and 2 px of jitter.
def _cells(pictures):
    corners = _corners(pictures).tolist()
    return [[_cell(c, 13, 4, 8, 2, 2) for c in sample] for sample in corners]


def test_pair(coordinates, plain):
    task = plain(small_task("pair"))
    seen = set()
    for batch in (
        task.sample(coordinates(400), Draws(1, torch.arange(400))),
        task.sample_all(coordinates(5), Draws(1, torch.arange(5))),
    ):
        for (first, second), target in zip(_cells(batch.inputs), batch.targets, strict=True):
            assert first != second
            others = [c for c in range(6) if c != first]
            assert target == first * 5 + others.index(second)
            seen.add(int(target))
    assert seen == set(range(30))
    assert create_task("pair").num_classes == 306


def test_context(coordinates, plain):
    task = plain(small_task("context"))
    batch = task.sample(coordinates(600), Draws(1, torch.arange(600)))
    middle, other = _corners(batch.inputs).unbind(1)
    names = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
    for a, b, target in zip(middle.tolist(), other.tolist(), batch.targets, strict=True):
        expected = [names[target][axis] * 7 for axis in (0, 1)]  # 6 px and a gap of 1
        assert abs(b[0] - a[0] - expected[0]) <= 2  # jitter of both
        assert abs(b[1] - a[1] - expected[1]) <= 2
    # The middle says nothing: it is as far left for "right of it" as for "left of it".
    x = middle[:, 1].float()
    sides = [x[batch.targets == t].mean() for t in range(8)]
    assert max(sides) - min(sides) < 0.6
    everything = task.sample_all(coordinates(3), Draws(1, torch.arange(3)))
    assert torch.equal(everything.targets, torch.arange(8).repeat(3))


def test_scale(coordinates, plain):
    task = plain(small_task("scale"))  # 8 px: 6 x 3 cells; 12 px: 4 x 2
    assert task.num_classes == 26
    batch = task.sample_all(coordinates(1), Draws(3, torch.arange(1)))
    assert torch.equal(batch.targets, torch.arange(26))
    pixels = batch.inputs * 255
    for target in range(26):
        size, cols, cell = (8, 3, target) if target < 18 else (12, 2, target - 18)
        rows = 50 // size
        top = (50 - rows * size) // 2 + size * (cell // cols)
        left = (25 - cols * size) // 2 + size * (cell % cols)
        reach = min(2, (50 - rows * size) // 2), min(2, (25 - cols * size) // 2)
        middle = pixels[target, :2].mean((1, 2)) - (size - 1) / 2  # of the corner
        assert abs(middle[0] - top) <= reach[0] + 0.01
        assert abs(middle[1] - left) <= reach[1] + 0.01
        span = (pixels[target, 0, 7] - pixels[target, 0, 0]).mean()
        assert span == pytest.approx(7 * size / 8, abs=1.01)  # whole pixels


def test_people_cuts_distinct_cells(coordinates, plain):
    task = plain(small_task("people"))
    batch = task.sample(coordinates(100), Draws(1, torch.arange(100)))
    assert batch.targets.tolist() == _cells(batch.inputs)
    assert all(len(set(row)) == 3 for row in batch.targets.tolist())


def test_info_nce_equals_a_naive_loop():
    rng = torch.Generator().manual_seed(0)
    embedding = torch.randn(12, 5, generator=rng)
    crops = torch.arange(4).repeat_interleave(3)
    total, right = 0.0, 0
    unit = [e / e.norm() for e in embedding]
    for i in range(12):
        scores = {j: float(unit[i] @ unit[j]) / 0.3 for j in range(12) if j != i}
        norm = math.log(sum(math.exp(s) for s in scores.values()))
        positives = [j for j in scores if crops[j] == crops[i]]
        total += sum(norm - scores[j] for j in positives) / len(positives)
        right += max(scores, key=scores.get) in positives
    loss, found = info_nce(embedding, crops, 0.3)
    assert loss.item() == pytest.approx(total / 12, rel=1e-5)
    assert found.item() == pytest.approx(right / 12)


def test_shuffle(coordinates, plain):
    task = plain(small_task("shuffle"))
    batch = task.sample(coordinates(50), Draws(1, torch.arange(50)))
    assert batch.inputs.shape == (50, 3, 24, 16)
    for picture, target in zip(batch.inputs, batch.targets, strict=True):
        assert sorted(target.flatten().tolist()) == list(range(6))
        for row in range(3):
            for col in range(2):
                tile = picture[:, 8 * row : 8 * row + 8, 8 * col : 8 * col + 8]
                assert _cells(tile[None, None]) == [[target[row, col]]]
    # The examples are the tiles, in the order of the truth.
    assert [c[0] for c in _cells(task.examples(batch))] == task.truth(batch.targets).tolist()


def test_shuffle_asks_every_location_for_the_tile_at_its_middle():
    task = small_task("shuffle")
    targets = torch.arange(6).view(1, 3, 2)
    for height, width in ((3, 2), (6, 4), (12, 8), (1, 1)):
        y = [int((i + 0.5) * 3 / height) for i in range(height)]
        x = [int((i + 0.5) * 2 / width) for i in range(width)]
        want = torch.tensor([[int(targets[0, a, b]) for b in x] for a in y])
        logits = torch.nn.functional.one_hot(want, 6).permute(2, 0, 1)[None].float() * 9
        assert task.loss(logits, targets)["accuracy"] == 1
        if height >= 3:
            assert torch.equal(task.answers(logits), torch.arange(6))


def test_jigsaw(coordinates, plain):
    task = plain(small_task("jigsaw"))  # 2 x 2 tiles: the first at y = 17, x = 4
    for batch in (
        task.sample(coordinates(80), Draws(1, torch.arange(80))),
        task.sample_all(coordinates(20), Draws(1, torch.arange(20))),
    ):
        for sample, target in zip(_corners(batch.inputs).tolist(), batch.targets, strict=True):
            cells = [_cell(corner, 17, 4, 8, 2, 2) for corner in sample]
            assert cells == task.orders[target].tolist()


def test_the_jigsaw_standardises_its_tiles_unless_told_not_to():
    assert create_task("jigsaw").kwargs["standardize"] is True
    assert create_task("jigsaw", standardize=False).kwargs["standardize"] is False


def test_classes_that_are_no_cells_have_no_boxes():
    two = {"rows": 1, "cols": 2}  # as many pairs, and orders, as cells
    assert create_task("pair", **two).boxes is None
    assert create_task("jigsaw", permutations=2, **two).boxes is None
    assert create_task("position", **two).boxes.tolist() == [[18, 84, 50, 116], [50, 84, 82, 116]]


def test_the_orders_of_the_jigsaw_are_distinct_and_far_apart():
    orders = distant_permutations(8, 100)
    assert len(orders.unique(dim=0)) == 100
    assert torch.equal(orders.sort(1).values, torch.arange(8).expand(100, -1))
    apart = (orders[:, None] != orders).sum(2) + 9 * torch.eye(100, dtype=torch.long)
    assert apart.min() >= 5  # of 8; random sets of 100 have pairs of 2
    assert len(distant_permutations(3, 6).unique(dim=0)) == 6


def test_smooth_targets_sharpen_while_training():
    task = small_task("position", smooth=1.0)
    targets = torch.tensor([0, 3])
    shares = task.smoothed(targets, 0.0)
    # Cell 0 against its neighbours at distance 1, sqrt 2 and 2: exp(-d^2 / 2).
    ratio = [math.exp(-d / 2) for d in (0, 1, 1, 2, 4, 5)]
    assert shares[0].tolist() == pytest.approx([r / sum(ratio) for r in ratio], rel=1e-5)
    assert task.smoothed(targets, 0.9)[1, 3] > 0.99
    logits = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    hard = torch.nn.functional.cross_entropy(logits, targets)
    assert task.loss(logits, targets)["loss"] == hard
    soft = -(shares * logits.log_softmax(1)).sum(1).mean()
    measured = task.loss(logits, shares)
    assert measured["loss"].item() == pytest.approx(soft.item(), rel=1e-5)
    assert measured["accuracy"] == task.loss(logits, targets)["accuracy"]


def test_samples_are_smoothed_while_training_alone():
    task, crops = small_task("position", smooth=2.0), torch.zeros(40, 3, 50, 25, dtype=torch.uint8)
    numbers = torch.arange(40)
    cells = task.sample(crops, Draws(1, numbers)).targets
    assert cells.dtype == torch.int64
    early = task.sample(crops, Draws(1, numbers, progress=0.25)).targets
    assert torch.equal(early, task.smoothed(cells, 0.25))
    assert torch.equal(task.truth(early), cells)
    assert torch.equal(
        task.sample_all(crops, Draws(1, numbers)).targets, torch.arange(6).repeat(40)
    )


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("pair", {"rows": 1, "cols": 1}, "pairs need at least 2 cells"),
        ("context", {"gap": -1}, "gap=-1 in --task-kwargs"),
        ("context", {"patch_size": 32}, "need 118x118 px, more than the canvas 200x100"),
        ("scale", {"sizes": [32, 32]}, r"sizes=\[32, 32\] in --task-kwargs"),
        ("scale", {"sizes": 32}, "sizes=32 in --task-kwargs"),
        ("scale", {"sizes": [128]}, "patch_size=128 is larger than the canvas"),
        ("people", {"patches_per_crop": 1}, "patches_per_crop=1"),
        ("people", {"patches_per_crop": 19}, "from 2 to the 18 cells"),
        ("people", {"temperature": 0}, "temperature=0"),
        ("jigsaw", {"permutations": 1}, "permutations=1"),
        ("jigsaw", {"rows": 1, "permutations": 3}, "a whole number from 2 to 2 for 1x2 tiles"),
        ("position", {"smooth": -1}, "smooth=-1 in --task-kwargs"),
    ],
)
def test_nonsense_is_refused(name, kwargs, message):
    with pytest.raises(InputError, match=message):
        create_task(name, **kwargs)
