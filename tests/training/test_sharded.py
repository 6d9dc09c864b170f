"""FSDP2 by Accelerate's configuration: the network in parts learns what the whole one learns."""

import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from patchit_hf import InputError, PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.training.sharded import Sharded, Sharding, sharding_of
from tests.forked import log_of
from tests.training.test_distributed import launch

ROOT = Path(__file__).resolve().parents[2]
ASKED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
COMMON = "--backbone test_vit --workers 0 --batch-size 16 --save-limit 9 --log-every 1".split()
PRETRAIN = [
    "pretrain", *COMMON, "--canvas", "50x25", "--no-figures", "--no-audit", "--task-kwargs",
    "rows=3", "cols=2", "patch_size=8", "jitter=2", "input_scale=4",
]  # fmt: skip
FINETUNE = [
    "finetune", "--task", "attributes", "--init", "random", *COMMON, "--input-size", "64x32",
    "--learning-rate", "0.001",
]  # fmt: skip
RUNS = {
    "sgd": ([*PRETRAIN, "--optimizer", "sgd", "--learning-rate", "0.05"], 1e-6),
    "moving average": (
        [*PRETRAIN, "--optimizer", "sgd", "--learning-rate", "0.05", "--ema", "0.9"], 1e-6
    ),
    "adamw, in turns": (
        [*PRETRAIN, "--optimizer", "adamw", "--learning-rate", "0.001",
         "--gradient-accumulation-steps", "2"],
        1e-5,
    ),
    "finetuning": (FINETUNE, 5e-5),
}  # fmt: skip
OCTAVES = [
    "pretrain", *COMMON, "--canvas", "50x25", "--task", "octaves", "--task-kwargs",
    "detail_cells=[3,2]", "part_cells=[2,2]", "window=16", "input_scale=4", "--max-steps", "2",
]  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"ACCELERATE_USE_FSDP": "false", "FSDP_VERSION": "1"}, None),
        (ASKED, Sharding(("Block", "EvaBlock"), True)),
        ({**ASKED, "FSDP_AUTO_WRAP_POLICY": "NO_WRAP"}, Sharding((), True)),
        (
            {**ASKED, "FSDP_TRANSFORMER_CLS_TO_WRAP": "Layer, Block",
             "FSDP_RESHARD_AFTER_FORWARD": "false"},
            Sharding(("Layer", "Block"), False),
        ),
    ],
)  # fmt: skip
def test_how_a_network_is_divided(variables, expected):
    assert sharding_of(variables) == expected


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"FSDP_VERSION": "1"}, r"FSDP_VERSION '1': must be 2 \(fsdp_version: 2 in"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "'true': is not supported; set fsdp_offload_params: f"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "FSDP_ACTIVATION_CHECKPOINTING 'true': is no"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "must be TRANSFORMER_BASED_WRAP or NO_WR"),
    ],
)
def test_what_is_not_supported(variables, message):
    with pytest.raises(InputError, match=message):
        sharding_of({**ASKED, **variables})


def test_one_process_has_nothing_to_divide(tmp_path, crops, small, monkeypatch):
    for name, value in ASKED.items():
        monkeypatch.setenv(name, value)
    args = TrainingArguments(output_dir=str(tmp_path), max_steps=1, train_batch_size=8)
    task = create_task("position", (50, 25), **small, input_scale=4)
    trainer = PatchTaskTrainer("test_vit", args, task, crops)
    assert trainer.sharded is None
    assert os.environ["ACCELERATE_USE_FSDP"] == "true"


class _Processes:
    """What ``Sharded`` asks of an accelerator before it divides anything."""

    def __init__(self, precision="no", backend="NO"):
        self.mixed_precision = precision
        self.state = type("S", (), {})()
        self.state.dynamo_plugin = type("P", (), {"backend": type("B", (), {"value": backend})})


@pytest.mark.parametrize(
    ("network", "processes", "message"),
    [
        (torch.nn.BatchNorm2d(2), _Processes(), "FSDP: the network has batch normalisation"),
        (torch.nn.Linear(2, 2), _Processes("fp16"), "'fp16': must be no or bf16 with FSDP"),
        (torch.nn.Linear(2, 2), _Processes(backend="INDUCTOR"), "cannot be compiled, too"),
    ],
)
def test_which_networks_are_not_divided(network, processes, message):
    with pytest.raises(InputError, match=message):
        Sharded(network, Sharding(), processes)


def test_an_optimiser_of_whole_weights_is_refused():
    parts = Sharded.__new__(Sharded)
    with pytest.raises(InputError, match="--optimizer 'Muon': with FSDP it must be one of adamw, "):
        parts.create_optimizer([], "Muon", 0.1, 0.0)


def _largest_difference(one, two):
    largest, files = 0.0, ("model.safetensors", "head/model.safetensors")
    for name in files:
        if (one / "run" / name).exists():
            first, second = (load_file(folder / "run" / name) for folder in (one, two))
            assert first.keys() == second.keys()
            gaps = [(first[key] - second[key]).abs().max() for key in first]
            largest = max(largest, float(torch.stack(gaps).max()))
    return largest


def _results(work):
    lines = (work / "run" / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if "eval_" in line]


def _unfinished(whole, work):
    """Copy a run as it was after two steps."""
    shutil.copytree(whole, work)
    for name in ("patchit.json", "model.safetensors", "head/model.safetensors"):
        (work / "run" / name).unlink(missing_ok=True)
    for step in sorted((work / "run" / "checkpoints").glob("step-*"))[1:]:
        shutil.rmtree(step)


@pytest.mark.e2e
def test_two_processes_with_parts_are_one(server):
    """The short one; the slow test below resumes, too."""
    words = [*RUNS["sgd"][0], "--max-steps", "2", "--save-every", "2", "--eval-every", "2"]
    works = server.folder / "whole-network", server.folder / "in-parts"
    assert server.start(works[0], words) == [0], log_of(works[0])
    assert server.start(works[1], words, 2, env=ASKED) == [0, 0], log_of(works[1])
    assert 0 < _largest_difference(*works) < RUNS["sgd"][1]
    assert len(_results(works[1])) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_with_and_without_parts(server, name):
    words, tolerance = RUNS[name]
    words = [*words, "--max-steps", "6", "--save-every", "2", "--eval-every", "2"]

    def run(kind, processes, begun=None, **how):
        work = server.folder / f"{name}-{kind}"
        if begun is not None:
            _unfinished(begun, work)
        ended = server.start(work, words, processes, **how)
        assert ended == [0] * processes, log_of(work)
        if begun is not None:
            assert "continuing after step 2 of 6" in log_of(work)
        return work

    one = run("one", 1)
    parts = run("parts", 2, env=ASKED)
    assert 0 < _largest_difference(one, parts) < tolerance
    assert _largest_difference(one, run("parts, then one", 1, parts)) < tolerance
    assert _largest_difference(one, run("one, then parts", 2, one, env=ASKED)) < tolerance
    assert _largest_difference(parts, run("parts, resumed", 2, parts, env=ASKED)) == 0


@pytest.mark.slow
def test_a_head_that_remembers_crops_is_refused(server):
    work = server.folder / "octaves-in-parts"
    server.start(work, OCTAVES, 2, env=ASKED)
    line = "--task octaves: its head remembers crops, which FSDP does not divide"
    assert line in log_of(work)


@pytest.mark.slow
def test_the_example_of_a_configuration(tmp_path, crop_folder):
    """As a user starts it, by Accelerate's launcher, on two CPU processes."""
    settings = yaml.safe_load((ROOT / "examples" / "fsdp2.yaml").read_text())
    settings |= {"use_cpu": True, "num_processes": 2, "mixed_precision": "no"}
    (tmp_path / "cpu.yaml").write_text(yaml.safe_dump(settings))
    words = [
        *PRETRAIN[1:], "--optimizer", "adamw", "--max-steps", "2", "--save-every", "1",
        "--dataset", crop_folder,
    ]  # fmt: skip
    said = launch(
        tmp_path, "-m", "patchit_hf.pretrain", *words, "--output-dir", str(tmp_path / "run"),
        launcher=["--config_file", str(tmp_path / "cpu.yaml")],
    )  # fmt: skip
    assert "Traceback" not in said
    assert (tmp_path / "run" / "patchit.json").is_file()
