"""An average of backbones: mean weights, statistics of whole crops, and what is refused."""

import json
import shutil

import datasets
import pytest
import timm
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from patchit_hf import InputError, PatchTaskModel, load_crops
from patchit_hf.average import average, main
from patchit_hf.average.sources import same_start
from patchit_hf.models.initial_weights import open_initial
from patchit_hf.publish.contents import contents_of
from patchit_hf.publish.model_card import write_card
from tests.conftest import make_crops


@pytest.fixture
def runs(export, tmp_path):
    """Three exports of one start that differ in their weights, and in the task they name."""
    folders = []
    for number in range(3):
        folder = tmp_path / f"run-{number}"
        shutil.copytree(export, folder)
        generator = torch.Generator().manual_seed(number)
        file = folder / "model.safetensors"
        weights = {
            key: value + 0.1 * torch.rand(value.shape, generator=generator)
            if value.is_floating_point()
            else value
            for key, value in load_file(file).items()
        }
        save_file(weights, file)
        folders.append(folder)
    return folders


def _change(folder, **changes):
    """Change entries of a run's record, ``a__b=value`` for the entry b of a."""
    file = folder / "patchit.json"
    record = json.loads(file.read_text())
    for path, value in changes.items():
        *way, last = path.split("__")
        entry = record
        for key in way:
            entry = entry.setdefault(key, {})
        entry[last] = value
    file.write_text(json.dumps(record))


def _reconfigure(folder, **changes):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["pretrained_cfg"] |= changes
    file.write_text(json.dumps(config))


def test_weights_are_the_mean_and_statistics_those_of_whole_crops(runs, crop_folder, tmp_path):
    folder = average(runs, tmp_path / "mean", dataset=crop_folder)
    each = [load_file(run / "model.safetensors") for run in runs]
    found = load_file(folder / "model.safetensors")
    assert found.keys() == each[0].keys()
    for key, value in found.items():
        if "running" not in key and "num_batches" not in key:
            expected = sum(weights[key].double() for weights in each) / 3
            assert torch.equal(value, expected.float()), key

    # The statistics of the first layer: those of its convolution over the crops that the runs
    # train on, cut and normalised by hand.
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    cfg = model.pretrained_cfg
    height, width = cfg["input_size"][1:]
    canvas = [max(s, round(s / cfg["crop_pct"])) for s in (height, width)]
    rows = load_crops(crop_folder).train["image"]
    images = [image.convert("RGB").resize(canvas[::-1], 3) for image in rows]
    pixels = torch.stack(
        [torch.frombuffer(bytearray(i.tobytes()), dtype=torch.uint8) for i in images]
    )
    pixels = pixels.view(len(images), *canvas, 3).permute(0, 3, 1, 2)
    top, left = ((c - s) // 2 for c, s in zip(canvas, (height, width), strict=True))
    inputs = pixels[:, :, top : top + height, left : left + width].float() / 255
    mean, std = (torch.tensor(cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    convolution = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    with torch.no_grad():
        maps = convolution((inputs - mean) / std)
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, maps.var((0, 2, 3)), rtol=1e-3, atol=1e-5)


def test_it_loads_like_any_export(runs, crop_folder, tmp_path):
    folder = average(runs, tmp_path / "mean", dataset=crop_folder)
    features = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    classifier = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=7).eval()
    inputs = torch.randn(2, *features.pretrained_cfg["input_size"])
    with torch.no_grad():
        assert classifier(inputs).shape == (2, 7)
        torch.testing.assert_close(
            classifier.forward_features(inputs), features.forward_features(inputs)
        )
    again = average([folder, runs[0]], tmp_path / "again", dataset=crop_folder)  # of an average
    record = json.loads((again / "patchit.json").read_text())
    assert record["averaged"][0]["averaged"] == 3
    assert record["initial_weights"] is None
    assert record["config"] == {"seed": 42}
    with pytest.raises(InputError, match="average of backbones, which has no head"):
        PatchTaskModel.from_pretrained(folder)


def test_record_and_card_name_every_source(runs, crop_folder, tmp_path):
    _change(runs[1], task__name="scale", data__license="mit")
    folder = average(runs, tmp_path / "mean", dataset=crop_folder)
    record = json.loads((folder / "patchit.json").read_text())
    assert [entry["source"] for entry in record["averaged"]] == [str(run) for run in runs]
    assert [entry["task"] for entry in record["averaged"]] == ["position", "scale", "position"]
    assert record["batch_norm"]["crops"] == 36  # without the tenth that is held out
    text = (folder / "README.md").read_text()
    for run in runs:
        assert f"`{run.name}`" in text
    assert str(tmp_path) not in text.split("## How it was made")[0]
    assert "random weights of seed 42" in text
    assert "of 36 whole crops" in text
    assert "without any label" not in text
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "other"
    assert card.data.base_model is None
    assert "self-supervised" in card.data.tags
    assert "figures" not in str(contents_of(folder).files)
    assert contents_of(folder).title.startswith("test_resnet averaged over 3 runs")
    assert write_card(folder, tmp_path / "card").read_text() == text


def test_a_start_that_is_not_random_is_said(runs, crop_folder, tmp_path):
    origin = {
        "source": "net.in1k", "license": "apache-2.0", "labels": ["ImageNet"],
        "hub_id": None, "earlier": [],
    }  # fmt: skip
    for run, init in zip(runs, ("timm:in1k", "in1k.safetensors", "timm:in1k"), strict=True):
        start = {"init": init, "fingerprint": "0123", "labels_known": True, **origin}
        _change(run, initial_weights=start, data__license="mit")
    folder = average(runs, tmp_path / "mean", dataset=crop_folder)
    text = (folder / "README.md").read_text()
    assert "All of them started from\nnet.in1k." in text
    assert "licence apache-2.0, learnt with the labels of ImageNet." in text
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "other"
    assert "self-supervised" not in card.data.tags
    average([folder, runs[0]], tmp_path / "again", dataset=crop_folder)
    _change(runs[0], initial_weights__fingerprint="4567")
    with pytest.raises(InputError, match="fingerprint 4567, and"):
        average([folder, runs[0]], tmp_path / "different", dataset=crop_folder)


def test_what_starts_from_an_average_says_what_that_was(runs, crop_folder, tmp_path):
    _change(runs[1], task__name="scale", data__license="mit")
    folder = average(runs, tmp_path / "mean", dataset=crop_folder)
    trained = open_initial(str(folder), None, 0).origin.trained
    name = json.loads((runs[0] / "patchit.json").read_text())["data"]["name"].rpartition("/")[2]
    assert trained == (
        f"averaging runs of position on {name} (licence of the data: none is stated), "
        f"scale on {name} (licence of the data: mit)"
    )


def test_a_licence_that_all_share_is_kept(runs, crop_folder, tmp_path):
    for run in runs:
        _change(run, data__license="mit")
    folder = average(runs, tmp_path / "mean", dataset=crop_folder)
    assert ModelCard.load(folder / "README.md").data.license == "mit"


REFUSED = {
    "another seed of random weights": (
        lambda run: _change(run, config__seed=7), "random weights of seed 7"),
    "other weights": (lambda run: _change(run, config__init="timm"), "started from timm"),
    "another architecture": (
        lambda run: _rename(run, "resnet10t"), "architecture is resnet10t"),
    "another mean": (
        lambda run: _reconfigure(run, mean=[0.1, 0.2, 0.3]), "mean of the input"),
    "another deviation": (
        lambda run: _reconfigure(run, std=[0.1, 0.2, 0.3]), "deviation of the input"),
    "another input": (
        lambda run: _reconfigure(run, input_size=[3, 128, 64]), "choose one with --input-size"),
    "a finetuned model": (lambda run: _change(run, downstream={}), "finetuned model"),
    "a shape": (lambda run: _edit(run, lambda key, value: value[:1]), "the same shapes"),
    "a number": (lambda run: _edit(run, lambda key, value: value * torch.nan), "not finite"),
    "other crops": (lambda run: _change(run, data__name="elsewhere"), "--dataset: is needed"),
}  # fmt: skip


def _rename(run, name):
    file = run / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "architecture": name}))


def _edit(run, change):
    file = run / "model.safetensors"
    weights = load_file(file)
    key = min(weights)
    save_file({**weights, key: change(key, weights[key]).contiguous()}, file)


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_one_line(what, runs, tmp_path, capsys):
    spoil, words = REFUSED[what]
    spoil(runs[2])
    output = tmp_path / "mean"
    assert main([*map(str, runs), "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_a_missing_tensor_is_named(runs, tmp_path, capsys):
    file = runs[1] / "model.safetensors"
    weights = load_file(file)
    gone = max(weights)
    del weights[gone]
    save_file(weights, file)
    assert main([*map(str, runs), "--output", str(tmp_path / "mean")]) == 2
    assert f"has no tensor {gone}" in capsys.readouterr().err


def test_arguments(runs, crop_folder, tmp_path, capsys):
    for words, said in (
        ([str(runs[0]), "--output", "x"], "at least two"),
        ([str(runs[0]), str(runs[0]), "--output", "x"], "more than once"),
        ([*map(str, runs)], "--output: is needed"),
        ([*map(str, runs), "--output", str(runs[0])], "exists already"),
        ([*map(str, runs), "--output", "x", "--input-size", "64"], "--input-size '64'"),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err
    _reconfigure(runs[2], input_size=[3, 128, 64])
    output = tmp_path / "mean"
    words = ["--dataset", crop_folder, "--input-size", "64x32", "--output", str(output)]
    assert main([*map(str, runs), *words]) == 0
    assert json.loads((output / "config.json").read_text())["pretrained_cfg"]["input_size"] == [
        3, 64, 32,
    ]  # fmt: skip


def test_the_crops_of_the_runs_are_the_default(runs, tmp_path):
    folder = average(runs, tmp_path / "mean")
    record = json.loads((folder / "patchit.json").read_text())
    assert record["batch_norm"]["dataset"] == record["averaged"][0]["data"]["name"]
    assert record["batch_norm"]["fingerprint"]


def test_without_batch_norm_no_crops_are_needed(tmp_path):
    from patchit_hf.pretrain import main as pretrain

    (tmp_path / "crops").mkdir()
    rows = datasets.Dataset.from_dict({"image": make_crops(12)})
    rows.cast_column("image", datasets.Image()).to_parquet(str(tmp_path / "crops/train.parquet"))
    words = [
        "--backbone", "test_vit", "--canvas", "64x32", "--batch-size", "8", "--max-steps", "1",
        "--task-kwargs", "rows=2", "cols=2", "patch_size=8", "jitter=0", "input_scale=2",
        "--no-figures", "--no-audit", "--dataset", str(tmp_path / "crops"),
    ]  # fmt: skip
    for name in ("a", "b"):
        assert pretrain([*words, "--output-dir", str(tmp_path / name)]) == 0
    shutil.rmtree(tmp_path / "crops")
    folder = average([tmp_path / "a", tmp_path / "b"], tmp_path / "mean")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    alone = timm.create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True, num_classes=0).eval()
    inputs = torch.randn(2, *model.pretrained_cfg["input_size"])
    with torch.no_grad():  # the same run twice: the average of equals
        assert torch.equal(model(inputs), alone(inputs))
    assert json.loads((folder / "patchit.json").read_text())["batch_norm"] is None


def test_one_file_may_have_two_names():
    one, other = ({"init": name, "fingerprint": "0"} for name in ("a.safetensors", "b.safetensors"))
    assert same_start(one, other)
    assert not same_start(one, {**one, "fingerprint": "1"})
