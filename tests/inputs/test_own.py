"""A network of one's own is trained, exported, said to be one's own, and loaded again."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from patchit_hf import (
    FinetuneTrainer,
    FinetuningArguments,
    InputError,
    PatchTaskModel,
    PatchTaskTrainer,
    TrainingArguments,
    build_model,
)
from patchit_hf.models.initial_weights import open_initial
from tests.inputs.own import Tiny, Tokens, Wrapped, Wrong, position_task


def _trainer(folder, crops, model, **kwargs):
    args = TrainingArguments(
        output_dir=str(folder), train_batch_size=8, figures=False, audit=False,
        **{"max_steps": 2, **kwargs},
    )  # fmt: skip
    return PatchTaskTrainer(model, args, position_task(), crops, crops)


@pytest.mark.parametrize("kind", [Tiny, Wrapped, Tokens])
def test_it_trains_and_comes_back(tmp_path, crops, kind):
    torch.manual_seed(0)
    given = kind()
    before = copy.deepcopy(given.state_dict())
    trainer = _trainer(tmp_path / "run", crops, given, max_grad_norm=0.0)
    results = trainer.train()
    assert results["eval_accuracy"] >= 0
    for name, value in given.state_dict().items():
        assert torch.equal(value, before[name])
    weights = load_file(tmp_path / "run" / "model.safetensors")
    kind().load_state_dict(weights)  # all of them, strictly
    changed = {name for name, value in weights.items() if not torch.equal(value, before[name])}
    assert changed
    assert not any("classifier" in name for name in changed)
    again = PatchTaskModel.from_pretrained(tmp_path / "run", backbone=kind())
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 25, 3), np.uint8))
    trained = trainer.model.eval()
    np.testing.assert_allclose(again.embed(image), trained.embed(image), atol=1e-5)
    assert torch.equal(again.head[-1].weight, trained.head[-1].weight)
    assert again.spec == trained.spec
    assert again.spec.fixed_size == (kind is Tokens)


def test_the_record_and_the_card_say_what_it_is(tmp_path, crops):
    _trainer(tmp_path / "run", crops, Tiny()).train()
    record = json.loads((tmp_path / "run" / "patchit.json").read_text())
    assert record["backbone"] == {"name": "Tiny", "args": {}, "own": True}
    assert record["initial_weights"]["source"] == "weights given by the caller"
    card = (tmp_path / "run" / "README.md").read_text()
    assert 'PatchTaskModel.from_pretrained("FOLDER", backbone=Tiny(...))' in card
    assert "timm.create_model" not in card
    assert "AutoModel" not in card
    assert "\nlibrary_name: timm" not in card
    message = r"its network 'Tiny' is not timm's; give it: .*backbone=\.\.\."
    with pytest.raises(InputError, match=message):
        PatchTaskModel.from_pretrained(tmp_path / "run")
    with pytest.raises(InputError, match=r"timm .* has no network 'Tiny'"):
        open_initial(str(tmp_path / "run"), None, 0)
    with pytest.raises(InputError, match=r"Tiny does not fit|size mismatch"):
        PatchTaskModel.from_pretrained(tmp_path / "run", backbone=Tiny(4))


def test_a_run_goes_on_after_it_was_killed(tmp_path, crops):
    from tests.conftest import train_and_kill

    given = Tiny()
    whole = _trainer(tmp_path / "whole", crops, given, max_steps=3, save_steps=1).train()
    train_and_kill(_trainer(tmp_path / "run", crops, given, max_steps=3, save_steps=1), 2)
    again = _trainer(tmp_path / "run", crops, given, max_steps=3, save_steps=1).train()
    assert again == whole


def test_an_export_with_a_network_of_timms_needs_none(export):
    with pytest.raises(InputError, match="is timm's, which builds it; leave out backbone="):
        PatchTaskModel.from_pretrained(export, backbone=Tiny())


class Expects(Tiny):
    """Says which mean and deviation it expects."""

    pretrained_cfg = {"mean": (0.1, 0.2, 0.3), "std": [0.4, 0.5, 0.6]}  # noqa: RUF012


def test_the_mean_and_deviation_that_it_expects_are_taken(tmp_path, crops):
    trainer = _trainer(tmp_path / "run", crops, Expects())
    assert trainer.task.transform.mean == (0.1, 0.2, 0.3)
    assert trainer.task.transform.std == (0.4, 0.5, 0.6)
    assert _trainer(tmp_path / "b", crops, Tiny()).task.transform.mean != (0.1, 0.2, 0.3)


def _uncopied():
    model = Tiny()
    model.lock = (part for part in ())
    return model


def _weightless():
    model = nn.Identity()
    model.forward_features, model.num_features = model.forward, 3
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Wrong, r"model: this Wrong fails on inputs of 8x8 px: forward_features gives \(2, 3, 1"),
        (lambda: Tokens(16), "model: this Tokens fails on inputs of 8x8 px: .*size of tensor"),
        (_uncopied, "model: this Tiny cannot be copied: cannot pickle 'generator' object"),
        (_weightless, "model: this Identity has no weights"),
        (lambda: nn.Conv2d(3, 3, 3), "model: a Conv2d; .* or any module with timm's forward_fea"),
    ],
)
def test_what_cannot_be_trained_is_one_line(tmp_path, crops, make, message):
    with pytest.raises(InputError, match=message) as refused:
        _trainer(tmp_path / "run", crops, make())
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_options_that_need_stages_are_one_line(tmp_path, crops):
    with pytest.raises(InputError, match="--freeze-stages 1: Tiny does not name its stages"):
        _trainer(tmp_path / "run", crops, Tiny(), freeze_stages=1)
    with pytest.raises(InputError, match="a Tiny is trained as it is; give neither the name nor"):
        build_model("resnet18", position_task(), 0, init=Tiny())


def test_finetuning_takes_networks_of_timm(tmp_path, labelled_people):
    args = FinetuningArguments(output_dir=str(tmp_path / "run"), max_steps=1)
    with pytest.raises(InputError, match=r"model: a Tiny; expected a model of timm\.create_model"):
        FinetuneTrainer(Tiny(), args, "attributes", labelled_people, input_size=(48, 24))
