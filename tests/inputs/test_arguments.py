"""What people pass as arguments and callbacks is understood, or answered by one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from patchit_hf import (
    FinetuningArguments,
    InputError,
    PatchTaskTrainer,
    TrainingArguments,
    create_task,
)
from tests.conftest import train_and_kill

UNDERSTOOD = {  # as in the table of docs/inputs.md
    "bf16=True": ({"bf16": True}, {"mixed_precision": "bf16"}),
    "bf16=False": ({"bf16": False}, {"mixed_precision": None}),
    "fp16=True": ({"fp16": True}, {"mixed_precision": "fp16"}),
    "per_device_train_batch_size": (
        {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2},
        {"train_batch_size": 16},
    ),
    "warmup_ratio": ({"warmup_ratio": 0.1}, {"warmup_steps": 0.1}),
    "eval_strategy='no'": ({"eval_strategy": "no"}, {"eval_steps": 0}),
    "eval_strategy='steps'": ({"eval_strategy": "steps", "eval_steps": 7}, {"eval_steps": 7}),
    "save_strategy='no'": ({"save_strategy": "no"}, {"save_steps": 0}),
    "a number of NumPy": ({"max_steps": np.int64(7)}, {"max_steps": 7}),
    "a share of NumPy": ({"warmup_steps": np.float32(0.5)}, {"warmup_steps": 0.5}),
    "a number of torch": ({"seed": torch.tensor(3)}, {"seed": 3}),
    "a path": ({"output_dir": Path("runs/mine")}, {"output_dir": "runs/mine"}),
    "a path at home": ({"output_dir": Path("~/mine")}, {"output_dir": str(Path.home() / "mine")}),
}
REFUSED = {
    "fp16 and bf16": ({"fp16": True, "bf16": True}, "bf16=True: is mixed_precision='bf16' here"),
    "two batch sizes": (
        {"per_device_train_batch_size": 8, "train_batch_size": 64},
        "is train_batch_size=8 here, and train_batch_size is 64 already",
    ),
    "eval_strategy='epoch'": ({"eval_strategy": "epoch"}, "'epoch': give eval_steps, in steps"),
    "batch_size": ({"batch_size": 8}, "batch_size=8: here it is train_batch_size"),
    "overwrite_output_dir": ({"overwrite_output_dir": True}, "a run is continued, and never"),
    "load_best_model_at_end": ({"load_best_model_at_end": True}, "finetuning keeps the best"),
    "a typing error": (
        {"learning_rte": 1},
        "has no argument 'learning_rte'; did you mean learning_rate?",
    ),
    "an array": ({"seed": np.arange(2)}, "--seed array([0, 1]): must be a whole number"),
}


@pytest.mark.parametrize("arguments", [TrainingArguments, FinetuningArguments])
@pytest.mark.parametrize("way", UNDERSTOOD)
def test_what_is_understood(way, arguments):
    given, wanted = UNDERSTOOD[way]
    args = arguments(**given)
    for name, value in wanted.items():
        assert getattr(args, name) == value
        assert type(getattr(args, name)) is type(value)


@pytest.mark.parametrize("way", REFUSED)
def test_what_is_one_line(way):
    given, message = REFUSED[way]
    with pytest.raises(InputError) as refused:
        TrainingArguments(**given)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


class Told:
    """A callback that writes down what it is told."""

    def __init__(self):
        self.calls = []

    def on_step(self, trainer, step):
        self.calls.append(("step", step, trainer.monitor.done))

    def on_evaluate(self, trainer, step, values):
        self.calls.append(("evaluate", step, values["step"], "eval_loss" in values))

    def on_save(self, trainer, step, folder):
        self.calls.append(("save", step, folder.name, (folder / "state.json").is_file()))

    def on_end(self, trainer, results):
        finished = (trainer.run.path / "patchit.json").is_file()
        self.calls.append(("end", results["step"], finished))


def _trainer(folder, crops, small, callbacks=None, **kwargs):
    options = {
        "max_steps": 3,
        "train_batch_size": 8,
        "figures": False,
        "audit": False,
        "save_steps": 2,
    }
    args = TrainingArguments(output_dir=folder, **{"eval_steps": 0, **options, **kwargs})
    task = create_task("position", (50, 25), **small)
    return PatchTaskTrainer("test_resnet", args, task, crops, crops, callbacks=callbacks)


def test_callbacks_are_told_everything_in_order(tmp_path, crops, small):
    told = Told()
    _trainer(tmp_path / "run", crops, small, [told]).train()
    assert told.calls == [
        ("step", 1, 1),
        ("step", 2, 2),
        ("save", 2, "step-00000002", True),
        ("step", 3, 3),
        ("evaluate", 3, 3, True),
        ("save", 3, "step-00000003", True),
        ("end", 3, True),
    ]


class StopsAt:
    """A callback that ends the run after a step, or an evaluation, and counts what it sees."""

    def __init__(self, step, method):
        self.step, self.method, self.seen = step, method, []

    def on_step(self, trainer, step):
        self.seen.append(step)
        return self.method == "on_step" and step == self.step

    def on_evaluate(self, trainer, step, values):
        return np.bool_(self.method == "on_evaluate" and step == self.step)


@pytest.mark.parametrize("method", ["on_step", "on_evaluate"])
def test_a_callback_ends_the_run(tmp_path, crops, small, method):
    """The result is evaluated, saved, exported and said to be stopped; nothing follows it."""
    options = {"max_steps": 5, "eval_steps": 1 if method == "on_evaluate" else 0}
    stops = StopsAt(2, method)
    results = _trainer(tmp_path / "run", crops, small, stops, **options).train()
    assert stops.seen == [1, 2]
    assert results["step"] == 2
    assert "eval_accuracy" in results
    record = json.loads((tmp_path / "run" / "patchit.json").read_text())
    assert record["training"]["stopped"] == "the callback StopsAt asked for it"
    assert record["training"]["steps"] == 2
    assert [p.name for p in (tmp_path / "run" / "checkpoints").glob("step-*")] == ["step-00000002"]
    card = (tmp_path / "run" / "README.md").read_text()
    assert "The run was stopped early: the callback StopsAt asked for it." in card
    again = StopsAt(2, method)
    assert _trainer(tmp_path / "run", crops, small, again, **options).train() == results
    assert again.seen == []
    assert json.loads((tmp_path / "run" / "patchit.json").read_text())["training"]["stopped"]
    longer = _trainer(tmp_path / "run", crops, small, **{**options, "max_steps": 6}, extend=True)
    assert longer.train()["step"] == 6
    assert not json.loads((tmp_path / "run" / "patchit.json").read_text())["training"]["stopped"]


@pytest.mark.parametrize(("method", "steps"), [("on_step", 2), ("on_evaluate", 3)])
def test_a_callback_ends_a_run_that_keeps_initial_weights(tmp_path, crops, small, method, steps):
    """They are mixed in before the last evaluation, as at the end of any run."""
    options = {"eval_steps": 1, "keep_initial": 0.75, "weight_decay": 0.0, "learning_rate": 0.1}
    initial = timm.create_model("test_resnet", num_classes=0)
    task, weights = create_task("position", (50, 25), **small), []
    for keep in (0.75, 0.0):
        args = TrainingArguments(
            output_dir=str(tmp_path / str(keep)), train_batch_size=8, figures=False, audit=False,
            max_steps=5, **{**options, "keep_initial": keep},
        )  # fmt: skip
        stops = StopsAt(2 if keep else steps, method if keep else "on_step")
        trainer = PatchTaskTrainer(initial, args, task, crops, crops, callbacks=stops)
        assert trainer.train()["step"] == steps
        assert [entry["step"] for entry in trainer.monitor.history.entries] == [
            *range(1, steps + 1)
        ]
        weights.append(trainer.model.backbone.conv1[0].weight.detach())
    mixed = 0.75 * initial.conv1[0].weight.detach() + 0.25 * weights[1]
    torch.testing.assert_close(weights[0], mixed)


def test_callbacks_that_are_none_are_one_line(tmp_path, crops, small):
    transformers = pytest.importorskip("transformers")
    for given, message in (
        ([transformers.TrainerCallback()], "TrainerCallback is a callback of transformers; here"),
        ([object()], "object has none of on_step, on_evaluate, on_save, on_end"),
        ([Told], "Told is a class; give an object of it"),
    ):
        with pytest.raises(InputError, match=message):
            _trainer(tmp_path / "run", crops, small, given)
    assert not (tmp_path / "run").exists()


def test_resume_from_checkpoint_as_in_transformers(tmp_path, crops, small):
    killed = _trainer(tmp_path / "run", crops, small)
    with pytest.raises(InputError, match="resume_from_checkpoint=True: there is none in"):
        killed.train(resume_from_checkpoint=True)
    train_and_kill(killed, 1)
    with pytest.raises(InputError, match=r"resume_from_checkpoint=False: .* holds a run"):
        _trainer(tmp_path / "run", crops, small).train(resume_from_checkpoint=False)
    whole = _trainer(tmp_path / "other", crops, small, max_steps=3)
    chosen = tmp_path / "run" / "checkpoints" / "step-00000002"
    first = whole.train(resume_from_checkpoint=chosen)
    again = _trainer(tmp_path / "run", crops, small).train(resume_from_checkpoint=True)
    assert first["eval_loss"] == again["eval_loss"]


def test_wandb_without_a_login_is_seen_before_anything_is_written(
    tmp_path, crops, small, monkeypatch
):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match="--report-to 'wandb': there is no login; run wandb login"):
        _trainer(tmp_path / "run", crops, small, report_to="wandb")
    assert not (tmp_path / "run").exists()
