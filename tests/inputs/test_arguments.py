"""What people pass as arguments and callbacks is understood, or answered by one line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from patchit_hf import FinetuningArguments, InputError, PatchTaskTrainer, TrainingArguments
from patchit_hf.pretrain.trainer import create_task
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
    args = TrainingArguments(output_dir=folder, eval_steps=0, **{**options, **kwargs})
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
