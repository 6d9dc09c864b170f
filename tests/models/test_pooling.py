"""Networks that pool by their class token: pretraining, export and random weights average alike."""

import sys

import datasets
import pytest
import timm
import timm.models
import torch

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.models.backbone import build_backbone, model_traits, pooling_args
from patchit_hf.models.build import build_model
from patchit_hf.models.initial_weights import open_initial
from tests.conftest import make_crops

TINY = {
    "cait_xxs24_224": {"embed_dim": 32, "depth": 1, "num_heads": 2, "depth_token_only": 1},
    "coat_lite_tiny": {"embed_dims": [8, 8, 8, 8]},
    "convit_tiny": {"embed_dim": 4, "depth": 2, "num_heads": 1},
}
SIZE = (32, 32)


@pytest.mark.parametrize("name", TINY)
def test_random_weights_pool_as_pretraining_does(name):
    pretrained, spec = build_backbone(name, SIZE, **TINY[name])
    random = open_initial("random", name, 0, input_size=SIZE, backbone_kwargs=TINY[name])
    assert random.args["global_pool"] == spec.args["global_pool"] == "avg"
    random.backbone.load_state_dict(pretrained.state_dict())
    inputs = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        pooled = pretrained.eval()(inputs)
        torch.testing.assert_close(random.backbone.eval()(inputs), pooled)
        tokens = timm.create_model(name, num_classes=0, img_size=SIZE, **TINY[name]).eval()
        tokens.load_state_dict(pretrained.state_dict())
        assert not torch.allclose(tokens(inputs), pooled)  # which pooling it is does matter


def test_random_weights_pool_as_an_export_does(tmp_path, small):
    name = "convit_tiny"
    args = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=1,
        train_batch_size=4,
        crop_cache_gb=0,
        figures=False,
    )
    task = create_task("position", (50, 25), **small, input_scale=4)
    crops = datasets.Dataset.from_dict({"image": make_crops(8)})
    model = build_model(name, task, 0, TINY[name])
    PatchTaskTrainer(model, args, task, crops, data_info={"name": "x"}).train()
    export = open_initial(str(tmp_path), None, 5)
    random = open_initial("random", name, 5, input_size=SIZE, backbone_kwargs=TINY[name])
    assert random.backbone.global_pool == export.backbone.global_pool == "avg"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", {}),
        ("pit_ti_224", {}),  # has only its class token
        ("test_vit", {"global_pool": "avg", "fc_norm": False}),
        ("cait_xxs24_224", {"global_pool": "avg"}),
    ],
)
def test_the_rule(name, expected):
    assert pooling_args(name) == expected
    assert open_initial("random", name, 3, backbone_kwargs={}).args == expected


def test_what_the_user_asks_for_goes_before_the_rule():
    asked = {**TINY["convit_tiny"], "global_pool": "token"}
    random = open_initial("random", "convit_tiny", 3, backbone_kwargs=asked)
    assert random.backbone.global_pool == "token"


@pytest.mark.filterwarnings("ignore:Overwriting")
def test_a_name_that_is_registered_anew_is_looked_at_anew(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "__all__", [], raising=False)
    for network in ("test_vit", "test_resnet"):

        def two_lives(pretrained=False, network=network, **kwargs):
            return timm.create_model(network, **kwargs)

        timm.models.register_model(two_lives)
        assert model_traits("two_lives")[0] is type(timm.create_model(network))
