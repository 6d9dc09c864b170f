"""Two processes on the CPU against one: the same samples, the same weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from patchit_hf.pretrain import main

COMMON = [
    "--canvas", "50x25", "--batch-size", "16", "--max-steps", "5", "--optimizer", "sgd",
    "--learning-rate", "0.05", "--workers", "1", "--save-every", "0", "--no-figures",
    "--task-kwargs", "rows=3", "cols=2", "patch_size=8", "jitter=2", "input_scale=4",
]  # fmt: skip


def _launch(tmp_path, processes, *argv):
    env = {
        **os.environ,
        "ACCELERATE_USE_CPU": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes",
                   str(processes), "--main_process_port", "0"]  # fmt: skip
    done = subprocess.run(
        [*launch, *argv],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=env, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def _pretrain(tmp_path, name, crop_folder, processes, *argv):
    words = [*COMMON, *argv, "--dataset", crop_folder, "--output-dir", str(tmp_path / name)]
    said = ""
    if processes == 1:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ACCELERATE_USE_CPU", "1")
            assert main(words) == 0
    else:
        said = _launch(tmp_path, processes, "-m", "patchit_hf.pretrain", *words)
    weights = load_file(tmp_path / name / "model.safetensors")
    head = load_file(tmp_path / name / "head.safetensors")
    return weights | {f"head.{key}": value for key, value in head.items()}, said


def _learned(weights):
    return {k: v for k, v in weights.items() if "running_" not in k and "num_batches" not in k}


def test_nets_without_batch_statistics_end_with_the_same_weights(tmp_path, crop_folder):
    one, _ = _pretrain(tmp_path, "one", crop_folder, 1, "--backbone", "test_vit")
    two, text = _pretrain(tmp_path, "two", crop_folder, 2, "--backbone", "test_vit")
    assert text.count("step 5: held-out accuracy") == 1  # said by the main process alone
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5, msg=name)


def test_batch_norm_nets_equal_one_process_with_accumulation(tmp_path, crop_folder):
    one, _ = _pretrain(
        tmp_path, "one", crop_folder, 1, "--backbone", "test_resnet",
        "--gradient-accumulation-steps", "2",
    )  # fmt: skip
    two, _ = _pretrain(tmp_path, "two", crop_folder, 2, "--backbone", "test_resnet")
    for name, value in _learned(one).items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_every_task_learns_alike_on_two_processes(tmp_path, crops):
    """Whatever a task compares (``people``: all patches of the batch), it finds on both."""
    weights = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        (folder / "crops").mkdir(parents=True)
        crops.to_parquet(str(folder / "crops" / "train.parquet"))
        _launch(tmp_path, processes, str(Path(__file__).with_name("train_family.py")),
                str(folder), "1")  # fmt: skip
        weights.append(
            {f"{p.parent.name} {p.name}": load_file(p) for p in folder.glob("run-*/*.safetensors")}
        )
    one, two = weights
    assert len(one) == len(two) == 12  # backbone and head of six tasks
    for name, tensors in one.items():
        for key, value in tensors.items():
            torch.testing.assert_close(
                two[name][key], value, rtol=1e-3, atol=1e-5, msg=f"{name} {key}"
            )
