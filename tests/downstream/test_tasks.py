"""What all downstream tasks have in common, and what each does with its targets."""

import datasets
import pytest
import torch
import torch.nn.functional as F

from patchit_hf.common.errors import InputError
from patchit_hf.downstream import create_downstream, list_downstream, task_class
from patchit_hf.downstream.augment import Geometry, View, centre, vary
from patchit_hf.downstream.reid import batch_hard
from patchit_hf.finetune.labelled import Labelled, subset
from tests.conftest import make_crops

TASKS = list_downstream()


@pytest.fixture(scope="module")
def rows():
    count = 24
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "person_id": datasets.Value("string"),
            "camera": datasets.Value("int8"),
            "hat": datasets.ClassLabel(names=["no", "yes"]),
            "bag_left": datasets.ClassLabel(names=["no", "yes"]),
            "bag_right": datasets.ClassLabel(names=["no", "yes"]),
            "view": datasets.ClassLabel(names=["front", "left", "right"]),
            "action": datasets.ClassLabel(names=["sit", "stand", "lean_left", "lean_right"]),
            "keypoints": datasets.Sequence(datasets.Sequence(datasets.Value("float32"), length=3)),
        }
    )
    joint = [[5.0 + j, 3.0 * j + 2, float(j % 5 > 0)] for j in range(14)]
    return datasets.Dataset.from_dict(
        {
            "image": make_crops(count),
            "person_id": [f"p{i // 4}" for i in range(count)],
            "camera": [i % 2 for i in range(count)],
            "hat": [i % 3 - 1 for i in range(count)],
            "bag_left": [i % 2 for i in range(count)],
            "bag_right": [0] * count,
            "view": [i % 3 for i in range(count)],
            "action": [i % 4 for i in range(count)],
            "keypoints": [joint] * count,
        },
        features=features,
    )


def _labelled(rows, task, canvas=(50, 25)):
    targets = task.targets(task.prepare(rows, canvas))
    return Labelled(None, torch.arange(len(targets)), targets, "rows")


def test_the_list_of_tasks():
    assert TASKS == ["action", "attributes", "pose", "reid"]
    with pytest.raises(InputError, match=r"unknown task \(known: action, attributes, pose, reid\)"):
        task_class("cooking")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_built_again_from_json(name, rows):
    import json

    task = create_downstream(name, rows)
    again = type(task).from_kwargs(json.loads(json.dumps(task.kwargs)))
    assert again.kwargs == task.kwargs
    assert torch.equal(_labelled(rows, again).targets, _labelled(rows, task).targets)


@pytest.mark.parametrize("name", TASKS)
def test_an_unknown_option_is_refused(name, rows):
    with pytest.raises(InputError, match=f"task '{name}' has no option 'colums'"):
        create_downstream(name, rows, colums=1)


@pytest.mark.parametrize("name", TASKS)
def test_mirroring_twice_changes_nothing(name, rows):
    task = create_downstream(name, rows)
    targets = _labelled(rows, task).targets
    assert torch.equal(task.mirrored(task.mirrored(targets)), targets)


@pytest.mark.parametrize("name", TASKS)
def test_what_is_learnt_from_the_targets_makes_another_task(name, rows):
    task = create_downstream(name, rows)
    before = dict(vars(task))
    other = task.fit(_labelled(rows, task).targets).with_input_size((64, 32))
    assert vars(task) == before
    assert (task.input_size, other.input_size) == ((192, 96), (64, 32))
    assert (other.kwargs == task.kwargs) == (name != "reid")  # which counts its people


@pytest.mark.parametrize("name", TASKS)
def test_perfect_predictions_are_perfect(name, rows):
    task = create_downstream(name, rows)
    targets = _labelled(rows, task).targets
    task = task.fit(targets)
    if name == "attributes":
        parts = [F.one_hot(targets[:, i].clamp(min=0), 3).float() for i in task.several]
        predictions = torch.cat([targets[:, task.binary].clamp(min=0).float(), *parts], 1)
        order = task.binary + task.several
        assert order == sorted(order)
    elif name == "action":
        predictions = F.one_hot(targets, 4).float()
    elif name == "pose":
        predictions = targets
    else:
        predictions = F.one_hot(targets[:, 0].unique(return_inverse=True)[1]).float()
    report = task.measure(predictions, targets)
    assert report.summary[task.primary_metric] == pytest.approx(1)
    assert report.table


def test_attributes_swap_columns_and_classes(rows):
    task = create_downstream("attributes", rows)
    assert [c.name for c in task.label_columns] == ["hat", "bag_left", "bag_right", "view"]
    mirrored = task.mirrored(torch.tensor([[1, 1, 0, 2], [-1, 0, 1, -1]]))
    assert mirrored.tolist() == [[1, 0, 1, 1], [-1, 1, 0, -1]]
    assert task.label_names == [
        "hat", "bag_left", "bag_right", "view=front", "view=left", "view=right",
    ]  # fmt: skip


def test_attributes_loss_against_a_loop(rows):
    task = create_downstream("attributes", rows)
    targets = _labelled(rows, task).targets
    task = task.fit(targets)
    output = torch.randn(len(targets), 6)
    total = 0.0
    share = [((targets[:, i] == 1).sum() / (targets[:, i] >= 0).sum()).item() for i in range(3)]
    for row, truth in zip(output, targets.tolist(), strict=True):
        for i in range(3):
            if truth[i] >= 0:
                p = torch.sigmoid(row[i])
                right = p if truth[i] else 1 - p
                weight = torch.tensor(1 - share[i] if truth[i] else share[i]).exp()
                total -= weight * right.log()
        total -= row[3:].log_softmax(0)[truth[3]]
    expected = total / len(targets) / 4
    assert task.loss(output, targets)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_has_no_label_gives_no_gradient(rows):
    task = create_downstream("attributes", rows)
    output = torch.randn(2, 6, requires_grad=True)
    task.loss(output, torch.tensor([[-1, 1, -1, -1], [0, -1, -1, 2]]))["loss"].backward()
    zero = output.grad == 0
    assert zero.tolist() == [
        [True, False, True, True, True, True],
        [False, True, True, False, False, False],
    ]


def test_na_as_a_class(rows):
    task = create_downstream("attributes", rows, softmax=True, na="class", hidden=16)
    assert task.num_classes == 0
    assert task.outputs == [3, 3, 3, 4]
    assert task.head(8)(torch.randn(2, 8, 2, 1)).shape == (2, 13)
    targets = _labelled(rows, task).targets
    summary = task.measure(task.predict(torch.randn(24, 13)), targets).summary
    assert {"class_accuracy", "mber", "class_map"} <= summary.keys()
    assert task.primary_metric == "class_accuracy"


def test_reid_batches_are_people_with_k_pictures(rows):
    task = create_downstream("reid", rows, pictures=3)
    targets = _labelled(rows, task).targets
    task = task.fit(targets)
    chosen = task.rows(0, torch.arange(36), targets)
    people = targets[chosen, 0].view(12, 3)
    assert (people == people[:, :1]).all()
    assert all(len(set(group.tolist())) == 3 for group in chosen.view(12, 3))
    assert people[:6, 0].unique().numel() == 6  # everybody once
    assert people[6:, 0].unique().numel() == 6
    assert torch.equal(chosen[12:24], task.rows(0, torch.arange(12, 24), targets))


def test_reid_batches_of_one_source():
    people = [number // 2 for number in range(96)]  # two images each
    where = ["abc"[person % 3] if person < 44 else "d" for person in people]
    rows = datasets.Dataset.from_dict({"person_id": [p + 1 for p in people], "site": where})
    task = create_downstream("reid", rows, pictures=2, source_column="site")
    targets = task.targets(rows)
    task = task.fit(targets)
    assert task.from_kwargs(task.kwargs).source_column == "site"
    first, second = (
        task.rows(0, torch.arange(96 * epoch, 96 * (epoch + 1)), targets) for epoch in (0, 1)
    )
    for chosen in (first, second):
        assert sorted(chosen.tolist()) == list(range(96))  # both images of everybody
        sites = [{where[row] for row in batch} for batch in chosen.view(6, 16).tolist()]
        assert [len(batch) for batch in sites[:3]] == [1, 1, 1]  # 15, 15, 14, 4: a run of each
        assert set().union(*sites[:3]) == {"a", "b", "c"}
    assert not torch.equal(first, second)
    assert torch.equal(first[32:64], task.rows(0, torch.arange(32, 64), targets))
    elsewhere = rows.remove_columns("site")  # another data set, to be searched
    assert task.targets(elsewhere)[:, 3].unique().tolist() == [-1]
    with pytest.raises(InputError, match="town"):
        create_downstream("reid", rows, source_column="town")


def test_batch_hard_against_a_loop():
    features, labels = torch.randn(12, 5), torch.arange(12) // 3
    losses = []
    for i in range(12):
        d = [(features[i] - features[j]).norm().item() for j in range(12)]
        far = max(d[j] for j in range(12) if labels[j] == labels[i] and j != i)
        near = min(d[j] for j in range(12) if labels[j] != labels[i])
        losses.append(max(0.0, far - near + 0.3))
    assert batch_hard(features, labels, 0.3).item() == pytest.approx(sum(losses) / 12, rel=1e-4)
    assert batch_hard(features, torch.arange(12), 0.3).item() == 0  # nobody twice


def test_reid_ids_of_any_kind():
    rows = datasets.Dataset.from_dict({"pid": [0, 0, 5, -1, 7, 7], "camid": [0, 1, 0, 0, None, 2]})
    task = create_downstream("reid", rows, distractor=5)
    targets = task.targets(rows)
    assert targets[:, 0].tolist()[2:4] == [0, -1]
    assert targets[0, 0] == targets[1, 0] > 0
    assert targets[:, 1].tolist() == [0, 1, 0, 0, -1, 2]
    assert task.usable(targets).tolist() == [True, True, False, False, True, True]


def test_joints_follow_the_person(rows):
    boxed = rows.add_column("bbox", [[5.0, 10.0, 20.0, 45.0]] * len(rows))
    task = create_downstream("pose", boxed)
    assert task.box_column == "bbox"
    prepared = task.prepare(boxed, (100, 50))
    window = prepared[0]["window"]
    assert (window[2] - window[0]) / (window[3] - window[1]) == pytest.approx(0.5)
    assert window[0] <= 5
    assert window[3] >= 45
    joints = task.targets(prepared)[0]
    for (x, y, seen), (a, b, shown) in zip(joints.tolist(), rows[0]["keypoints"], strict=True):
        assert x == pytest.approx((a - window[0]) * 50 / (window[2] - window[0]), abs=1e-3)
        assert y == pytest.approx((b - window[1]) * 100 / (window[3] - window[1]), abs=1e-3)
        assert seen == (shown > 0)
    assert prepared[0]["image"].size == (50, 100)


def test_a_mirrored_person_has_its_sides_swapped(rows):
    task = create_downstream("pose", rows)
    targets = _labelled(rows, task).targets[:2]
    crops = torch.zeros(2, 3, 50, 25, dtype=torch.uint8)
    geometry = Geometry((50, 25), (50, 25), (50, 25))
    _, view = centre(crops, geometry)
    mirror = View(torch.ones(2, dtype=torch.bool), torch.tensor([[[-1.0, 0, 25], [0, 1, 0]]] * 2))
    straight, turned = task.moved(targets, view), task.moved(targets, mirror)
    left, right = task.joints.index("left knee"), task.joints.index("right knee")
    assert torch.allclose(turned[:, left, 0], 25 - straight[:, right, 0])
    assert torch.allclose(turned[:, left, 1:], straight[:, right, 1:])


def test_pose_reads_its_own_maps(rows):
    from patchit_hf.downstream.keypoints import draw_maps

    for decode, within in (("dark", 0.05), ("soft_argmax", 2.5)):
        task = create_downstream("pose", rows, decode=decode)
        task = task.with_input_size((96, 48))
        points = torch.rand(3, 14, 2) * torch.tensor([8.0, 56.0]) + 20
        maps = draw_maps(points / 4, (24, 12), task.sigma)
        found = task.predict(maps)
        assert (found[..., :2] - points).abs().max() < within
        seen = torch.cat([points, torch.ones(3, 14, 1)], 2)
        assert task.loss(maps, seen)["loss"] < task.loss(maps * 0, seen)["loss"]


@pytest.mark.parametrize("name", TASKS)
def test_small_subsets_lie_inside_large_ones(name, rows):
    task = create_downstream(name, rows)
    data = _labelled(rows, task)
    before = set()
    for fraction in (0.1, 0.3, 0.6, 1.0):
        chosen = set(subset(data, task, fraction, None).rows.tolist())
        assert before <= chosen
        assert len(chosen) >= fraction * len(rows) - 1e-6
        before = chosen
    assert len(before) == len(rows)
    first, other = (subset(data, task, 0.6, None, seed).rows.tolist() for seed in (0, 1))
    assert first == subset(data, task, 0.6, None).rows.tolist()
    assert len(other) == len(first)
    assert other != first
    assert set(subset(data, task, 0.3, None, 1).rows.tolist()) <= set(other)
    before = set()
    for shots in (1, 2, 4):
        part = subset(data, task, None, shots)
        assert before <= set(part.rows.tolist())
        shown = task.groups(part.targets).sum(0)
        all_shown = task.groups(data.targets).sum(0)
        assert (shown >= torch.minimum(all_shown, torch.tensor(shots))[: len(shown)]).all()
        before = set(part.rows.tolist())


def test_a_share_of_reid_is_a_share_of_the_people(rows):
    task = create_downstream("reid", rows)
    data = _labelled(rows, task)
    part = subset(data, task, 0.5, None)
    assert len(part) == 12
    assert part.targets[:, 0].unique(return_counts=True)[1].tolist() == [4, 4, 4]


def test_subsets_that_cannot_be(rows):
    task = create_downstream("action", rows)
    data = _labelled(rows, task)
    for fraction, shots, seed, words in (
        (0.0, None, None, "--fraction 0.0"), (1.5, None, None, "--fraction 1.5"),
        (None, 0, None, "--shots 0"), (0.5, 1, None, "give only one of them"),
        (0.5, None, -1, "--subset-seed -1"),
        (None, None, 1, "--subset-seed 1: needs --fraction or --shots"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            subset(data, task, fraction, shots, seed)


@pytest.mark.parametrize("name", TASKS)
def test_targets_are_moved_with_their_crops(name, rows):
    """A view that mirrors half of the batch mirrors half of the targets."""
    from patchit_hf.common.draws import Draws

    task = create_downstream(name, rows)
    targets = _labelled(rows, task).targets
    crops = torch.zeros(24, 3, 50, 25, dtype=torch.uint8)
    geometry = Geometry((50, 25), (48, 24), (48, 24))
    _, view = vary(crops, geometry, task.augmentation, Draws(0, torch.arange(24)))
    assert view.flipped.any()
    assert not view.flipped.all()
    moved = task.moved(targets, view)
    if name != "pose":
        assert torch.equal(moved[~view.flipped], targets[~view.flipped])
        assert torch.equal(moved[view.flipped], task.mirrored(targets)[view.flipped])
    else:
        assert torch.equal(moved[~view.flipped][..., 2], targets[~view.flipped][..., 2])
