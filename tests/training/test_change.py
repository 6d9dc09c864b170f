"""Continuing with another learning rate: only when it is asked for, and said in record and card."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from patchit_hf import InputError, PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.training.checkpoint import checkpoints, read_checkpoint


@pytest.fixture
def trainer(tmp_path, crops, small):
    def make(folder="run", **options):
        settings = {
            "output_dir": str(tmp_path / folder), "max_steps": 6, "train_batch_size": 8,
            "save_steps": 2, "save_total_limit": 3, "figures": False, "audit": False,
            "learning_rate": 0.004, **options,
        }  # fmt: skip
        task = create_task("position", (50, 25), **small)
        return PatchTaskTrainer("test_resnet", TrainingArguments(**settings), task, crops)

    return make


@pytest.fixture
def broken(tmp_path, trainer):
    """A run that ended after four of six steps."""
    run = trainer()
    run.train()
    run.run.release()
    (tmp_path / "run" / "patchit.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000006")
    return tmp_path / "run"


def test_another_rate_has_to_be_asked_for(broken, trainer):
    line = r"these differ: learning_rate \(0\.004 there, 0\.001 here\); to continue with other "
    with pytest.raises(InputError, match=line + "values, add --change learning_rate"):
        trainer(learning_rate=0.001)
    with pytest.raises(InputError, match=r"these differ: seed \(42 there, 1 here\)$"):
        trainer(seed=1)
    with pytest.raises(InputError, match=r"these differ: seed \(42 there, 1 here\)$"):
        trainer(seed=1, learning_rate=0.001, change=["learning_rate"])


def test_only_rates_and_lengths_may_change():
    assert TrainingArguments(change=["--learning-rate", "epochs"]).change == [
        "learning_rate", "num_train_epochs",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"^--change 'seed': must be among learning_rate, "):
        TrainingArguments(change=["seed"])


def test_the_changed_run_goes_on_in_its_folder(broken, trainer):
    before = load_file(broken / "model.safetensors")
    run = trainer(learning_rate=0.001, change=["learning_rate"])
    run.train()
    run.run.release()
    after = load_file(broken / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    record = json.loads((broken / "patchit.json").read_text())
    assert record["training"]["changes"] == [
        {"after_step": 4, "values": {"learning_rate": [0.004, 0.001]}}
    ]
    card = (broken / "README.md").read_text()
    assert "\n| changed after step 4 | learning_rate from 0.004 to 0.001 |\n" in card
    assert json.loads((broken / "run.json").read_text())["config"]["learning_rate"] == 0.001
    last = read_checkpoint(checkpoints(broken / "checkpoints")[0])
    assert last.config["learning_rate"] == 0.001
    rates = [json.loads(line) for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert rates[-1]["learning_rate"] == run.lr_at(5) < 0.001


def test_a_kept_checkpoint_starts_a_run_in_another_folder(broken, trainer, tmp_path):
    words = {
        "learning_rate": 0.001,
        "resume_from_checkpoint": str(broken / "checkpoints/step-00000002"),
    }
    with pytest.raises(InputError, match="add --change learning_rate"):
        trainer("other", **words).train()
    trainer("other", **words, change=["learning_rate"]).train()
    record = json.loads((tmp_path / "other" / "patchit.json").read_text())
    assert record["training"]["changes"][0]["after_step"] == 2


def test_a_newer_checkpoint_of_the_run_before_the_change_is_not_overlooked(broken, trainer):
    named = str(broken / "checkpoints" / "step-00000002")
    run = trainer(learning_rate=0.001, change=["learning_rate"], resume_from_checkpoint=named)
    with pytest.raises(InputError, match=r"step-00000004' is newer, .* another --output"):
        run.train()


def test_the_change_of_a_killed_run_is_kept(broken, trainer, tmp_path):
    """What the checkpoint after the change says is what the record says."""
    run = trainer(learning_rate=0.001, change=["learning_rate"], save_steps=1)
    run.train()
    run.run.release()
    (broken / "patchit.json").unlink()
    shutil.rmtree(checkpoints(broken / "checkpoints")[0])
    whole = load_file(broken / "model.safetensors")
    again = trainer(learning_rate=0.001)
    again.train()
    assert len(again.record()["training"]["changes"]) == 1
    after = load_file(broken / "model.safetensors")
    assert all(torch.equal(whole[name], after[name]) for name in whole)


def test_a_run_that_diverges_says_what_there_is(trainer, tmp_path):
    for steps, state in (
        (0, r"there is no checkpoint yet$"),
        (2, r"step-00000002, .* with a lower rate, add --change learning_rate$"),
    ):
        run = trainer(f"run-{steps}", save_steps=steps, logging_steps=1)
        loss = run._loss

        def spoilt(output, targets, run=run, loss=loss):
            values = loss(output, targets)
            if run.monitor.done >= 3:
                values["loss"] = values["loss"] * float("nan")
            return values

        run._loss = spoilt
        with pytest.raises(FloatingPointError) as error:
            run.train()
        assert re.search(state, str(error.value))
