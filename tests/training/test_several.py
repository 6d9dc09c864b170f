"""Several processes: the launcher dies, one of them hangs, somebody presses Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from patchit_hf.common import orphans
from patchit_hf.common.orphans import orphans_stop
from patchit_hf.training.launch import main as launch
from patchit_hf.training.watch import lost_process

COMMAND = [
    "pretrain", "--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "8",
    "--max-steps", "1000000", "--task-kwargs", "rows=3", "cols=2", "patch_size=8", "--no-figures",
    "--no-audit", "--eval-every", "0", "--workers", "1",
]  # fmt: skip


def test_a_process_whose_launcher_died_gets_a_signal(monkeypatch):
    sent, parents = [], iter([5, 5, 5])
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(os, "getppid", lambda: next(parents, 1))
    monkeypatch.setattr(orphans.os, "kill", lambda process, number: sent.append((process, number)))
    with orphans_stop(every=0.01):
        end = time.monotonic() + 10
        while not sent and time.monotonic() < end:
            time.sleep(0.01)
    assert sent == [(os.getpid(), signal.SIGTERM)]


def test_a_process_that_nobody_launched_is_left_alone(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(os, "getppid", lambda: pytest.fail("it was looked at"))
    with orphans_stop(every=0.001):
        time.sleep(0.02)


def test_only_errors_of_communication_are_said_to_be_so(tmp_path):
    timed_out = RuntimeError("[/a/gloo/x.cc:129] Timed out waiting 10000ms for send operation")
    assert lost_process(timed_out, 10.0) is None  # there is one process
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        assert str(lost_process(timed_out, 10.0)) == (
            "another process of this run has ended, or has not answered for 10 s (--timeout): "
            "Timed out waiting 10000ms for send operation"
        )
        assert lost_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 1.0) is None
        assert lost_process(ValueError("timed out"), 1.0) is None
        refused = torch.distributed.DistNetworkError("refused")
        assert "refused" in str(lost_process(refused, 1.0))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "error: COMMAND: is missing, such as pretrain\n"),
        (["--processes", "0", "pretrain"], "error: --processes 0: must be at least 1\n"),
    ],
)
def test_what_cannot_be_launched(words, line, capsys):
    assert launch(words) == 2
    assert capsys.readouterr().err == line


class Run:
    """Two processes that train, as a user starts them."""

    def __init__(self, tmp_path, crop_folder, launcher, *more):
        self.output, self.said = tmp_path / "run", tmp_path / "said.txt"
        words = [*COMMAND, "--dataset", crop_folder, "--output-dir", str(self.output), *more]
        env = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, *launcher, *words], stderr=self.said.open("w"), cwd=tmp_path,
            env={**env, "HF_HOME": str(tmp_path / "hf")},
        )  # fmt: skip
        self.wait_for("patches/s", 120)
        time.sleep(2)

    def text(self):
        return self.said.read_text().replace("\r", "\n")

    def wait_for(self, words, seconds):
        end = time.monotonic() + seconds
        while words not in self.text():
            assert time.monotonic() < end, self.text()[-3000:]
            time.sleep(0.2)

    def children(self):
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(children, encoding="utf-8") as file:
            return [int(word) for word in file.read().split()]


OURS = ["-m", "patchit_hf.training.launch", "--processes", "2"]
TORCHS = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "patchit_hf"]


def _is_there(process):
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_orphans_stop_and_release_the_folder(tmp_path, crop_folder):
    run = Run(tmp_path, crop_folder, TORCHS)
    children = run.children()
    assert len(children) == 2
    run.process.kill()
    run.process.wait()
    end = time.monotonic() + 60
    while any(map(_is_there, children)):
        assert time.monotonic() < end, run.text()[-3000:]
        time.sleep(0.5)
    assert "is gone; this run stops" in run.text()
    assert "stopped by SIGTERM; the checkpoint after step" in run.text()
    assert not (run.output / ".lock").exists()


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_run(tmp_path, crop_folder):
    run = Run(tmp_path, crop_folder, OURS, "--timeout", "10")
    began, (_, second) = time.monotonic(), run.children()
    os.kill(second, signal.SIGSTOP)
    assert run.process.wait(90) == 1
    assert time.monotonic() - began < 80  # the launcher waits for half a minute before it kills
    assert "has not answered for 10 s (--timeout)" in run.text()
    assert "Traceback" not in run.text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_is_one_line(tmp_path, crop_folder, number):
    run = Run(tmp_path, crop_folder, OURS)
    run.process.send_signal(number)
    assert run.process.wait(60) == 128 + number
    assert "Traceback" not in run.text()
    assert run.text().rstrip().splitlines()[-1].startswith(f"stopped by {number.name}; the check")


@pytest.mark.slow
def test_a_job_of_slurm_goes_back_into_the_queue(tmp_path, crop_folder):
    """With Slurm's own commands replaced by ones that do on this machine what those do there."""
    programs, asked = tmp_path / "bin", tmp_path / "asked.txt"
    programs.mkdir()
    torchrun = f'exec {sys.executable} -m torch.distributed.run "$@"'
    for name, text in (
        ("srun", 'exec "$@"'),
        ("torchrun", f"echo $$ > {tmp_path}/torchrun.pid\n{torchrun}"),
        ("scontrol", f'echo "$@" >> {asked}\necho localhost'),
    ):
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    env = {
        **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "ACCELERATE_USE_CPU": "1",
        "SLURM_JOB_NODELIST": "here", "SLURM_JOB_ID": str(os.getpid()), "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "2", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "hf"),
    }  # fmt: skip
    script = Path(__file__).parents[2] / "examples" / "slurm.sh"
    said = tmp_path / "said.txt"
    words = [*COMMAND, "--dataset", crop_folder, "--output-dir", str(tmp_path / "run")]
    process = subprocess.Popen(
        ["bash", str(script), *words], stdout=said.open("w"), stderr=subprocess.STDOUT, env=env,
        cwd=tmp_path,
    )  # fmt: skip
    end = time.monotonic() + 120
    while "patches/s" not in said.read_text():
        assert time.monotonic() < end, said.read_text()[-3000:]
        time.sleep(0.2)
    time.sleep(2)
    os.kill(int((tmp_path / "torchrun.pid").read_text()), signal.SIGUSR1)
    assert process.wait(90) != 0
    assert "stopped by SIGUSR1; the checkpoint after step" in said.read_text()
    assert asked.read_text().splitlines()[-1] == f"requeue {os.getpid()}"
