"""Two processes on the CPU against one: the same samples, the same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import write_people
from tests.data.spoilt import spoilt_folder
from tests.in_turn import run

pytestmark = pytest.mark.e2e

GRID = ["rows=3", "cols=2", "patch_size=8", "jitter=2", "input_scale=4"]
COMMON = [
    "pretrain", "--canvas", "50x25", "--batch-size", "16", "--max-steps", "5", "--optimizer", "sgd",
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


def _launch(tmp_path, *argv):
    """Run two processes as a user does, and return what they say."""
    env = {
        **os.environ,
        "ACCELERATE_USE_CPU": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
         "--main_process_port", "0", *argv],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=env, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
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


def test_the_command_trains_on_two_processes(tmp_path, crop_folder, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    words = [*COMMON[1:], "--task-kwargs", *GRID, "--backbone", "test_vit", "--dataset",
             crop_folder, "--output-dir"]  # fmt: skip
    run([["pretrain", *words, str(tmp_path / "one")]])
    text = _launch(tmp_path, "-m", "patchit_hf.pretrain", *words, str(tmp_path / "two"))
    assert text.count("step 5: held-out accuracy") == 1  # said by the main process alone
    _assert_same_weights(tmp_path / "one", tmp_path / "two")


@pytest.mark.usefixtures("with_people")
def test_two_processes_are_one(tmp_path, crop_folder, monkeypatch, subtests):
    """All that is compared is trained by one start of the processes, which takes the longest."""
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
    _launch(tmp_path, str(Path(__file__).parents[1] / "in_turn.py"), "commands.json")

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
