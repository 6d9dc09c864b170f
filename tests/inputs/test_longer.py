"""Longer training, and paths that are spelt in other ways."""

import json

import pytest
import torch
from safetensors.torch import load_file

from patchit_hf import InputError, PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.pretrain.command import main
from patchit_hf.training.run_folder import refuse_other


def _trainer(folder, crops, small, steps, **kwargs):
    args = TrainingArguments(
        output_dir=folder, max_steps=steps, train_batch_size=8, figures=False, audit=False,
        eval_steps=0, lr_scheduler_type="constant", warmup_steps=0, **kwargs,
    )  # fmt: skip
    return PatchTaskTrainer(
        "test_resnet", args, create_task("position", (50, 25), **small), crops, crops
    )


def _record(folder):
    return json.loads((folder / "patchit.json").read_text())


@pytest.mark.e2e
def test_a_finished_run_goes_on_when_asked(tmp_path, crops, small):
    """With a constant rate, the longer run is the one that was as long from the beginning."""
    _trainer(tmp_path / "long", crops, small, 5).train()
    _trainer(tmp_path / "run", crops, small, 3).train()
    with pytest.raises(InputError, match=r"max_steps \(3 there, 5 here\); to train longer, add"):
        _trainer(tmp_path / "run", crops, small, 5)
    longer = _trainer(tmp_path / "run", crops, small, 5, extend=True)
    assert not longer.run.finished
    longer.train()
    assert longer.run.finished
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("long", "run"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    record = _record(tmp_path / "run")
    assert record["training"]["changes"] == [{"after_step": 3, "values": {"max_steps": [3, 5]}}]
    assert record["config"]["max_steps"] == record["results"]["step"] == 5
    longer.run.release()
    again = _trainer(tmp_path / "run", crops, small, 5)  # the same command, without --extend
    assert again.run.finished
    with pytest.raises(InputError, match="--extend: 5 steps are done; must be more, and the run"):
        _trainer(tmp_path / "run", crops, small, 4, extend=True).train()


def test_a_checkpoint_goes_on_for_longer_in_a_new_folder(tmp_path, crops, small):
    _trainer(tmp_path / "run", crops, small, 3).train()
    chosen = tmp_path / "run" / "checkpoints" / "step-00000003"
    options = {"resume_from_checkpoint": chosen}
    with pytest.raises(InputError, match="to train longer, add --extend"):
        _trainer(tmp_path / "new", crops, small, 5, **options).train()
    longer = _trainer(tmp_path / "new", crops, small, 5, extend=True, **options)
    assert longer.train()["step"] == 5
    assert _record(tmp_path / "new")["training"]["changes"][0]["after_step"] == 3


def test_a_run_without_checkpoints_is_not_begun_anew(tmp_path, crops, small):
    _trainer(tmp_path / "run", crops, small, 2, save_steps=0).train()
    with pytest.raises(InputError, match=r"--extend: .* holds no checkpoint to go on from"):
        _trainer(tmp_path / "run", crops, small, 4, extend=True).train()


def test_spellings_of_one_folder_are_the_same_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crops").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for there in ("crops", "crops/", "./crops", str(tmp_path / "crops"), "~/crops"):
        for here in ("crops", "crops/", "./crops", str(tmp_path / "crops")):
            refuse_other("other", {"dataset": there}, {"dataset": here})
    with pytest.raises(InputError, match="dataset"):
        refuse_other("other", {"dataset": "crops"}, {"dataset": "others"})
    with pytest.raises(InputError, match="dataset"):
        refuse_other("other", {"dataset": "org/crops"}, {"dataset": "org/crops/"})


def test_the_same_command_with_a_slash_continues(tmp_path, crop_folder, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("batch-size: 16\nmax-steps: 1\ncanvas: 50x25\n")
    words = [
        "--backbone", "test_resnet", "--task-kwargs", "rows=3", "cols=2", "patch_size=8",
        "jitter=2", "--no-figures", "--no-audit", "--config", "~/mine.yaml", "--output-dir",
        "~/run", "--dataset",
    ]  # fmt: skip
    assert main([*words, "crops"]) == 0
    assert (tmp_path / "run" / "patchit.json").is_file()
    for spelling in ("crops/", "./crops", crop_folder, "~/crops"):
        assert main([*words, spelling]) == 0, spelling
        told = capsys.readouterr()
        assert "this run is finished" in told.out + told.err
