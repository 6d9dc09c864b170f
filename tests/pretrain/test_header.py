"""What a run says before its first step, and how many held-out crops it asks about."""

import logging
from types import SimpleNamespace

import pytest
import torch

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.patch_tasks import list_tasks
from patchit_hf.pretrain.evaluator import crops_to_ask, inputs_per_crop
from patchit_hf.pretrain.header import Asked
from patchit_hf.training import monitor


def trainer_of(crops, small, folder, **options):
    many = {"max_steps": 2, "train_batch_size": 16, "audit": False, "figures": False, **options}
    args = TrainingArguments(output_dir=str(folder), **many)
    task = create_task("position", (50, 25), **small)
    rows = crops.select([n % 40 for n in range(80)])
    return PatchTaskTrainer("test_resnet", args, task, crops, rows)


def test_a_run_begins_with_what_it_is_and_how_long_it_takes(
    crops, small, tmp_path, caplog, monkeypatch
):
    said = []
    monkeypatch.setattr(monitor, "LONG", 0.0)
    monkeypatch.setattr(monitor.Progress, "say", lambda self, line: said.append(line))
    monkeypatch.setattr(monitor.OtherPrograms, "cores", lambda _: 1.0)
    monkeypatch.setattr(monitor.psutil, "cpu_count", lambda: 1)
    monkeypatch.setattr(monitor, "torch", SimpleNamespace(get_num_threads=lambda: 2))
    trainer = trainer_of(crops, small, tmp_path / "run", max_steps=7)
    with caplog.at_level(logging.INFO, "patchit_hf"):
        trainer.train()
    lines = [record.getMessage() for record in caplog.records]
    threads = torch.get_num_threads()
    assert lines[:5] == [
        "data: dataset, 40 crops; 32 of 80 held-out crops are asked, as the run is short",
        "network: test_resnet, 0.4 M parameters, initial weights: random",
        "task: position, 6 answers (chance 16.7%)",
        f"device: CPU, {threads} thread{'s' * (threads > 1)} per process, float32",
        f"run: 7 steps of 16 patches by muon, in {tmp_path / 'run'}",
    ]
    (estimate,) = [line for line in said if line.startswith("about ")]
    assert " for 2 steps more (" in estimate
    assert estimate.endswith(" s a step), evaluations not counted")
    others = said[said.index(estimate) + 1]
    assert others.startswith("other programs use 1.0 of 1 cores: fewer threads may be faster (OMP_")


@pytest.mark.e2e
def test_the_weights_do_not_depend_on_the_evaluations(crops, small, tmp_path):
    ways = [{}, {"max_eval_crops": 3, "eval_steps": 1}]
    found = []
    for number, options in enumerate(ways):
        trainer = trainer_of(crops, small, tmp_path / str(number), **options)
        assert len(trainer.data.held_out) == [32, 3][number]
        trainer.train()
        found.append(trainer.model.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_who_asks_for_a_number_of_crops_gets_it():
    task = create_task("position")
    assert crops_to_ask(TrainingArguments(max_eval_crops=400), task, 256) == 400
    assert Asked("x", 0, 400, 0, bounded=False).line() == (
        "x, a stream of crops; 400 held-out crops are asked"
    )
    assert Asked("x", 9, 0, 0, bounded=True).line() == "x, 9 crops; none is held out"


@pytest.mark.parametrize("name", list_tasks())
def test_the_questions_of_a_crop_are_counted(name):
    task = create_task(name, (200, 100))
    assert crops_to_ask(TrainingArguments(), task, 10**9) == 300
    assert crops_to_ask(TrainingArguments(), task, 100 * 10 * inputs_per_crop(task)) == 100
