"""What is exported is what was trained: equal outputs through timm and transformers."""

import json
import re
import shutil

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from patchit_hf import PatchTaskModel, create_task
from patchit_hf.models.backbone import feature_map
from patchit_hf.models.build import build_model
from patchit_hf.pretrain.gradient_share import GradientShare
from patchit_hf.publish.card import main as card_main
from patchit_hf.publish.export import divisor, export_run, export_size

RECORD = {
    "command": "python -m patchit_hf.pretrain",
    "config": {"seed": 0},
    "data": {
        "name": "../some/Crops-1", "fingerprint": "f", "train_crops": 10, "eval_crops": 2,
        "held_out_from": "validation split", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25],
    },
    "training": {
        "patches": 10, "steps": 1, "seconds": 1.0, "hardware": "CPU", "processes": 1,
        "mixed_precision": "no", "gradient": None, "batch_norm_statistics": "patches",
        "stopped": None,
    },
    "audit": None, "figures": [], "probe": None,
    "results": {"eval_accuracy": 0.5, "chance": 1 / 18, "step": 1},
}  # fmt: skip

NETS = [
    "resnet10t", "resnet18", "mobilenetv3_small_100", "convnext_atto", "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224", "efficientnet_b0", "regnetx_002", "mixer_s32_224",
    "test_resnet", "test_vit", "test_efficientnet", "test_convnext",
]  # fmt: skip


SMALLER = {  # than timm's, of the same kind
    "swin_tiny_patch4_window7_224": {
        "embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8],
    },
}  # fmt: skip


def _trained(name, task, steps=1):
    """Return the model after real optimiser steps."""
    model = build_model(name, task, seed=0, backbone_kwargs=SMALLER.get(name))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model.train()
    for _ in range(steps):
        targets = torch.arange(4) % task.num_classes
        task.loss(model(torch.randn(4, 3, *task.input_size)), targets)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize(
    "name",
    [
        *[n if n.startswith("test_") else pytest.param(n, marks=pytest.mark.e2e) for n in NETS],
        pytest.param("vgg16", marks=pytest.mark.slow),
    ],
)
def test_reloaded_features_are_the_trained_ones(name, tmp_path):
    torch.manual_seed(0)
    task = create_task("pt18")
    model = _trained(name, task, steps=2)
    folder = str(export_run(tmp_path, model, task, RECORD))
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    fixed = loaded.pretrained_cfg["fixed_input_size"]
    exported = tuple(loaded.pretrained_cfg["input_size"][1:])
    assert exported == (task.input_size if fixed else (192, 96))
    for size in {task.input_size, exported}:
        inputs = torch.randn(2, 3, *size)
        with torch.no_grad():
            trained, again = (feature_map(net, inputs) for net in (model.backbone, loaded))
            assert trained.shape[1] == loaded.num_features
            torch.testing.assert_close(again, trained, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(loaded(inputs), model.backbone(inputs), rtol=1e-4, atol=1e-5)
    classifier = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=7).eval()
    with torch.no_grad():
        assert classifier(torch.randn(2, 3, *exported)).shape == (2, 7)
        torch.testing.assert_close(
            feature_map(classifier, inputs), feature_map(loaded, inputs), rtol=1e-5, atol=1e-6
        )


def test_the_head_comes_back(tmp_path):
    task = create_task("pt18", input_scale=2)
    model = _trained("test_resnet", task)
    export_run(tmp_path, model, task, RECORD)
    record = json.loads((tmp_path / "patchit.json").read_text())
    again = create_task(
        record["task"]["name"], tuple(record["task"]["canvas"]), **record["task"]["kwargs"]
    )
    rebuilt = build_model(record["backbone"]["name"], again, 1, record["backbone"]["args"])
    rebuilt.backbone.load_state_dict(load_file(tmp_path / "model.safetensors"))
    rebuilt.head.load_state_dict(load_file(tmp_path / "head/model.safetensors"))
    inputs = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(rebuilt.eval()(inputs), model(inputs))


@pytest.mark.e2e
def test_transformers_reads_it(tmp_path):
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    task = create_task("pt18")
    model = _trained("test_vit", task)
    export_run(tmp_path, model, task, RECORD)
    assert AutoConfig.from_pretrained(tmp_path).architecture == "test_vit"
    assert tuple(AutoImageProcessor.from_pretrained(tmp_path).data_config["mean"]) == (
        0.4,
        0.5,
        0.6,
    )
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    inputs = torch.randn(2, 3, 192, 96)
    with torch.no_grad():
        output = loaded(inputs).pooler_output
        torch.testing.assert_close(output, model.backbone(inputs), rtol=1e-4, atol=1e-5)


def test_no_claim_of_timms_default_weights_is_left(tmp_path):
    task = create_task("pt18")
    export_run(tmp_path, _trained("mobilenetv3_small_100", task), task, RECORD)
    text = (tmp_path / "config.json").read_text()
    config = json.loads(text)
    cfg = config["pretrained_cfg"]
    assert cfg["tag"] == "patchit_crops_1"
    assert cfg["mean"] == [0.4, 0.5, 0.6]
    assert cfg["input_size"] == [3, 192, 96]
    assert (cfg["crop_pct"], cfg["crop_mode"]) == (0.96, "squash")
    assert (config["num_classes"], cfg["num_classes"]) == (0, 0)
    assert cfg["first_conv"] == "conv_stem"
    assert cfg["classifier"] == "classifier"
    for word in ("imagenet", "lamb", "http", "hf_hub_id", "paper", "origin", 'num_classes": 1'):
        assert word not in text.lower(), word


@pytest.mark.parametrize(
    ("kwargs", "size", "crop_pct"),
    [
        ({}, (192, 96), 0.96),
        ({"rows": 4, "cols": 2}, (128, 64), 0.64),
        ({"input_scale": 2}, (384, 192), 0.96),
        ({"patch_size": 24, "rows": 8, "cols": 4}, (192, 96), 0.96),
        ({"patch_size": 20, "rows": 1, "cols": 1}, (32, 32), 0.2),
    ],
)
def test_export_size(kwargs, size, crop_pct):
    assert export_size(create_task("position", **kwargs)) == (size, crop_pct)


def test_patches_of_14_px_divide_the_exported_size(tmp_path):
    task = create_task("position", patch_size=28)
    folder = export_run(tmp_path, _trained("eva02_tiny_patch14_224", task), task, RECORD)
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert loaded.pretrained_cfg["input_size"] == [3, 168, 84]
    task = create_task("pt18")
    assert export_size(task, divisor(loaded)) == ((196, 98), 0.96)
    with torch.no_grad():
        assert loaded.forward_features(torch.randn(1, 3, 196, 98)).shape[1] == 14 * 7 + 1


def _card(folder, record=RECORD, **data):
    record = {**record, "data": {**record["data"], **data}}
    task = create_task("pt18")
    export_run(folder, _trained("test_resnet", task), task, record)
    return ModelCard.load(folder / "README.md")


def test_the_card_is_valid_and_says_what_happened(tmp_path):
    card = _card(tmp_path)
    assert card.data.library_name == "timm"
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert card.data.license == "other"
    assert card.data.datasets is None
    (result,) = card.data.eval_results
    assert (result.metric_value, result.dataset_type) == (0.5, "Crops-1")
    assert "50.0 %" in card.text
    assert "5.6 %" in card.text
    assert "python -m patchit_hf.pretrain" in card.text
    assert "PT-18, canvas 200x100        PT-8" in card.text  # the task's drawing
    for left in ("{{", "None", "Shortcut", "figures/", "RankMe", "probed"):
        assert left not in card.text


def test_what_the_card_says_of_the_data(tmp_path):
    card = _card(tmp_path, name="org/crops", hub=True, license="CC-BY-4.0")
    assert (card.data.license, card.data.datasets) == ("cc-by-4.0", ["org/crops"])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["pretrained_cfg"]["license"] == "cc-by-4.0"
    card = _card(tmp_path, name="people", rendered=True, license="whatever")
    assert card.data.license == "apache-2.0"
    assert "people in the training crops are rendered" in card.text
    assert "# test_resnet, pretrained on rendered people with the position task" in card.text


def test_the_card_names_crops_without_the_way_to_them(tmp_path):
    text = _card(tmp_path, name="/home/somebody/My Crops").text
    assert "pretrained on `My Crops` with" in text
    assert "/home/somebody" not in text
    assert "| licence of the crops | the data set states none |" in text
    data = {"name": "org/crops", "hub": True, "license": "cc-by-4.0", "homepage": "https://a.org"}
    text = _card(tmp_path, **data, citation="@misc{crops}\n").text
    assert "pretrained on `org/crops` with" in text
    assert "| licence of the crops | cc-by-4.0 |\n| homepage of the crops | https://a.org |" in text
    assert "```bibtex\n@misc{crops}\n```" in text


@pytest.mark.parametrize(
    ("seconds", "words"), [(8.4, "8 s"), (255.9, "4 min 16 s"), (7500, "2 h 5 min")]
)
def test_the_card_says_how_long_it_took(tmp_path, seconds, words):
    record = {**RECORD, "training": {**RECORD["training"], "seconds": seconds}}
    assert f"| time | {words} on " in _card(tmp_path, record).text


def test_every_way_to_load_of_a_card_loads(tmp_path):
    """Each code block, with the folder's own name in it."""
    text = _card(tmp_path).text
    blocks = re.findall(r"```python\n(.*?)```", text.split("## How it was made")[0], re.S)
    assert len(blocks) == 3
    inputs, wanted = torch.randn(1, 3, 192, 96), None
    for block in blocks:
        scope = {}
        exec(block.replace("FOLDER", str(tmp_path)), scope)
        if "maps" in scope:
            assert scope["model"].eval()(inputs).shape == (1, 7)
            assert len(scope["maps"](inputs)) > 1
            wanted = scope["model"].forward_features(inputs)
        elif "backbone" in scope:
            assert scope["classifier"](inputs).logits.shape == (1, 7)
            found = scope["backbone"].eval()(inputs).last_hidden_state
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        else:
            found = scope["model"].features(inputs)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_card_shows_what_was_measured_and_single_people_only_if_rendered(tmp_path):
    measured = {
        **RECORD,
        "audit": {"baselines": {"mean_colour": 0.111}, "shortcut": "mean_colour",
                  "finding": "alone is right in half of the patches"},
        "figures": ["patches.png", "confusion.png"],
        "probe": {"column": "hat", "chance": 0.5},
        "results": {**RECORD["results"], "eval_error_distance": 1.234, "eval_feature_rank": 41.2,
                    "probe_knn": 0.61, "probe_linear": 0.72},
    }  # fmt: skip
    text = _card(tmp_path, measured).text
    for words in (
        "mean colour alone | 11.1 %", "**Shortcut:** the mean colour alone is right in",
        "1.23 cells", "rank of 41", "column `hat`", "linear 72.0 %", "(figures/confusion.png)",
    ):  # fmt: skip
        assert words in text
    assert "patches.png" not in text
    assert "(figures/patches.png)" in _card(tmp_path, measured, rendered=True).text


def test_the_card_goes_elsewhere_with_its_pictures(tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "cards" / "one"
    card = _card(run, {**RECORD, "figures": ["confusion.png", "patches.png"]})
    (run / "figures").mkdir()
    for name in ("confusion.png", "patches.png"):
        (run / "figures" / name).write_bytes(name.encode())
    assert card_main([str(run), "--output", str(out)]) == 0
    assert capsys.readouterr().out == f"{out / 'README.md'}\n"
    assert (out / "README.md").read_bytes() == (run / "README.md").read_bytes()
    assert [p.name for p in (out / "figures").iterdir()] == ["confusion.png"]
    assert card.text in (out / "README.md").read_text(encoding="utf-8")
    assert card_main([str(tmp_path), "--output", str(out)]) == 2
    assert "holds no export" in capsys.readouterr().err


def test_an_unmeasured_accuracy_is_not_in_the_card(tmp_path):
    task = create_task("pt18")
    record = {**RECORD, "results": {"chance": 1 / 18, "step": 1}}
    export_run(tmp_path, _trained("test_resnet", task), task, record)
    assert "No crops were held out" in (tmp_path / "README.md").read_text()


@pytest.mark.e2e
def test_the_share_of_weights_that_learn():
    """At 32 px the last stage of a stride-32 net sees 1x1 maps: of 3x3 kernels, only the middle."""
    shares = {}
    for scale in (1, 2):
        task = create_task("pt18", input_scale=scale)
        model = build_model("resnet18", task, seed=0)
        watch = GradientShare(model.backbone, steps=3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(3):
            inputs = torch.randn(32, 3, *task.input_size)
            task.loss(model(inputs), torch.arange(32) % 18)["loss"].backward()
            watch.update()
            optimizer.step()
            optimizer.zero_grad()
        mask = watch.reached["layer4.1.conv2.weight"]
        shares[scale] = watch.result()["share"]
        if scale == 1:
            assert mask[:, :, 1, 1].float().mean() > 0.9
            mask[:, :, 1, 1] = False
            assert not mask.any()
        else:
            assert mask.float().mean() > 0.9
    assert shares[1] < 0.5
    assert shares[2] > 0.9


def test_layers_behind_the_feature_map_are_left_alone():
    from patchit_hf.models.build import freeze_unreached

    task = create_task("pt18")
    model = build_model("mobilenetv3_small_100", task, seed=0)
    freeze_unreached(model, task.input_size)
    frozen = [name for name, p in model.backbone.named_parameters() if not p.requires_grad]
    assert frozen == ["conv_head.weight", "conv_head.bias"]


def test_exports_of_earlier_versions_are_read_and_written_anew(tmp_path, export):
    """Their head lies beside the weights, where timm 1.0.16 to 1.0.28 stumble over it."""
    folder = tmp_path / "earlier"
    shutil.copytree(export, folder)
    (folder / "head" / "model.safetensors").rename(folder / "head.safetensors")
    (folder / "head").rmdir()
    model, wanted = (PatchTaskModel.from_pretrained(where) for where in (folder, export))
    for name, value in wanted.head.state_dict().items():
        assert torch.equal(model.head.state_dict()[name], value)
    export_run(folder, model, model.task, model.record)
    assert sorted(p.name for p in folder.rglob("*.safetensors") if "step" not in str(p)) == [
        "model.safetensors",
        "model.safetensors",
    ]
    assert PatchTaskModel.from_pretrained(folder).head.state_dict().keys() == (
        wanted.head.state_dict().keys()
    )
