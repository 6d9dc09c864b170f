"""Evaluation: figures, intervals, tables and predictions of a checkpoint; probes; embeddings."""

import io
import json

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from patchit_hf import FinetunedModel
from patchit_hf.common.errors import InputError
from patchit_hf.evaluate import evaluate, main
from patchit_hf.evaluate.features import open_extractor, probe_column, reestimated
from patchit_hf.evaluate.scores import write_table
from patchit_hf.finetune.labelled import open_crops_of
from patchit_hf.training.arguments import LoopArguments
from tests.conftest import make_crops, some_people


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
    assert table["person_id"][0] == some_people()[200]["person_id"]
    rows = datasets.load_dataset(folder, split="test")
    if task == "attributes":
        names = _predicted(model.task.columns(torch.zeros(1, 99, 3)), table)
        kept = torch.tensor([table[name][:] for name in names]).T
        assert table["hat"][:] == rows["hat"][:]
        targets = model.task.targets(rows)
        again = model.task.measure(kept, targets).summary
        assert again["map"] == pytest.approx(entry["value"], abs=1e-6)
    elif task == "action":
        names = rows.features["action"].names
        right = [names[a] == p for a, p in zip(rows["action"], table["prediction"], strict=True)]
        assert sum(right) / 60 == pytest.approx(entry["value"])


def _opened(rows, index):
    """A row's image as ``Image.open`` returns it, not decoded yet."""
    stored = rows.cast_column("image", datasets.Image(decode=False))[index]["image"]
    return Image.open(io.BytesIO(stored["bytes"]))


def _predicted(names, table):
    """The columns of the predictions: ``predicted_hat`` where ``hat`` is a label."""
    return [f"predicted_{n}" if f"predicted_{n}" in table.column_names else n for n in names]


def _in_columns(model, results):
    """What ``predictions.parquet`` says of the results, an array a crop."""
    kind = model.task.__class__.__module__.rpartition(".")[2]
    if kind == "reid":
        return np.array([r.embedding for r in results])
    if kind == "pose":
        return np.array([[list(r.keypoints[j]) for j in model.task.joints] for r in results])
    return np.array([list(r.probabilities.values()) for r in results])


def _stored(model, table):
    """The same of the file."""
    names = [n for n in model.task.columns(torch.zeros(1, 99, 3)) if n != "prediction"] \
        if hasattr(model.task, "label_columns") else None  # fmt: skip
    if names is None:
        names = {"embedding", "predicted_keypoints"} & set(table.column_names) or [
            n for n in table.column_names if n.startswith("p=")
        ]
    columns = [np.array(table[name][:]) for name in _predicted(names, table)]
    return columns[0] if len(columns) == 1 and columns[0].ndim > 1 else np.stack(columns, 1)


@pytest.mark.e2e
@pytest.mark.parametrize("task", ["attributes", "reid", "pose", "action"])
def test_predict_says_what_the_command_writes(task, finetuned, folder, tmp_path):
    _evaluate(finetuned(task), folder, tmp_path, "--bootstrap", 0)
    table = datasets.Dataset.from_parquet(str(tmp_path / "predictions.parquet"))
    model = FinetunedModel.from_pretrained(finetuned(task))
    rows = datasets.load_dataset(folder, split="test")
    results = model.predict(rows)
    stored = _stored(model, table)
    assert stored.std() > 0.001
    np.testing.assert_allclose(_in_columns(model, results), stored, rtol=0, atol=1e-5)
    one = model.predict(_opened(rows, 7))
    by_another_batch = 2e-3 if task == "pose" else 1e-5  # pixels: decoding enlarges rounding
    np.testing.assert_allclose(_in_columns(model, [one])[0], stored[7], atol=by_another_batch)
    small = _in_columns(model, model.predict(rows["image"], batch_size=17))
    np.testing.assert_allclose(small, stored, atol=by_another_batch)
    if task == "action":
        assert [r.label for r in results] == table["prediction"][:]
        assert one.score == one.probabilities[one.label] == max(one.probabilities.values())
    if task == "attributes":
        for name, yes in one.labels.items():
            if isinstance(yes, bool):
                assert yes == (one.probabilities[name] >= 0.5)
            else:
                assert one.probabilities[f"{name}={yes}"] == max(
                    p for key, p in one.probabilities.items() if key.startswith(f"{name}=")
                )
    model.train()
    model.predict(_opened(rows, 7))
    assert model.training


@pytest.mark.e2e
def test_pose_in_boxes_is_what_evaluate_says_of_them(finetuned, folder):
    """People cut out of larger images: in pixels of these, with and without a data set's boxes."""
    model = FinetunedModel.from_pretrained(finetuned("pose"))
    kwargs = {**model.task.kwargs, "box_column": "bbox"}
    model.task = type(model.task).from_kwargs(kwargs).with_input_size(model.geometry.size)
    rows = datasets.load_dataset(folder, split="test").select(range(6))
    boxes = [[20.25 + 3 * i, 10.5, 90.0 + i, 180.75] for i in range(6)]
    boxed = rows.add_column("bbox", boxes)
    stored = np.array(evaluate(model, boxed, bootstrap=0).columns["predicted_keypoints"])
    named = [r.keypoints for r in model.predict(boxed)]
    found = np.array([[list(k[j]) for j in model.task.joints] for k in named])
    np.testing.assert_allclose(found, stored, atol=1e-4)
    again = model.predict(rows["image"], boxes=boxes)
    assert [r.keypoints for r in again] == named
    image = rows[2]["image"]
    for one in (model.predict(image, boxes=boxes[2]), model.predict(image, boxes=boxes)[2]):
        for joint, point in one.keypoints.items():
            assert point == pytest.approx(named[2][joint], abs=2e-3)
    whole = model.predict(image)
    assert whole.keypoints != one.keypoints


@pytest.mark.e2e
def test_a_box_is_seen_as_a_crop(finetuned, folder):
    model = FinetunedModel.from_pretrained(finetuned("action"))
    image = datasets.load_dataset(folder, split="test")[0]["image"]
    boxes = [[10, 20, 60, 150], [-5, -5, 50, 100]]
    found = model.predict(image, boxes=boxes)
    crops = [image.crop((10, 20, 60, 150)), image.crop((0, 0, 50, 100))]
    assert found == model.predict(crops)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0, 0, 10, 10]] * 2, r"boxes of shape \[2, 4\]: must be \[3, 4\], one an image"),
        ([[0, 0, 5]] * 3, r"boxes of shape \[3, 3\]"),
        ([[0, 0, 9, 9], [5, 0, 5, 9], [0, 0, 9, 9]], r"image 1: box \[5.0, 0.0, 5.0, 9.0\]: must"),
        ([[0, 0, 9, 9], [0, 0, 9, 9], [500, 0, 501, 9]], "image 2: box .* lies outside"),
        ([["a"]], "boxes: must be numbers"),
    ],
)
def test_bad_boxes_are_one_error(finetuned, boxes, message):
    model = FinetunedModel.from_pretrained(finetuned("action"))
    with pytest.raises(InputError, match=message):
        model.predict(make_crops(3), boxes=boxes)


@pytest.mark.e2e
def test_no_images_and_bad_sizes(finetuned):
    model = FinetunedModel.from_pretrained(finetuned("reid"))
    assert model.predict([]) == []
    assert model.embed([]).shape == (0, model.backbone.num_features)
    for call in (model.predict, model.embed):
        with pytest.raises(InputError, match="batch_size 0: must be a whole number of at least 1"):
            call(make_crops(2), batch_size=0)


@pytest.mark.e2e
@pytest.mark.parametrize("words", [(), ("--no-reestimate-batch-norm",)])
def test_a_finetuned_model_embeds_as_the_command_does(words, finetuned, folder, tmp_path):
    file = tmp_path / "e.parquet"
    words = ("--split", "test", *words)
    assert main([str(finetuned("reid")), "--dataset", folder, "--embed", str(file), *words]) == 0
    stored = np.array(datasets.Dataset.from_parquet(str(file))["embedding"][:])
    model = FinetunedModel.from_pretrained(finetuned("reid"))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    rows = datasets.load_dataset(folder, split="test")
    found = model.embed(rows["image"], batch_size=9, reestimate_batch_norm=len(words) == 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, stored, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    if len(words) > 2:
        one = model.embed(_opened(rows, 3))
        np.testing.assert_allclose(one, stored[3], atol=1e-5)
    else:
        with pytest.raises(InputError, match="1 images have no statistics; give at least 2"):
            model.embed(rows[3]["image"], reestimate_batch_norm=True)


@pytest.mark.e2e
def test_evaluate_in_python_is_the_command(finetuned, folder, tmp_path):
    words = ["--split", "query", "--gallery-split", "gallery", "--bootstrap", 20]
    written = _evaluate(finetuned("reid"), folder, tmp_path / "command", *words)
    result = evaluate(finetuned("reid"), folder, split="query", gallery="gallery", bootstrap=20)
    assert {k: v["value"] for k, v in written["figures"].items()} == result.metrics
    assert {k: (v["low"], v["high"]) for k, v in written["figures"].items()} == result.intervals
    assert (result.crops, result.table, result.data) == (80, written["table"], written["data"])
    result.save(tmp_path / "python")
    files = [tmp_path / who / "predictions.parquet" for who in ("command", "python")]
    assert files[0].read_bytes() == files[1].read_bytes()
    again = json.loads((tmp_path / "python" / "metrics.json").read_text())
    assert again == {k: v for k, v in written.items() if k != "command"}
    loaded = FinetunedModel.from_pretrained(finetuned("reid"))
    splits = datasets.load_dataset(folder)
    memory = evaluate(loaded, splits["query"], gallery=splits["gallery"], bootstrap=0)
    assert memory.metrics == pytest.approx(result.metrics, abs=1e-6)
    assert (memory.intervals, memory.model) == ({}, "a model in memory")
    with pytest.raises(InputError, match="split 'test': the data set is the split itself"):
        evaluate(loaded, splits["query"], split="test")


@pytest.mark.e2e
def test_query_and_gallery(finetuned, folder, tmp_path, capsys):
    found = _evaluate(finetuned("reid"), folder, tmp_path, "--split", "query", "--gallery-split",
                      "gallery", "--bootstrap", 20)  # fmt: skip
    assert found["crops"] == 80
    queries = found["table"][0]
    assert queries["queries"] + queries["skipped"] == 20
    assert capsys.readouterr().err.splitlines()[-2] == (
        f"note: {folder} (query split): none of its 80 images has another image of the same person "
        "by another camera to be found"
    )


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
    assert len(table) == 340
    assert list(dict.fromkeys(table["split"][:])) == ["train", "test", "gallery", "query"]
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
    extractor = reestimated(extractor, data)
    modules = list(extractor.backbone.modules())
    convolution = next(m for m in modules if isinstance(m, torch.nn.Conv2d))
    norm = next(m for m in modules if isinstance(m, torch.nn.BatchNorm2d))
    with torch.no_grad():
        maps = convolution(extractor.inputs(torch.cat([crops for crops, _ in data.batches(64)])))
    torch.testing.assert_close(norm.running_var, maps.var((0, 2, 3)), rtol=0.05, atol=1e-4)


def test_predictions_do_not_take_the_place_of_labels(tmp_path):
    rows = datasets.Dataset.from_dict({"hat": [True, False], "person_id": [1, 2]})
    write_table(tmp_path / "p.parquet", {"row": [0, 1], "hat": [0.9, 0.2]}, rows, "image")
    table = datasets.Dataset.from_parquet(str(tmp_path / "p.parquet"))
    assert (table["hat"][:], table["predicted_hat"][:]) == ([True, False], [0.9, 0.2])
