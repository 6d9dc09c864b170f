"""Two processes on the CPU against one: the same samples, the same weights."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import write_people
from tests.data.spoilt import spoilt_folder
from tests.forked import log_of
from tests.in_turn import run

pytestmark = pytest.mark.e2e

GRID = ["rows=3", "cols=2", "patch_size=8", "jitter=2", "input_scale=4"]
COMMON = [
    "pretrain", "--canvas", "50x25", "--batch-size", "16", "--max-steps", "3", "--optimizer", "sgd",
    "--learning-rate", "0.05", "--workers", "1", "--save-every", "0", "--no-figures",
]  # fmt: skip
TASKS = {
    "context": ["patch_size=6", "gap=1", "jitter=1", "input_scale=6"],
    "jigsaw": [*GRID, "rows=2", "permutations=6"],
    "octaves": [
        "detail_cells=[3,2]", "part_cells=[2,2]", "window=16", "input_scale=4", "head_hidden=32",
        "identity_start=0.4", "table_rate=0.05",
    ],
    "pair": GRID,
    "people": [*GRID, "patches_per_crop=4"],  # compares all patches of the batch
    "scale": ["sizes=[8,12]", "patch_size=8", "jitter=2", "input_scale=4"],
    "shuffle": [*GRID, "input_scale=2"],
}  # fmt: skip
IN_PARTS = ("batch norm", "octaves")  # batch statistics are those of a process's part


def launch(tmp_path, *argv, processes=2, code=0, launcher=None):
    """Run several processes as a user does, and return what they say."""
    env = {
        **os.environ,
        "ACCELERATE_USE_CPU": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    launcher = launcher or ["--multi_gpu", "--num_processes", str(processes)]
    several = ["-m", "accelerate.commands.launch", *launcher, "--main_process_port", "0"]
    done = subprocess.run(
        [sys.executable, *(several if processes > 1 else []), *argv],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=env, timeout=400,
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr


def _weights(folder):
    files = [folder / "model.safetensors", folder / "head/model.safetensors"]
    return {f"{f.stem} {k}": v for f in files if f.exists() for k, v in load_file(f).items()}


def _assert_same_weights(one, two, batch_norm=False):
    one, two = _weights(one), _weights(two)
    assert one
    assert one.keys() == two.keys()
    for name, value in one.items():
        if not (batch_norm and ("running_" in name or "num_batches" in name)):
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)


def _manifest(folder):
    return [json.loads(line) for line in (folder / "bad_images.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_the_command_trains_on_several_processes(tmp_path, crop_folder, monkeypatch, processes):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    words = [*COMMON[1:], "--task-kwargs", *GRID, "--backbone", "test_vit", "--dataset",
             crop_folder, "--output-dir"]  # fmt: skip
    run([["pretrain", *words, str(tmp_path / "one")]])
    argv = ["-m", "patchit_hf.pretrain", *words, str(tmp_path / "two")]
    text = launch(tmp_path, *argv, processes=processes)
    assert text.count("step 3: held-out accuracy") == 1  # said by the main process alone
    _assert_same_weights(tmp_path / "one", tmp_path / "two")


def test_two_processes_are_one(tmp_path, crop_folder, monkeypatch, server, subtests):
    """In forks with the variables of a launcher, which the slow tests start."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    common = [*COMMON, "--no-audit"]
    position = [*common, "--task-kwargs", *GRID]
    runs = {
        name: [*common, "--task", name, "--task-kwargs", *options, "--backbone", "test_convnext",
               "--dataset", crop_folder]
        for name, options in TASKS.items()
    }  # fmt: skip
    runs["batch norm"] = [*position, "--backbone", "test_resnet", "--dataset", crop_folder]
    runs["bad images"] = [
        *position, "--backbone", "test_convnext", "--on-bad-image", "replace", "--crop-cache-gb",
        "0", "--dataset", spoilt_folder(tmp_path / "spoilt"),
    ]  # fmt: skip
    (tmp_path / "people").mkdir()
    people = write_people(tmp_path / "people", train=range(480), validation=range(480, 540))
    runs["attributes"] = [
        "finetune", "--task", "attributes", "--backbone", "test_convnext", "--input-size", "64x32",
        "--batch-size", "16", "--dataset", people, "--max-steps", "3", "--optimizer", "sgd",
        "--learning-rate", "0.01",
    ]  # fmt: skip

    def commands(folder, *more):
        return [
            [*words, *(more if name in IN_PARTS else []), "--output-dir", str(folder / name)]
            for name, words in runs.items()
        ]

    one, two = tmp_path / "one", tmp_path / "two"
    run(commands(one, "--gradient-accumulation-steps", "2"))
    (tmp_path / "commands.json").write_text(json.dumps(commands(two)))
    file = str(tmp_path / "commands.json")
    ended = server.start(tmp_path / "work", ["in_turn", file], 2)
    assert ended == [0, 0], log_of(tmp_path / "work")

    for name in runs:
        with subtests.test(name):
            _assert_same_weights(one / name, two / name, batch_norm=name in IN_PARTS)
    with subtests.test("the list of bad images"):
        assert _manifest(one / "bad images") == _manifest(two / "bad images")
        assert len(_manifest(one / "bad images")) > 5
    with subtests.test("figures of the attributes"):
        first, second = (
            json.loads((f / "attributes/patchit.json").read_text())["results"] for f in (one, two)
        )
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert second[key] == pytest.approx(value, abs=0.02), key


@pytest.mark.slow
def test_every_sample_is_the_same_on_any_number_of_processes(tmp_path, crop_folder, monkeypatch):
    """One process, two, four, and one again, each from the checkpoint of the one before."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    script = str(Path(__file__).parents[1] / "logged.py")
    words = [
        *COMMON[1:], "--max-steps", "8", "--task-kwargs", *GRID, "--backbone", "test_vit",
        "--no-audit", "--eval-every", "0", "--save-every", "100", "--dataset", crop_folder,
        "--output-dir",
    ]  # fmt: skip

    def logged(folder, plan):
        for number, (processes, stop) in enumerate(plan):
            log = tmp_path / folder / f"log-{number}"
            log.mkdir(parents=True)
            argv = [script, str(log), str(stop), *words, str(tmp_path / folder / "run")]
            code = 0 if not stop else 1 if processes > 1 else 128 + signal.SIGTERM
            launch(tmp_path, *argv, processes=processes, code=code)
        files = (tmp_path / folder).glob("log-*/*.jsonl")
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return sorted(lines)

    whole = logged("one", [(1, 0)])
    parts = logged("several", [(1, 2), (2, 2), (4, 2), (1, 0)])
    assert [line[0] for line in whole] == list(range(8 * 16))
    assert parts == whole
    assert len({tuple(line[2:]) for line in whole}) > 30
    _assert_same_weights(tmp_path / "one" / "run", tmp_path / "several" / "run")
