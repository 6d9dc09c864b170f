"""Evaluation: figures, intervals, tables and predictions of a checkpoint; probes; embeddings."""

import json

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from patchit_hf import FinetunedModel
from patchit_hf.data.people import load_people
from patchit_hf.evaluate import main
from patchit_hf.evaluate.scores import open_extractor, probe_column
from patchit_hf.finetune.labelled import open_crops_of
from patchit_hf.training.arguments import LoopArguments
from tests.conftest import make_crops

pytestmark = pytest.mark.usefixtures("with_people")


@pytest.fixture
def folder(labelled_people):
    return labelled_people


def _evaluate(model, folder, out, *words):
    code = main([str(model), "--dataset", folder, "--output-dir", str(out), *map(str, words)])
    assert code == 0
    return json.loads((out / "metrics.json").read_text())


@pytest.mark.e2e
@pytest.mark.parametrize("task", ["attributes", "reid", "pose", "action"])
def test_figures_and_predictions(task, finetuned, folder, tmp_path):
    found = _evaluate(finetuned(task), folder, tmp_path, "--bootstrap", 50)
    model = FinetunedModel.from_pretrained(finetuned(task))
    entry = found["figures"][model.task.primary_metric]
    assert entry["low"] <= entry["value"] <= entry["high"]
    assert found["crops"] == 60
    assert found["table"]
    assert "test split" in found["data"]
    table = datasets.Dataset.from_parquet(str(tmp_path / "predictions.parquet"))
    assert len(table) == 60
    assert table["person_id"][0] == load_people(600, num_proc=1)[200]["person_id"]
    rows = datasets.load_dataset(folder, split="test")
    kept = torch.tensor([table[name][:] for name in model.task.columns(torch.zeros(1, 99, 3))]).T \
        if task == "attributes" else None  # fmt: skip
    if task == "attributes":
        targets = model.task.targets(rows)
        again = model.task.measure(kept, targets).summary
        assert again["map"] == pytest.approx(entry["value"], abs=1e-6)
    elif task == "action":
        names = rows.features["action"].names
        right = [names[a] == p for a, p in zip(rows["action"], table["prediction"], strict=True)]
        assert sum(right) / 60 == pytest.approx(entry["value"])


@pytest.mark.e2e
def test_query_and_gallery(finetuned, folder, tmp_path):
    found = _evaluate(finetuned("reid"), folder, tmp_path, "--split", "query", "--gallery-split",
                      "gallery", "--bootstrap", 20)  # fmt: skip
    assert found["crops"] == 80
    queries = found["table"][0]
    assert queries["queries"] + queries["skipped"] == 20


def test_a_gallery_is_for_reid(finetuned, folder, tmp_path, capsys):
    code = main([str(finetuned("action")), "--dataset", folder, "--split", "query",
                 "--gallery-split", "gallery", "--output-dir", str(tmp_path / "x")])  # fmt: skip
    assert code == 2
    assert "only re-identification" in capsys.readouterr().err


@pytest.mark.e2e
def test_probes_of_frozen_features(finetuned, folder, tmp_path):
    found = _evaluate(finetuned("action"), folder, tmp_path, "--probe", "knn,linear", "--column",
                      "long_sleeves")  # fmt: skip
    values = {k: v["value"] for k, v in found["figures"].items()}
    assert set(values) == {"knn_balanced_accuracy", "linear_balanced_accuracy"}
    assert all(0 < v < 1 for v in values.values())


def test_a_probe_finds_what_can_be_seen(tmp_path):
    """Bright and dark pictures are told apart by the features of an untrained network."""
    bright = [i % 2 for i in range(80)]
    pictures = [p.point(lambda v, b=b: v // (3 - 2 * b)) for p, b in
                zip(make_crops(80), bright, strict=True)]  # fmt: skip
    rows = datasets.Dataset.from_dict({"image": pictures, "bright": bright})
    rows = rows.cast_column("image", datasets.Image())
    extractor = open_extractor("random", "test_resnet", (48, 24))
    values, bad = probe_column(
        extractor, rows.select(range(60)), rows.select(range(60, 80)), "bright",
        ("knn", "linear"), LoopArguments(),
    )  # fmt: skip
    assert values == {"knn": 1.0, "linear": 1.0}
    assert not any(images.found for images in bad)


@pytest.mark.e2e
def test_embeddings(finetuned, folder, tmp_path):
    file = tmp_path / "deep" / "e.parquet"
    assert main([str(finetuned("reid")), "--dataset", folder, "--embed", str(file)]) == 0
    table = datasets.Dataset.from_parquet(str(file))
    assert len(table) == 60
    assert "image" not in table.column_names
    assert (
        len(table[0]["embedding"])
        == FinetunedModel.from_pretrained(finetuned("reid")).backbone.num_features
    )
    assert [p.name for p in file.parent.iterdir()] == ["e.parquet"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--probe", "svm", "--column", "hat"], "--probe 'svm'"),
        (["--probe", "knn"], "needs --column"),
        (["--bootstrap", "-1"], "--bootstrap -1"),
        (["--split", "nose"], "--split 'nose'"),
        (["--probe", "knn", "--column", "nose"], "'nose'"),
    ],
)
def test_bad_input_is_one_line(words, message, finetuned, folder, tmp_path, capsys):
    code = main([str(finetuned("action")), "--dataset", folder, *words])
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert code == 2
    assert len(lines) == 1
    assert message in lines[0]


def test_a_pretrained_export_is_no_finetuned_model(tmp_path, capsys):
    (tmp_path / "patchit.json").write_text('{"format_version": 1}')
    assert main([str(tmp_path)]) == 2
    assert "not a finetuned model" in capsys.readouterr().err


def test_batch_statistics_mix_the_sources_of_sorted_crops(tmp_path):
    """Sixty-four dark crops, then as many bright ones: the variance is that of all together."""
    rng = np.random.default_rng(0)
    images = [
        Image.fromarray((level + rng.integers(0, 40, (52, 26, 3))).astype(np.uint8))
        for level in (20, 180)
        for _ in range(64)
    ]
    rows = datasets.Dataset.from_dict({"image": images}).cast_column("image", datasets.Image())
    extractor = open_extractor("random", "test_resnet", (48, 24))
    data = open_crops_of(rows, extractor.geometry.canvas, LoopArguments(), "sorted")
    extractor.reestimate(data)
    modules = list(extractor.backbone.modules())
    convolution = next(m for m in modules if isinstance(m, torch.nn.Conv2d))
    norm = next(m for m in modules if isinstance(m, torch.nn.BatchNorm2d))
    with torch.no_grad():
        maps = convolution(extractor.inputs(torch.cat([crops for crops, _ in data.batches(64)])))
    torch.testing.assert_close(norm.running_var, maps.var((0, 2, 3)), rtol=0.05, atol=1e-4)
