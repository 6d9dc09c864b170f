"""What holds for every task. A new task file joins by a line in conftest.OPTIONS."""

import dataclasses
import math

import datasets
import pytest
import torch

from patchit_hf import PatchTaskTrainer, TrainingArguments
from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.models.build import build_model
from patchit_hf.patch_tasks import canonical_name, create_task, list_tasks
from tests.conftest import make_crops, train_and_kill
from tests.patch_tasks.conftest import CANVAS, OPTIONS, small_task


def _random_crops(count=6):
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, *CANVAS), dtype=torch.uint8, generator=rng)


def _answers(task):
    """Number of answers that the question of each class chooses from: octaves have their own."""
    answers = torch.full((task.num_classes,), float(task.num_classes))
    for octave in getattr(task, "octaves", ()):
        answers[octave.classes] = octave.lattice.num_cells
    return answers


def test_every_task_is_here():
    assert {canonical_name(name) for name in list_tasks()} == set(OPTIONS)


def test_options_rebuild_the_task(name):
    task = small_task(name, grayscale=0.25)
    again = create_task(name, CANVAS, **task.kwargs)
    assert again.kwargs == task.kwargs
    assert again.kwargs["grayscale"] == 0.25
    assert {**task.kwargs, **OPTIONS[name], "grayscale": 0.25} == task.kwargs


def test_statistics_make_another_task(name):
    task = small_task(name, input_scale=2)
    before, options = dict(vars(task)), task.kwargs
    other = task.with_statistics([0.1, 0.2, 0.3], [1, 2, 3])
    assert (other.transform.mean, other.transform.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert other.kwargs == options  # which records hold: no mean and no deviation
    assert vars(task) == before
    assert task.transform.mean == (0.5, 0.5, 0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.transform.mean = (0.0, 0.0, 0.0)


def test_a_sample_depends_on_its_number_alone(name):
    task = small_task(name, grayscale=0.5, channel_drop=0.5)
    crops = _random_crops()
    numbers = torch.tensor([5, 900, 3, 77, 12, 13])
    whole = task.sample(crops, Draws(4, numbers))
    for i in range(6):
        one = task.sample(crops[i : i + 1], Draws(4, numbers[i : i + 1]))
        assert torch.equal(one.inputs[0], whole.inputs[i])
        assert torch.equal(one.targets[0], whole.targets[i])
    other = task.sample(crops, Draws(5, numbers))
    assert not torch.equal(other.targets, whole.targets)


def test_evaluation_asks_alike_whoever_asks(name):
    task = small_task(name, grayscale=1.0)  # which evaluation leaves out
    crops = _random_crops()
    whole = task.sample_all(crops, Draws(0, torch.arange(6)))
    parts = [
        task.sample_all(crops[i : i + 3], Draws(0, torch.arange(i, i + 3))) for i in range(0, 6, 3)
    ]
    assert torch.equal(torch.cat([p.inputs for p in parts]), whole.inputs)
    assert torch.equal(torch.cat([p.targets for p in parts]), whole.targets)
    assert (whole.inputs.flatten(0, -4)[:, 0] != whole.inputs.flatten(0, -4)[:, 1]).any()


def test_shapes_and_chance(name):
    task = small_task(name)
    model = build_model("test_resnet", task, 0).eval()
    height, width = task.input_size
    for batch in (
        task.sample(_random_crops(), Draws(1, torch.arange(6))),
        task.sample_all(_random_crops(), Draws(1, torch.arange(6))),
    ):
        assert batch.inputs.dtype == torch.float32
        assert batch.inputs.shape[-3:] == (3, height, width)
        output = model(batch.inputs)
        values = task.loss(output, batch.targets)
        assert all(value.ndim == 0 and value.isfinite() for value in values.values())
        truth, answers = task.truth(batch.targets), task.answers(output)
        examples = task.examples(batch)
        assert truth.shape == answers.shape == (len(examples),)
        assert truth.min() >= 0
        assert truth.max() < task.num_classes
        assert examples.ndim == 5
        if name not in ("people", "octaves"):  # whose second loss has no chance level
            assert values["loss"].item() == pytest.approx(math.log(task.num_classes), rel=1e-4)
    sample = task.sample(_random_crops(), Draws(1, torch.arange(6)))
    assert sample.inputs.flatten(0, -4).shape[0] == 6 * task.inputs_per_sample
    answers = _answers(task)[task.truth(sample.targets)]
    assert task.chance == pytest.approx(float((1 / answers).mean()))


def test_every_class_is_asked_equally_often(name):
    task = small_task(name)
    crops = torch.zeros(1, 3, *CANVAS, dtype=torch.uint8).expand(3000, -1, -1, -1)
    batch = task.sample(crops, Draws(1, torch.arange(3000)))
    counts = task.truth(batch.targets).bincount(minlength=task.num_classes).double()
    answers = _answers(task)
    together = torch.stack([counts[answers == n].sum() for n in answers])
    expected = together / answers  # of the classes that one question chooses from
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < task.num_classes + 6 * (2 * task.num_classes) ** 0.5


def test_boxes_are_where_patches_come_from(name, coordinates, plain):
    task = plain(small_task(name))
    if task.boxes is None:
        pytest.skip("the classes of this task are no places")
    batch = task.sample(coordinates(200), Draws(1, torch.arange(200)))
    pixels = task.examples(batch)[:, 0] * 255
    boxes = task.boxes[task.truth(batch.targets)].float()
    middle = torch.stack([pixels[:, 1].mean((1, 2)), pixels[:, 0].mean((1, 2))], dim=1) + 0.5
    expected = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert (middle - expected).abs().max() < 2.6  # jitter, and the rounding of resized patches


def test_nothing_comes_from_outside_of_the_crop(name, coordinates, plain):
    """The third channel is 0 everywhere, y and x are those of the canvas: no padding."""
    task = plain(small_task(name, jitter=1 if name == "context" else 9))
    crops = coordinates(300).clone()
    crops[:, 2] = 200
    pixels = task.examples(task.sample(crops, Draws(1, torch.arange(300)))) * 255
    assert (pixels[:, :, 2] - 200).abs().max() < 0.01
    assert pixels[:, :, 0].max() < CANVAS[0]
    assert pixels[:, :, 1].max() < CANVAS[1]


def _trainer(folder, name, crops, **kwargs):
    options = {
        "max_steps": 12, "train_batch_size": 48, "save_steps": 5, "learning_rate": 1e-2,
        "figures": False, "audit": False, "eval_steps": 0,
    }  # fmt: skip
    args = TrainingArguments(output_dir=str(folder), **{**options, **kwargs})
    task = small_task(name, **({"input_scale": 4} if name == "shuffle" else {}))
    return PatchTaskTrainer("test_resnet", args, task, crops, crops)


@pytest.mark.e2e
def test_a_tiny_net_overfits_64_crops(tmp_path, name):
    crops = datasets.Dataset.from_dict({"image": make_crops(64)})
    crops = crops.cast_column("image", datasets.Image())
    steps = {"context": 110, "jigsaw": 40, "pair": 70, "scale": 55, "shuffle": 20}.get(name, 35)
    trainer = _trainer(tmp_path / "run", name, crops, max_steps=steps, save_steps=0)
    assert trainer.train()["eval_accuracy"] > 0.95


@pytest.mark.e2e
def test_a_killed_run_ends_as_the_uninterrupted_one(tmp_path, name, crops):
    whole = _trainer(tmp_path / "whole", name, crops, train_batch_size=24)
    whole.train()
    killed = _trainer(tmp_path / "killed", name, crops, train_batch_size=24)
    train_and_kill(killed, 7)
    resumed = _trainer(tmp_path / "killed", name, crops, train_batch_size=24)
    resumed.train()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


def test_crops_are_mirrored_before_patches_are_cut(name, coordinates, plain):
    """The x coordinates of every patch run the other way, and the answers stay the same."""
    crops, numbers = coordinates(6), torch.arange(6)
    plainly = plain(small_task(name, mirror=0.0)).sample(crops, Draws(5, numbers))
    mirrored = plain(small_task(name, mirror=1.0)).sample(crops, Draws(5, numbers))
    assert torch.equal(plainly.targets, mirrored.targets)
    x, turned = (255 * batch.inputs[..., 1, :, :] for batch in (plainly, mirrored))
    torch.testing.assert_close(turned, CANVAS[1] - 1 - x, atol=0.02, rtol=0)
    y, kept = (batch.inputs[..., 0, :, :] for batch in (plainly, mirrored))
    torch.testing.assert_close(kept, y)
    some = plain(small_task(name, mirror=0.5)).sample(coordinates(64), Draws(5, torch.arange(64)))
    assert 0 < _turned(some.inputs) < 1


def _turned(inputs):
    """The share of samples whose x runs from right to left."""
    x = inputs[:, None, 1] if inputs.ndim == 4 else inputs[:, :, 1]
    return (x[:, 0, 0, 0] > x[:, 0, 0, 3]).float().mean()


def test_each_patch_has_its_own_light(name):
    crops, numbers = torch.full((8, 3, *CANVAS), 120, dtype=torch.uint8), torch.arange(8)
    plainly = small_task(name, light=0.0, grayscale=0.0).sample(crops, Draws(5, numbers)).inputs
    assert plainly.std() < 1e-3
    task = small_task(name, light=1.0, tint=0.2, grayscale=0.0)
    inputs = task.transform.colours(task.sample(crops, Draws(5, numbers)).inputs)
    patches = inputs.flatten(0, -4).mean((1, 2))  # [patches, 3]
    assert patches.std(0).min() > 0.02
    assert (patches[:, 0] - patches[:, 2]).std() > 0.01
    assert ((patches >= 120 / 255 * 0.59 * 0.79) & (patches <= 120 / 255 * 1.41 * 1.21)).all()
    held = task.transform.colours(task.sample_all(crops, Draws(5, numbers)).inputs)
    torch.testing.assert_close(held, torch.full_like(held, 120 / 255), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["jigsaw", "pair", "people", "position", "shuffle"])
def test_patches_may_be_upright(name, coordinates, plain):
    """A patch of 12x8 px holds 12 rows and 8 columns of its own cell."""
    task = plain(small_task(name, rows=3, cols=2, patch_size=[12, 8], jitter=0))
    size = (36, 16) if name == "shuffle" else (12, 8)
    assert task.input_size == size
    inputs = task.sample(coordinates(5), Draws(5, torch.arange(5))).inputs
    assert inputs.shape[-2:] == size
    if name == "position":
        batch = task.sample(coordinates(5), Draws(5, torch.arange(5)))
        corner = (255 * batch.inputs[:, :2, 0, 0]).round().int().tolist()
        assert corner == [[7 + 12 * (c // 2), 4 + 8 * (c % 2)] for c in batch.targets.tolist()]
    examples = task.examples(task.sample_all(coordinates(2), Draws(5, torch.arange(2))))
    assert examples.shape[-2:] == (12, 8)
    assert create_task(name, CANVAS, **task.kwargs).input_size == size


@pytest.mark.parametrize("name", ["context", "jigsaw", "pair", "people", "position", "scale"])
def test_a_head_of_two_hidden_layers(name):
    task = small_task(name, head_hidden=[24, 12])
    head = task.head(8)
    names = [n for n, _ in head.named_modules()]
    assert any(n.endswith("hidden2") for n in names)
    features = torch.rand(5 * task.inputs_per_sample, 8, 2, 2)
    output = head(features)
    output = output["cells"] if isinstance(output, dict) else output
    assert output.shape[-1] == task.num_classes
    assert create_task(name, CANVAS, **task.kwargs).kwargs["head_hidden"] == [24, 12]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mirror": 2}, "mirror=2 in --task-kwargs: a probability from 0 to 1"),
        ({"light": 3}, "light=3 in --task-kwargs: a number from 0 to 2"),
        ({"tint": -1}, "tint=-1 in --task-kwargs: a number from 0 to 1"),
        ({"patch_size": [8]}, "patch_size=[8] in --task-kwargs: one side, or height and width"),
        ({"patch_size": [8, 2]}, "patch_size=2 in --task-kwargs: must be a whole number of at"),
        ({"patch_size": [30, 8]}, "3 rows x 2 cols of 30x8 px with margin=0 need 90x16 px"),
        ({"patch_size": [8, 30]}, "patch_size=8x30 is larger than the canvas 50x25"),
        ({"head_hidden": [0]}, "head_hidden=[0] in --task-kwargs: a whole number, 0 for none, or"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InputError) as caught:
        small_task("position", **options).head(8)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["context", "scale"])
def test_tasks_of_square_patches(name):
    with pytest.raises(InputError, match=r"patch_size=\[8, 6\] in --task-kwargs: must be a whole"):
        small_task(name, patch_size=[8, 6])
