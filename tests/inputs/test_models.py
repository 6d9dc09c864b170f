"""What people pass as model, task and initial weights; and what the record says of it."""

import json
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from patchit_hf import (
    FinetuneTrainer,
    FinetuningArguments,
    InputError,
    PatchTaskModel,
    PatchTaskTrainer,
    TrainingArguments,
    build_model,
    create_task,
)
from patchit_hf.models.weight_files import plain_names
from tests.inputs.own import Tiny, Tokens, Wrapped, position_task


def _trainer(folder, crops, model, task=None, **kwargs):
    args = TrainingArguments(
        output_dir=folder, max_steps=1, train_batch_size=8, figures=False, audit=False, **kwargs
    )
    return PatchTaskTrainer(model, args, position_task() if task is None else task, crops)


def _said(folder):
    """Return the record's initial weights and seed, and the card's line about them."""
    record = json.loads((folder / "patchit.json").read_text())
    card = (folder / "README.md").read_text().splitlines()
    line = next(line for line in card if line.startswith("| initial weights"))
    return record["initial_weights"], record["initial_seed"], line


# Where weights come from.


def test_random_weights_have_the_seed_that_they_were_drawn_with(tmp_path, crops):
    _trainer(tmp_path / "a", crops, "test_resnet", seed=5).train()
    assert _said(tmp_path / "a") == (None, 5, "| initial weights | random, seed 5 |")
    _trainer(tmp_path / "b", crops, build_model("test_resnet", position_task(), seed=7)).train()
    assert _said(tmp_path / "b") == (None, 7, "| initial weights | random, seed 7 |")


def test_an_export_that_goes_on_is_a_chain(tmp_path, crops, export):
    model = PatchTaskModel.from_pretrained(export)
    _trainer(tmp_path / "a", crops, model, model.task).train()
    origin, seed, line = _said(tmp_path / "a")
    assert seed is None
    assert origin["source"] == export.name
    assert origin["trained"].startswith("position on")
    assert "trained by position on" in line
    again = PatchTaskModel.from_pretrained(tmp_path / "a")
    _trainer(tmp_path / "b", crops, again, again.task).train()
    origin = _said(tmp_path / "b")[0]
    assert [origin["source"], *(e["source"] for e in origin["earlier"])] == ["a", export.name]


def _loaded(model, crops, folder):
    model.backbone.load_state_dict(timm.create_model("test_resnet", num_classes=0).state_dict())
    return model


def _trained(model, crops, folder):
    trainer = _trainer(folder / "before", crops, model)
    trainer.train()
    return trainer.model


def _by_hand(model, crops, folder):
    return PatchTaskModel(model.backbone, model.head, model.spec, model.task)


@pytest.mark.parametrize("way", [_loaded, _trained, _by_hand])
def test_weights_that_the_caller_has_changed_are_said_to_be_given(tmp_path, crops, way):
    model = way(build_model("test_resnet", position_task(), seed=7), crops, tmp_path)
    trainer = _trainer(tmp_path / "run", crops, model)
    trainer.train()
    origin, seed, line = _said(tmp_path / "run")
    assert origin["source"] == "weights given by the caller"
    assert not origin["labels_known"]
    assert seed is None
    assert "`weights given by the caller`, fingerprint" in line
    assert (
        "| mean and standard deviation | those of the crops |"
        in (tmp_path / "run" / "README.md").read_text()
    )
    assert trainer.run.config["initial_weights"] == origin["fingerprint"]


def test_weights_changed_after_an_export_was_read_keep_its_history(tmp_path, crops, export):
    model = PatchTaskModel.from_pretrained(export)
    with torch.no_grad():
        next(model.backbone.parameters()).mul_(2)
    _trainer(tmp_path / "run", crops, model, model.task).train()
    origin = _said(tmp_path / "run")[0]
    assert origin["source"] == "weights given by the caller"
    assert [entry["source"] for entry in origin["earlier"]] == [export.name]


@pytest.mark.e2e
def test_finetuning_says_the_same(tmp_path, labelled_people):
    from patchit_hf.models.initial_weights import open_initial

    def origin_of(init, **kwargs):
        args = FinetuningArguments(output_dir=str(tmp_path / "run"), max_steps=1)
        trainer = FinetuneTrainer(
            init, args, "attributes", labelled_people, input_size=(48, 24), **kwargs
        )
        return trainer.record()["initial_weights"]

    assert origin_of("random", backbone="test_resnet") is None
    changed = open_initial("random", "test_resnet", 5)
    with torch.no_grad():
        next(changed.backbone.parameters()).mul_(2)
    assert origin_of(changed)["source"] == "weights given by the caller"
    given = timm.create_model("test_resnet", num_classes=0)
    assert origin_of(given)["source"] == "a timm model given in Python"


# Models and tasks.


def test_a_model_of_another_task_is_one_line_that_names_both(tmp_path, crops):
    model = build_model("test_resnet", position_task(), seed=0)
    others = {
        "2x2 cells, 4 classes": position_task(rows=2),
        "2x3 cells, 6 classes": position_task(rows=2, cols=3),
        r"jigsaw \(": create_task("jigsaw", (50, 25), patch_size=8),
        "canvas 60x30": create_task("position", (60, 30), rows=3, cols=2, patch_size=8, jitter=2),
    }
    for words, task in others.items():
        message = rf"head is for position \(3x2 cells, 6 classes, .*, and the task is .*{words}"
        with pytest.raises(InputError, match=message):
            _trainer(tmp_path / "run", crops, model, task)
    assert not (tmp_path / "run").exists()
    same_questions = position_task(jitter=1, grayscale=0.5)
    _trainer(tmp_path / "run", crops, model, same_questions)


def test_with_task_puts_a_new_head_on_the_same_backbone(tmp_path, crops):
    model = build_model("test_resnet", position_task(), seed=3)
    task = position_task(rows=2)
    other = model.with_task(task, seed=4)
    assert other.backbone is model.backbone
    assert other.head.state_dict().keys() == model.head.state_dict().keys()
    wanted = build_model("test_resnet", task, seed=4).head.state_dict()
    for name, value in other.head.state_dict().items():
        assert torch.equal(value, wanted[name])
    _trainer(tmp_path / "run", crops, other, task).train()
    assert _said(tmp_path / "run")[2] == "| initial weights | random, seed 3 |"
    assert PatchTaskModel.from_pretrained(tmp_path / "run").task.num_classes == 4


MODELS = {
    "the name of a timm model": lambda: "test_resnet",
    "a timm model": lambda: timm.create_model("test_resnet"),
    "a timm model in bfloat16": lambda: timm.create_model("test_resnet").bfloat16(),
    "a compiled timm model": lambda: torch.compile(timm.create_model("test_resnet")),
    "a timm model in DataParallel": lambda: nn.DataParallel(timm.create_model("test_resnet")),
    "a PatchTaskModel": lambda: build_model("test_resnet", position_task(), seed=0),
    "a PatchTaskModel in bfloat16": lambda: build_model(
        "test_resnet", position_task(), seed=0
    ).bfloat16(),
    "a compiled PatchTaskModel": lambda: torch.compile(
        build_model("test_resnet", position_task(), 0)
    ),
    "a module of your own": Tiny,  # see test_own.py
    "a module of your own around timm's": Wrapped,
    "a module of your own that gives tokens": Tokens,
}
NOT_MODELS = {
    "another nn.Module": (lambda: nn.Conv2d(3, 3, 3), "model: a Conv2d; expected a model of timm"),
    "a number": (lambda: 18, "model: a int; must be a timm model, the name of one"),
    "an unknown name": (lambda: "resnet19", "timm has no such model; similar names: resnet18"),
    "a name with a tag": (lambda: "resnet18.a1_in1k", "--backbone resnet18 --init timm:a1_in1k"),
}


@pytest.mark.parametrize("way", MODELS)
def test_models_that_work(tmp_path, crops, way):
    trainer = _trainer(tmp_path / "run", crops, MODELS[way]())
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    part = next(trainer._parts(0))
    assert trainer._loss(trainer.prepared(part.inputs), part.targets)["loss"].isfinite()


@pytest.mark.parametrize("way", NOT_MODELS)
def test_models_that_do_not(tmp_path, crops, way):
    make, message = NOT_MODELS[way]
    with pytest.raises(InputError) as refused:
        _trainer(tmp_path / "run", crops, make())
    assert message in str(refused.value)


def test_tasks_by_name_and_what_is_none(tmp_path, crops):
    assert _trainer(tmp_path / "run", crops, "test_resnet", "pt8").task.num_classes == 8
    for task, message in (
        ("pt99", "--task 'pt99': unknown task"),
        (7, r"task: a int; must be a PatchTask, see create_task, or the name of one \(context"),
    ):
        with pytest.raises(InputError, match=message):
            _trainer(tmp_path / "other", crops, "test_resnet", task)


# Files of weights.


def test_names_without_prefixes():
    assert plain_names(["conv.weight", "fc.bias"]) == {
        "conv.weight": "conv.weight",
        "fc.bias": "fc.bias",
    }
    for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "backbone.", "model.backbone."):
        assert plain_names([f"{prefix}conv.weight"]) == {f"{prefix}conv.weight": "conv.weight"}
    assert plain_names(["module.a", "b"]) == {"module.a": "module.a", "b": "b"}
    assert plain_names(["backbone.a", "head.a"]) == {"backbone.a": "a"}


FILES = {
    "plain.safetensors": lambda state: state,
    "module.safetensors": lambda state: {f"module.{k}": v for k, v in state.items()},
    "compiled.safetensors": lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
    "ours.safetensors": lambda state: {
        **{f"backbone.{k}": v for k, v in state.items()},
        "head.0.weight": torch.ones(3),
    },
    "plain.pth": lambda state: state,
    "training.pt": lambda state: {
        "model": {f"module.{k}": v for k, v in state.items()},
        "epoch": 3,
    },
    "lightning.ckpt": lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}},
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_weights_in_many_ways(tmp_path, name):
    torch.manual_seed(3)
    network = timm.create_model("test_resnet", num_classes=4)
    state = {k: v.contiguous() for k, v in network.state_dict().items()}
    file = tmp_path / name
    written = FILES[name](state)
    save_file(written, file) if file.suffix == ".safetensors" else torch.save(written, file)
    model = build_model("test_resnet", position_task(), 0, init=str(file))
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, state[key])
    assert model.origin.source == name


class Harmful:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def test_files_that_are_no_weights_are_one_line_and_run_nothing(tmp_path):
    torch.save({"model": {"a": torch.ones(1)}, "args": Harmful()}, tmp_path / "harmful.pth")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(Harmful()))
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    for name, message in (
        ("harmful.pth", "cannot be read as weights alone"),
        ("pickle.pth", "cannot be read as weights alone"),
        ("empty.pth", "cannot be read as weights alone"),
        ("none.pth", "holds no weights by name"),
        ("missing.pth", "no such file"),
    ):
        with pytest.raises(InputError) as refused:
            build_model("test_resnet", position_task(), 0, init=str(tmp_path / name))
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)
