"""Checkpoints that are damaged: named, passed over, and never taken for good."""

import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file

from patchit_hf import InputError, PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.training.checkpoint import (
    DamagedError,
    check,
    checkpoints,
    newest_whole,
    read_checkpoint,
)


def truncated(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file):
    file.write_bytes(b"")


def missing(file):
    file.unlink()


def flipped(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def without_header(file):
    file.write_bytes(file.read_bytes()[8:])


DAMAGE = {
    ("model.safetensors", truncated), ("model.safetensors", emptied),
    ("model.safetensors", missing), ("model.safetensors", without_header),
    ("model.safetensors", flipped), ("optimizer.pt", truncated), ("optimizer.pt", missing),
    ("optimizer.pt", flipped), ("state.json", missing), ("state.json", flipped),
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of six steps with checkpoints after two, four and six, but not finished."""
    from tests.conftest import make_crops

    folder = tmp_path_factory.mktemp("run") / "run"
    trainer = _trainer(folder, make_crops)
    trainer.train()
    (folder / "patchit.json").unlink()
    trainer.run.release()
    return folder


def _trainer(folder, make_crops, **options):
    import datasets

    crops = datasets.Dataset.from_dict({"image": make_crops(24)}).cast_column(
        "image", datasets.Image()
    )
    settings = {
        "output_dir": str(folder), "max_steps": 6, "train_batch_size": 8, "save_steps": 2,
        "save_total_limit": 3, "eval_steps": 3, "figures": False, "audit": False, **options,
    }  # fmt: skip
    task = create_task("position", (50, 25), rows=3, cols=2, patch_size=8, jitter=2)
    return PatchTaskTrainer("test_resnet", TrainingArguments(**settings), task, crops, crops)


@pytest.mark.parametrize(
    ("name", "damage"), sorted(DAMAGE, key=str), ids=lambda value: getattr(value, "__name__", value)
)
def test_a_damaged_checkpoint_is_passed_over(run, tmp_path, caplog, name, damage):
    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    damage(tmp_path / "checkpoints" / "step-00000006" / name)
    with caplog.at_level(logging.WARNING):
        found = newest_whole(tmp_path / "checkpoints")
    assert found.step == 4
    (line,) = caplog.messages
    assert "step-00000006' is damaged: " in line
    assert name in line
    with pytest.raises(DamagedError, match=name):
        read_checkpoint(tmp_path / "checkpoints" / "step-00000006")


@pytest.mark.parametrize(
    "damage", [truncated, emptied, missing, without_header], ids=lambda value: value.__name__
)
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "state.json"])
def test_a_damaged_checkpoint_of_an_earlier_version_is_too(run, tmp_path, name, damage):
    """They have no checksums."""
    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    for folder in checkpoints(tmp_path / "checkpoints"):
        (folder / "SHA256SUMS").unlink()
    assert newest_whole(tmp_path / "checkpoints").step == 6
    damage(tmp_path / "checkpoints" / "step-00000006" / name)
    assert newest_whole(tmp_path / "checkpoints").step == 4


def test_a_state_without_its_configuration_is_damaged(run, tmp_path):
    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    folder = tmp_path / "checkpoints" / "step-00000006"
    (folder / "SHA256SUMS").unlink()
    (folder / "state.json").write_text('{"step": 6}')
    with pytest.raises(DamagedError, match=r"state\.json lacks KeyError 'config'"):
        read_checkpoint(folder)


def test_what_is_no_checkpoint_is_left_alone(run, tmp_path):
    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "step-99999999").write_text("stray")
    (tmp_path / "checkpoints" / "step-00000009").mkdir()
    assert newest_whole(tmp_path / "checkpoints").step == 6
    assert newest_whole(tmp_path / "nowhere") is None


def test_the_checksums_are_those_of_sha256sum(run):
    import subprocess

    folder = run / "checkpoints" / "step-00000006"
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    check(folder)


@pytest.mark.e2e
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(run, tmp_path):
    """It ends as if nothing had happened, and the damaged checkpoint is replaced."""
    from tests.conftest import make_crops

    whole = load_file(run / "model.safetensors")
    metrics = [_without_times(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    flipped(folder / "checkpoints" / "step-00000006" / "model.safetensors")
    trainer = _trainer(folder, make_crops)
    trainer.train()
    again = load_file(folder / "model.safetensors")
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    check(folder / "checkpoints" / "step-00000006")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [_without_times(line) for line in lines] == metrics


def _without_times(line):
    times = ("seconds", "samples_per_second", "data_share")
    return {key: value for key, value in json.loads(line).items() if key not in times}


@pytest.mark.e2e
def test_weights_that_are_not_finite_are_never_saved(tmp_path, crops):
    from tests.conftest import make_crops

    trainer = _trainer(tmp_path / "run", make_crops, eval_steps=0, logging_steps=100)
    before_step = trainer._before_step

    def spoil(step):
        before_step(step)
        if step == 3:
            next(trainer.model.parameters()).data.fill_(float("nan"))

    trainer._before_step = spoil
    with pytest.raises(FloatingPointError, match=r"after step 4: .*checkpoint is .*step-00000002"):
        trainer.train()
    assert [path.name for path in checkpoints(tmp_path / "run" / "checkpoints")] == [
        "step-00000002"
    ]


@pytest.mark.parametrize("held_out", [True, False])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_weights_that_overflow_in_the_last_step_are_not_exported(tmp_path, held_out, value):
    """Neither an evaluation nor a checkpoint has to be there to notice."""
    from tests.conftest import make_crops

    trainer = _trainer(tmp_path / "run", make_crops, max_steps=2, eval_steps=0, save_steps=0)
    if not held_out:
        trainer.evaluator.held_out = trainer.data.held_out = None
    step = trainer.optimizer.step

    def overflows():
        step()
        if trainer._running().done == 1:
            list(trainer.model.backbone.parameters())[-1].data.fill_(float(value))

    trainer.optimizer.step = overflows
    with pytest.raises(FloatingPointError, match=r"^the weights are not finite after step 2: try"):
        trainer.train()
    assert not (tmp_path / "run" / "patchit.json").exists()
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_resuming_from_a_damaged_checkpoint_by_name_is_refused(run, tmp_path):
    from tests.conftest import make_crops

    chosen = tmp_path / "step-00000006"
    shutil.copytree(run / "checkpoints" / "step-00000006", chosen)
    flipped(chosen / "optimizer.pt")
    trainer = _trainer(tmp_path / "other", make_crops, resume_from_checkpoint=str(chosen))
    with pytest.raises(InputError, match=r"is damaged: optimizer\.pt is not the file"):
        trainer.train()
