"""The online probe: what it measures, and that it leaves the training alone."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.common.errors import InputError
from patchit_hf.metrics.probe import probe
from patchit_hf.models.build import build_model
from patchit_hf.models.features import (
    crop_size,
    pooled_features,
    reestimate_batch_norm,
    whole_crops,
)
from patchit_hf.pretrain.probe import open_probe
from tests.conftest import make_crops


@pytest.fixture
def labelled():
    """Crops of which every second is dark, with that as a label, and a column of noise."""
    pictures = [
        Image.fromarray((np.asarray(im) * (0.4 if i % 2 else 1.0)).astype(np.uint8))
        for i, im in enumerate(make_crops(60))
    ]
    return datasets.Dataset.from_dict(
        {
            "image": pictures,
            "dark": ["yes" if i % 2 else "no" for i in range(60)],
            "noise": np.random.default_rng(0).integers(-1, 2, 60).tolist(),
            "number": [i + 0.5 for i in range(60)],
            "one": [1] * 60,
        }
    ).cast_column("image", datasets.Image())


def _trainer(folder, data, small, **kwargs):
    args = TrainingArguments(
        output_dir=str(folder), max_steps=8, train_batch_size=16, eval_steps=0, figures=False,
        audit=False, save_steps=0, **kwargs,
    )  # fmt: skip
    task = create_task("position", (50, 25), **small)
    return PatchTaskTrainer(
        build_model("test_resnet", task, 42, {"drop_path_rate": 0.3}),
        args, task, data.select(range(40)), data.select(range(40, 60)),
    )  # fmt: skip


def test_features_that_tell_and_features_that_do_not():
    rng = np.random.default_rng(0)
    labels, truth = rng.integers(0, 3, 300), rng.integers(0, 3, 200)
    centres = 4 * np.eye(3, 8)
    told = probe(
        centres[labels] + rng.normal(size=(300, 8)), labels,
        centres[truth] + rng.normal(size=(200, 8)), truth,
    )  # fmt: skip
    assert min(told.values()) > 0.95
    lost = probe(rng.normal(size=(300, 8)), labels, rng.normal(size=(200, 8)), truth)
    assert max(lost.values()) < 0.5


def test_a_rare_class_is_not_won_by_never_naming_it():
    rng = np.random.default_rng(0)
    labels, truth = np.array([0] * 285 + [1] * 15), np.array([0] * 190 + [1] * 10)
    values = probe(rng.normal(size=(300, 8)), labels, rng.normal(size=(200, 8)), truth)
    assert values["knn"] == pytest.approx(0.5, abs=0.02)  # always the frequent one


@pytest.mark.e2e
def test_the_probe_changes_nothing_of_the_training(tmp_path, labelled, small):
    plain = _trainer(tmp_path / "plain", labelled, small)
    plain.train()
    probed = _trainer(tmp_path / "probed", labelled, small, probe_column="dark", probe_steps=2)
    results = probed.train()
    assert results["probe_linear"] > 0.9
    assert results["probe_knn"] > 0.9
    entries = probed.monitor.history.entries
    assert [e["step"] for e in entries if "probe_knn" in e] == [2, 4, 6, 8]
    one = load_file(tmp_path / "plain" / "model.safetensors")
    for name, value in load_file(tmp_path / "probed" / "model.safetensors").items():
        assert torch.equal(one[name], value), name


def test_labels_that_are_none_are_left_out(tmp_path, labelled, small):
    trainer = _trainer(tmp_path / "run", labelled, small, probe_column="noise")
    held = trainer.evaluator.probe
    values = np.array(labelled["noise"][:])
    assert len(held.train.labels) == (values[:40] != -1).sum()
    assert len(held.test.labels) == (values[40:] != -1).sum()
    assert held.chance == 0.5
    kept = [i for i in range(40) if values[i] != -1]
    first = torch.from_numpy(np.asarray(labelled[kept[0]]["image"]).copy()).permute(2, 0, 1)
    assert torch.equal(held.train.crops[0], first)
    assert held.train.labels.tolist() == [int(values[i]) for i in kept]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("dork", r"--probe-column 'dork': the training crops have no such column \(columns: image"),
        ("number", "has values of type float; labels must be integers"),
        ("one", "the training crops have fewer than two classes"),
    ],
)
def test_columns_that_cannot_be_probed(labelled, small, column, message):
    args, task = TrainingArguments(probe_column=column), create_task("position", (50, 25), **small)
    with pytest.raises(InputError, match=message):
        open_probe(labelled, labelled, args, task)


def test_identities_without_a_common_class_are_refused(crops, small):
    args = TrainingArguments(probe_column="person_id")
    task = create_task("position", (50, 25), **small)
    with pytest.raises(InputError, match="with the same classes in both"):
        open_probe(crops.select(range(20)), crops.select(range(20, 40)), args, task)
    with pytest.raises(InputError, match="needs held-out crops"):
        open_probe(crops, None, args, task)


def test_batch_statistics_are_estimated_on_what_is_given():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.9))
    net.forward_features, net.num_features = net.forward, 4
    batches = [torch.randn(8, 3, 5, 5) * 2 + 1 for _ in range(3)]
    weights = [p.clone() for p in net.parameters()]
    momentum = net[1].momentum
    assert reestimate_batch_norm(net, batches) == 1
    with torch.no_grad():
        seen = [net[0](b) for b in batches]
    mean = torch.stack([s.mean((0, 2, 3)) for s in seen]).mean(0)
    torch.testing.assert_close(net[1].running_mean, mean)
    assert net[1].momentum == momentum
    assert not net.training
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))


def test_whole_crops_are_the_area_of_the_patches():
    task = create_task("pt18")
    task = task.with_statistics((0.0,) * 3, (1.0,) * 3)
    spec = build_model("test_resnet", task, 0).spec
    crops = torch.randint(0, 256, (2, 3, 200, 100), dtype=torch.uint8)
    assert torch.equal(whole_crops(task, spec, crops), crops[:, :, 4:196, 2:98] / 255)
    assert crop_size(create_task("pt18", input_scale=2)) == (384, 192)
    assert crop_size(create_task("context")) == (192, 96)
    assert whole_crops(create_task("context"), spec, crops).shape == (2, 3, 192, 96)


def test_pooled_features_are_timms(small):
    task = create_task("position", (50, 25), **small)
    backbone = build_model("test_resnet", task, 0).backbone.eval()
    inputs = torch.randn(3, 3, 64, 32)
    with torch.no_grad():
        expected = backbone(inputs)
    torch.testing.assert_close(pooled_features(backbone, [inputs]), expected)


def test_labels_are_compared_by_name(crops, small):
    args = TrainingArguments(probe_column="view")
    task = create_task("position", (50, 25), **small)
    names = [["back", "front", "side"][i % 3] for i in range(40)]

    def rows(*classes):
        own = datasets.ClassLabel(names=list(classes))
        return crops.add_column("view", [own.str2int(name) for name in names], feature=own)

    held = open_probe(rows("back", "front", "side"), rows("side", "front", "back"), args, task)
    assert held.test.labels.tolist() == held.train.labels.tolist() == [i % 3 for i in range(40)]
    blank = crops.add_column("view", [None if i == 5 else float(i % 3) for i in range(40)])
    held = open_probe(blank, blank, args, task)
    assert held.train.labels.tolist() == [i % 3 for i in range(40) if i != 5]
