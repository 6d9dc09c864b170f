"""Octaves against references that read places and crops off the pixels."""

import json
import math

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from patchit_hf import PatchTaskModel, PatchTaskTrainer, TrainingArguments
from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.models.build import build_model
from patchit_hf.patch_tasks import create_task
from patchit_hf.patch_tasks.contrast import info_nce
from patchit_hf.patch_tasks.identity import retrieval_accuracy
from patchit_hf.patch_tasks.lattice import Lattice
from patchit_hf.pretrain.rates import parameter_groups
from patchit_hf.training.optim import create_optimizer
from tests.conftest import train_and_kill
from tests.patch_tasks.conftest import CANVAS, PLAIN, small_task

CANVASES = {"tall": (64, 32), "wide": (32, 64), "square": (48, 48)}
LATTICE = {"details": 3, "parts": 2, "detail_cells": [4, 3], "part_cells": [3, 2], "jitter": 2}


def _draws(count, **kwargs):
    return Draws(1, torch.arange(count), **kwargs)


def _task(canvas, **kwargs):
    task = create_task("octaves", canvas, **{**PLAIN, **LATTICE, "window": max(canvas), **kwargs})
    return task.with_statistics((0.0,) * 3, (1.0,) * 3)


def _nearest(corner, canvas, size, counts):
    """Row and column of the nearest of evenly spaced places, the slow way."""
    found = []
    for at, side, window, count in zip(corner, canvas, size, counts, strict=True):
        places = [i * (side - window) / (count - 1) for i in range(count)]
        found.append(min(range(count), key=lambda i, p=places: abs(p[i] - at)))
    return found


def _read(window, share, canvas):
    """Top left corner of a window of coordinates that was enlarged by a known factor."""
    size = [side // share for side in canvas]
    small = F.interpolate(window[None], size=size, mode="bilinear", antialias=True)[0]
    return [float(small[axis].mean()) * 255 - (size[axis] - 1) / 2 for axis in (0, 1)], size


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
def test_labels_are_those_that_the_pixels_show(canvas, coordinates):
    task = _task(canvas)
    crops = coordinates(40, *canvas)
    seen = set()
    for batch in (task.sample(crops, _draws(40)), task.sample_all(crops[:4], _draws(4))):
        truth = task.truth(batch.targets).view(-1, 5)
        for windows, labels in zip(batch.inputs, truth.tolist(), strict=True):
            for view, label in enumerate(labels):
                share, counts, first = (4, (4, 3), 0) if view < 3 else (2, (3, 2), 12)
                corner, size = _read(windows[view], share, canvas)
                row, col = _nearest(corner, canvas, size, counts)
                assert label == first + row * counts[1] + col
                seen.add(label)
            person = windows[5] * 255  # nine tenths of the crop at least
            for axis in (0, 1):
                assert person[axis].max() - person[axis].min() >= 0.9 * canvas[axis] - 3
    assert seen == set(range(18))
    assert batch.inputs.shape[-2:] == task.input_size == canvas


def test_a_mirrored_crop_is_another_crop():
    """The cell is that of the mirrored crop, so that left and right stay classes."""
    task, never = _task((64, 32), mirror=1.0), _task((64, 32))
    crops = torch.randint(0, 256, (6, 3, 64, 32), dtype=torch.uint8)
    mirrored, plain = (t.sample(c, _draws(6)) for t, c in ((task, crops), (never, crops.flip(3))))
    assert torch.equal(mirrored.inputs, plain.inputs)
    assert torch.equal(mirrored.targets, plain.targets)
    some = _task((64, 32), mirror=0.5).sample(crops.repeat(50, 1, 1, 1), _draws(300)).inputs
    flipped = task.sample(crops.repeat(50, 1, 1, 1), _draws(300)).inputs
    assert 0.4 < (some == flipped).flatten(1).all(1).float().mean() < 0.6
    evaluated = task.sample_all(crops, _draws(6)).inputs
    assert torch.equal(evaluated, never.sample_all(crops, _draws(6)).inputs)


def test_soft_targets_equal_a_naive_loop():
    lattice = Lattice(4, 3, (16, 8), (64, 32), 3)
    top, left = torch.randint(0, 49, (5, 2)), torch.randint(0, 25, (5, 2))
    soft = lattice.targets(top, left, 0.7)
    for i in range(5):
        for j in range(2):
            weights = [
                math.exp(
                    -((top[i, j] / 16 - row) ** 2 + (left[i, j] / 12 - col) ** 2) / (2 * 0.7**2)
                )
                for row in range(4)
                for col in range(3)
            ]
            expected = torch.tensor([w / sum(weights) for w in weights])
            torch.testing.assert_close(soft[i, j], expected, rtol=1e-4, atol=1e-6)
    hard = lattice.targets(top, left, 0.0)
    assert torch.equal(hard.argmax(-1), soft.argmax(-1))
    assert torch.equal(hard.sum(-1), torch.ones(5, 2))


def test_targets_grow_harder(coordinates):
    task = _task((64, 32), smooth=1.0)
    crops = coordinates(20, 64, 32)
    start, end = (
        task.sample(crops, _draws(20, progress=p)).targets[:, :5, :18] for p in (0.0, 0.999)
    )
    for soft in (start, end):
        torch.testing.assert_close(soft.sum(2), torch.ones(20, 5))
    assert (end.amax(2) > start.amax(2)).all()
    assert torch.equal(end.argmax(2), start.argmax(2))


def test_one_place_and_too_many():
    one = Lattice(1, 1, (16, 8), (64, 32), 3)
    assert [int(v) for v in one.corners(torch.tensor(0))] == [24, 12]
    assert one.boxes.tolist() == [[12, 24, 20, 40]]
    assert one.targets(torch.tensor([24]), torch.tensor([12]), 0.5).tolist() == [[1.0]]
    with pytest.raises(InputError, match="50 rows of cells"):
        Lattice(50, 1, (16, 8), (64, 32), 3)


@pytest.mark.parametrize(
    "canvas", [(200, 100), (128, 64), (64, 128), (96, 96), (101, 67), (50, 25)]
)
def test_the_nearest_place_is_the_class(canvas):
    """At the default size of the lattice and with the largest offset, for any canvas."""
    task = create_task("octaves", canvas, jitter=1000, smooth=1.0)
    assert all(side in (64, round(64 * min(canvas) / max(canvas))) for side in task.input_size)
    for octave in task.octaves:
        lattice = octave.lattice
        cells = torch.arange(lattice.num_cells).repeat(20, 1)
        top, left = lattice.place(cells, _draws(20), "any")
        assert torch.equal(lattice.targets(top, left, 0.5).argmax(2), cells)
        assert top.min() >= 0
        assert int(top.max()) + lattice.size[0] <= canvas[0]
        assert int(left.max()) + lattice.size[1] <= canvas[1]


def test_grey_crops_and_light():
    grey = torch.randint(0, 256, (8, 1, 64, 32), dtype=torch.uint8).expand(-1, 3, -1, -1)
    task = _task((64, 32), light=1.0, grayscale=0.5)
    inputs = task.sample(grey, _draws(8)).inputs
    torch.testing.assert_close(inputs[:, :, 0], inputs[:, :, 2], rtol=0, atol=1e-5)
    still = _task((64, 32)).sample(grey, _draws(8)).inputs
    ratio = inputs.mean((2, 3, 4)) / still.mean((2, 3, 4))
    assert ratio.std(1).min() > 0.02  # the light of each window is its own
    assert inputs.min() >= 0
    assert inputs.max() <= 1


def test_a_tint_multiplies_whole_channels():
    crops = torch.full((40, 3, 64, 32), 100, dtype=torch.uint8)
    inputs = _task((64, 32), tint=0.3).sample(crops, _draws(40)).inputs * 255 / 100
    assert inputs.flatten(3).std(3).max() < 1e-4  # of a channel, every pixel alike
    gains = inputs[..., 0, 0]
    assert gains.min() >= 0.7 - 1e-4
    assert gains.max() <= 1.3 + 1e-4
    assert gains.std(2).mean() > 0.1  # its three channels on their own
    assert gains.std(1).mean() > 0.1  # and each window on its own


def test_identity_targets_say_which_crop():
    task = small_task("octaves", cutmix=1.0)
    model = build_model("test_resnet", task, 0)
    task = task.for_training(model.head, 50, seed=3)
    crops = torch.randint(0, 256, (9, 3, *CANVAS), dtype=torch.uint8)
    rows = torch.randperm(50)[:9]
    mixed = task.sample(crops, _draws(9, rows=rows, progress=0.5))
    row, partner, share, weight = mixed.targets[..., -4:].unbind(2)
    assert torch.equal(row, rows[:, None].float().expand(-1, 4))
    assert torch.equal(partner[:, -1], rows.roll(1).float())
    assert share[:, :3].abs().max() == 0
    assert weight.min() == weight.max() == 1
    plain = small_task("octaves").sample(crops, _draws(9, rows=rows)).inputs
    assert torch.equal(plain[:, :3], mixed.inputs[:, :3])
    pasted = (plain[:, 3] != mixed.inputs[:, 3]).any(1)
    other = (plain[:, 3].roll(1, 0) == mixed.inputs[:, 3]).all(1)
    assert other[pasted].all()
    torch.testing.assert_close(pasted.float().mean((1, 2)), share[:, 3], rtol=0, atol=0.02)
    before = task.sample(crops, _draws(9, rows=rows, progress=0.1))
    assert before.targets[..., -1].abs().max() == 0
    assert before.targets[..., -2].abs().max() == 0  # and nothing is pasted yet


def test_the_table_starts_from_the_persons():
    task = small_task("octaves", identity_start=0.25)
    model = build_model("test_resnet", task, 0).eval()
    assert task.sees_all_after(10) == []  # no table yet
    task = task.for_training(model.head, 9, seed=3)
    assert task.sees_all_after(10) == [3]  # the first step with at least a quarter done
    for other in ({"position_weight": 0}, {"identity_weight": 0}, {"identity_start": 0}):
        always = small_task("octaves", **other)
        head = build_model("test_resnet", always, 0).head
        assert always.for_training(head, 9, seed=3).sees_all_after(10) == []
    crops = torch.randint(0, 256, (9, 3, *CANVAS), dtype=torch.uint8)
    rows = torch.randperm(9)
    task.see_all(model.head, model.features, [(part, crops[part]) for part in rows.split(4)])
    whole = task.sample_all(crops, _draws(9))
    embedding = model(whole.inputs)["embedding"][::3, -1]  # three samples a crop
    expected = F.normalize(embedding, dim=1)
    torch.testing.assert_close(model.head.table.detach(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="after for_training"):
        model.head.without_table().fill_table(rows, expected)


def test_the_loss_equals_a_naive_one():
    task = small_task("octaves", cutmix=1.0, smooth=1.0, label_smoothing=0.2, identity_weight=0.5)
    model = build_model("test_resnet", task, 0)
    task = task.for_training(model.head, 30, seed=3)
    rows = torch.randperm(30)[:6]
    crops = torch.randint(0, 256, (6, 3, *CANVAS), dtype=torch.uint8)
    batch = task.sample(crops, _draws(6, rows=rows, progress=0.6))
    torch.nn.init.normal_(model.head.places.out.weight)
    output = model(batch.inputs)
    values = task.loss(output, batch.targets)

    position = 0.0
    for i in range(6):
        for view, (first, count) in enumerate([(0, 6), (0, 6), (6, 4)]):
            logits = output["places"][i, view, first : first + count].detach()
            wanted = batch.targets[i, view, first : first + count]
            position -= float((wanted * logits.log_softmax(0)).sum()) / math.log(count) / 18
    assert values["position_loss"].item() == pytest.approx(position, rel=1e-4)

    table, identity = model.head.table.detach(), 0.0
    for i in range(6):
        for view in range(2):  # part and person
            e = output["embedding"][i, view].detach()
            cosines = torch.stack([F.cosine_similarity(e, vector, dim=0) for vector in table])
            share = batch.targets[i, 2 + view, -2]
            wanted = torch.full((30,), 0.2 / 30)
            wanted[rows[i]] += 0.8 * (1 - share)
            wanted[rows[i - 1]] += 0.8 * share
            identity -= float((wanted * (cosines / 0.1).log_softmax(0)).sum()) / 12
    identity /= math.log(30)
    assert values["identity_loss"].item() == pytest.approx(identity, rel=1e-4)
    assert values["loss"].item() == pytest.approx(position + 0.5 * identity, rel=1e-4)


@pytest.mark.parametrize("crops", [0, 31])
def test_without_a_table_the_batch_is_searched(crops):
    """For streams (0 crops) and beyond the limit."""
    task = small_task("octaves", table_limit=30, queue=0)
    model = build_model("test_resnet", task, 0)
    assert task.bytes_per_run(crops) == 0
    assert small_task("octaves").bytes_per_run(100) == 4 * 100 * 128 * 4
    task = task.for_training(model.head, crops, seed=3)
    assert model.head.table is None
    assert task.trained_apart(model.head) == {}
    rows = torch.arange(6) + 20 if crops else None
    images = torch.randint(0, 256, (6, 3, *CANVAS), dtype=torch.uint8)
    batch = task.sample(images, _draws(6, rows=rows))
    output = model(batch.inputs)
    own = torch.arange(6).repeat_interleave(2)
    loss, _ = info_nce(output["embedding"].flatten(0, 1), own, 0.1)
    found = task.loss(output, batch.targets)["identity_loss"]
    assert found.item() == pytest.approx(loss.item() / math.log(11), rel=1e-5)


def test_a_batch_is_also_compared_with_the_batches_before():
    task = small_task("octaves", table_limit=0, queue=20)
    model = build_model("test_resnet", task, 0)
    task = task.for_training(model.head, 500, seed=3)
    assert model.head.queue.shape == (20, 128)
    before = model.head.queue.clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(20))
    images = torch.randint(0, 256, (4, 3, *CANVAS), dtype=torch.uint8)
    for number in range(3):
        batch = task.sample(images, _draws(4, rows=torch.arange(4) + 4 * number))
        output = model(batch.inputs)
        mine = F.normalize(output["embedding"].detach().flatten(0, 1), dim=1)
        assert torch.equal(output["queue"], before)
        assert torch.equal(model.head.queue, torch.cat([mine, before])[:20])

        logits = torch.cat([mine @ mine.T, mine @ before.T], dim=1) / 0.1
        logits[torch.arange(8), torch.arange(8)] = float("-inf")
        other = torch.arange(8) ^ 1  # part and person of a crop stand side by side
        expected = F.cross_entropy(logits, other) / math.log(7 + 20)
        found = task.loss(output, batch.targets)["identity_loss"]
        assert found.item() == pytest.approx(expected.item(), rel=1e-4)
        before = model.head.queue.clone()

    model.eval()
    assert "queue" not in model(batch.inputs)
    assert torch.equal(model.head.queue, before)
    bare = model.head.without_table()
    assert bare.queue is None
    assert not [name for name in bare.state_dict() if "queue" in name]
    few = small_task("octaves", table_limit=0)
    few.for_training(model.head, 100, seed=3)
    assert len(model.head.queue) == 50  # a quarter of an epoch's embeddings
    few.for_training(model.head, 0, seed=3)
    assert len(model.head.queue) == 4096
    small_task("octaves").for_training(model.head, 100, seed=3)
    assert model.head.queue is None


def test_weights_down_to_one_question():
    crops = torch.randint(0, 256, (6, 3, *CANVAS), dtype=torch.uint8)
    alone = small_task("octaves", position_weight=0, details=0)
    model = build_model("test_resnet", alone, 0)
    alone = alone.for_training(model.head, 20, 0)
    assert alone.inputs_per_sample == 2
    assert alone.num_classes == 4
    batch = alone.sample(crops, _draws(6, rows=torch.arange(6), progress=0.0))
    assert batch.targets[..., -1].min() == 1  # from the first step on
    values = alone.loss(model(batch.inputs), batch.targets)
    values["position_loss"].backward(retain_graph=True)
    assert all(p.grad is None for p in model.backbone.parameters())
    assert model.head.places.out.weight.grad.abs().sum() > 0
    values["loss"].backward()
    assert any(p.grad is not None for p in model.backbone.parameters())

    position = small_task("octaves", identity_weight=0)
    assert position.inputs_per_sample == 3
    model = build_model("test_resnet", position, 0)
    batch = position.sample(crops, _draws(6))
    values = position.loss(model(batch.inputs), batch.targets)
    assert values["loss"].item() == pytest.approx(1.0)  # that of guessing
    assert "identity_loss" not in values
    assert position.collected(model(batch.inputs), batch.targets) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"position_weight": 0, "identity_weight": 0}, "nothing to learn"),
        ({"parts": 0}, "parts=0"),
        ({"detail_cells": 13}, "rows and columns"),
        ({"part_cells": [150, 1]}, "150 rows"),
        ({"mirror": 2}, "from 0 to 1"),
        ({"temperature": 0}, "temperature=0"),
        ({"table_limit": 2**25}, "table_limit=33554432"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(InputError, match=words):
        create_task("octaves", **options)


def test_retrieval_over_all_crops():
    task = small_task("octaves")
    embedding = torch.randn(40, 2, 128)
    embedding[:10, 0] = embedding[:10, 1] + 0.01  # these ten find their person
    embedding[10:, 0] = -embedding[10:, 1]  # and these do not
    targets = torch.zeros(40, 4, 14)
    targets[..., -4] = torch.arange(40.0)[:, None]
    collected = task.collected({"embedding": embedding}, targets)
    assert task.over_all(collected) == {"retrieval_accuracy": 0.25}
    order = torch.randperm(40)
    assert task.over_all(collected[order]) == {"retrieval_accuracy": 0.25}
    assert retrieval_accuracy(embedding[:, :1], embedding[:, 1], torch.zeros(40)) == 1.0


def _people(count):
    """Crops whose colour is their own, darker towards the foot and the right."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : CANVAS[0], 0 : CANVAS[1]]
    shade = (2 - y / CANVAS[0] - x / CANVAS[1] / 2)[None, :, :, None] / 2
    colours = rng.integers(60, 250, (count, 1, 1, 3))
    pixels = shade * colours + rng.integers(0, 6, (count, *CANVAS, 3))
    images = [Image.fromarray(crop.clip(0, 255).astype(np.uint8)) for crop in pixels]
    people = datasets.Dataset.from_dict({"image": images})
    return people.cast_column("image", datasets.Image())


@pytest.mark.e2e
def test_a_run_finds_its_people_and_reloads(tmp_path, caplog, capsys):
    caplog.set_level("INFO", "patchit_hf")
    crops = _people(64)
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"), max_steps=45, train_batch_size=128, learning_rate=1e-2,
        save_steps=45, audit=True, figures=True,
    )  # fmt: skip
    task = small_task("octaves", light=0.1, mirror=0.5, cutmix=0.5, smooth=1.0, table_rate=0.02)
    trainer = PatchTaskTrainer("test_resnet", args, task, crops, crops)
    results = trainer.train()
    assert "a vector for each of 64 crops: 0.1 MB" in caplog.text
    assert "own person found" in capsys.readouterr().err
    assert results["eval_retrieval_accuracy"] > 10 / 64
    assert results["train_identity_accuracy"] > 10 / 64
    assert results["eval_accuracy"] > task.chance + 0.05

    folder = tmp_path / "run"
    stored = load_file(next((folder / "checkpoints").glob("*/model.safetensors")))
    assert stored["head.table"].shape == (64, 128)
    assert "table" not in load_file(folder / "head/model.safetensors")
    assert "most like their own whole person" in (folder / "README.md").read_text()
    record = json.loads((folder / "patchit.json").read_text())
    by_colour = record["audit"]["compared"]["retrieval_accuracy"]
    assert by_colour["mean_colour"] > by_colour["edge_energy"]
    assert "alone" in (folder / "README.md").read_text()
    assert set(record["figures"]) >= {"patches.png", "confusion.png", "localisation.png"}
    again = PatchTaskModel.from_pretrained(folder)
    inputs = again.task.sample_all(torch.zeros(2, 3, *CANVAS, dtype=torch.uint8), _draws(2)).inputs
    trainer.model.eval()
    for key, value in trainer.model(inputs).items():
        torch.testing.assert_close(again(inputs)[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.e2e
@pytest.mark.parametrize("killed_after", [6, 11], ids=["between the joins", "after them"])
def test_a_killed_run_keeps_what_it_joined(tmp_path, killed_after, capsys):
    crops = _people(24)
    task = small_task("octaves", joins=2, join_neighbours=2, join_overlap=0.2)

    def trainer(name):
        args = TrainingArguments(
            output_dir=str(tmp_path / name), max_steps=12, train_batch_size=48, audit=False,
            figures=False, save_steps=5, eval_steps=0,
        )  # fmt: skip
        return PatchTaskTrainer("test_resnet", args, task, crops, crops)

    whole = trainer("whole")
    assert whole.task.sees_all_after(12) == [3, 8]
    whole.train()
    assert capsys.readouterr().err.count("crops that are alike were joined: 24 crops") == 2
    assert 1 < len(whole.model.head.group.unique()) < 24
    train_and_kill(trainer("killed"), killed_after)
    resumed = trainer("killed")
    resumed.train()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


@pytest.mark.e2e
def test_a_stream_has_no_table(tmp_path):
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"), max_steps=4, train_batch_size=32, audit=False,
        figures=False, save_steps=0,
    )  # fmt: skip
    stream = _people(24).to_iterable_dataset()
    trainer = PatchTaskTrainer("test_resnet", args, small_task("octaves"), stream, _people(8))
    results = trainer.train()
    assert trainer.model.head.table is None
    assert "train_identity_accuracy" not in results
    assert 0 < results["train_identity_loss"] < 3
    assert 0 <= results["eval_retrieval_accuracy"] <= 1


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
@pytest.mark.parametrize("layer_decay", [None, 0.8])
def test_the_table_learns_at_a_rate_of_its_own(optimizer, layer_decay):
    task = small_task("octaves", table_rate=0.004)
    model = build_model("test_resnet", task, 0)
    args = TrainingArguments(
        output_dir="unused", optim=optimizer, learning_rate=0.001, layer_decay=layer_decay
    )
    task = task.for_training(model.head, 40, 0)
    groups = parameter_groups(model, task, args)
    *others, own = groups
    assert own["params"] == [model.head.table]
    assert own["weight_decay"] == 0
    assert own["lr_scale"] == pytest.approx(4)
    rest = [p for group in others for p in group["params"]]
    everything = {id(p) for p in model.parameters()} - {id(model.head.table)}
    assert {id(p) for p in rest} == everything
    assert len(rest) == len(everything)
    assert any(group["weight_decay"] > 0 for group in others)
    slow, fast = (_first_step(model.head.table, groups, optimizer, rate) for rate in (1e-3, 4e-3))
    torch.testing.assert_close(fast, 4 * slow, rtol=1e-3, atol=1e-6)
    if optimizer != "sgd":  # of the size of the rate; by timm's version half or twice as long
        assert 0.0018 < fast.mean().item() < 0.0081
        assert fast.std().item() < 1e-6


def _first_step(table, groups, optimizer, rate):
    """Return how far the first step at a rate takes a table."""
    trained = create_optimizer([dict(group) for group in groups], optimizer, 0.001, 0.05)
    trained.param_groups[-1]["lr"] = rate
    before = table.detach().clone()
    table.grad = torch.full_like(before, 0.5)
    trained.step()
    return before - table.detach()


def test_without_a_table_the_optimiser_gets_the_model():
    task = small_task("position")
    model = build_model("test_resnet", task, 0)
    args = TrainingArguments(output_dir="unused")
    assert parameter_groups(model, task, args) is model
