"""Signals: the step that runs is finished, a checkpoint is written, and one line says so."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from patchit_hf import FinetuneTrainer, PatchTaskTrainer
from patchit_hf.common.interrupts import Stopped, StopRequest, stoppable
from patchit_hf.finetune import main as finetune
from patchit_hf.pretrain import main
from tests import own_process

SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT]


@pytest.fixture(autouse=True)
def _heard():
    """Shells start what runs in their background with Ctrl-C ignored."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_raised_with_its_exit_code(number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped, stoppable():
        signal.raise_signal(number)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) == before


def test_a_request_is_noted_and_a_second_interrupt_stops_at_once():
    with StopRequest() as request:
        assert request.number is None
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        assert request.number == signal.SIGTERM
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)


def test_what_is_ignored_stays_ignored():
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, old)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_fork_gets_the_handlers_from_before(number):
    """At once: a worker of a pool that waits for a lock would never run one of Python's."""
    before = signal.getsignal(number)
    with stoppable(), StopRequest():
        child = os.fork()
        if child == 0:
            os._exit(0 if signal.getsignal(number) == before else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert signal.getsignal(number) != before


def test_a_pool_ends_while_signals_are_handled():
    with stoppable():
        for _ in range(10):
            with multiprocessing.get_context("fork").Pool(2) as pool:
                assert pool.map(abs, [-1, -2]) == [1, 2]


@contextlib.contextmanager
def _stopped(trainer, step, number):
    """Give this process a signal while a trainer's step runs."""
    after_step = trainer._after_step

    def signalled(self, index, means):
        if index + 1 == step:
            signal.raise_signal(number)
        return after_step(self, index, means)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_after_step", signalled)
        yield


def _pretraining(folder, out, steps):
    return [
        "--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "16",
        "--max-steps", str(steps), "--task-kwargs", "rows=3", "cols=2", "patch_size=8",
        "--no-figures", "--no-audit", "--eval-every", "0", "--log-every", "1",
        "--dataset", folder, "--output-dir", str(out),
    ]  # fmt: skip


def _last_line(said):
    return [line for line in said.replace("\r", "\n").splitlines() if line.strip()][-1]


@pytest.mark.e2e
@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGHUP, marks=pytest.mark.slow), signal.SIGINT],
    ids=lambda n: n.name,
)
def test_a_pretraining_writes_a_checkpoint_and_says_so(tmp_path, crop_folder, number):
    """The command in a process of its own, at any instant after its first steps."""
    out = tmp_path / "run"
    words = _pretraining(crop_folder, out, 100_000)
    log = tmp_path / "said.txt"
    log.touch()
    process = own_process.start(["-m", "patchit_hf.pretrain", *words], stderr=log)
    deadline = time.monotonic() + 120
    while "gradient reached" not in log.read_text() and time.monotonic() < deadline:
        assert process.exitcode is None, log.read_text()
        time.sleep(0.05)
    os.kill(process.pid, number)
    process.join(120)
    said = log.read_text()
    assert process.exitcode == 128 + number, said
    (checkpoint,) = (out / "checkpoints").glob("step-*")
    step = json.loads((checkpoint / "state.json").read_text())["step"]
    assert _last_line(said) == (
        f"stopped by {number.name}; the checkpoint after step {step} is written; the same command "
        "continues there"
    )
    assert "Traceback" not in said


@pytest.mark.e2e
def test_a_stopped_run_ends_as_the_uninterrupted_one(tmp_path, crop_folder, capsys):
    """Also what it measured on the way."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(_pretraining(crop_folder, whole, 16)) == 0
    with _stopped(PatchTaskTrainer, 11, signal.SIGTERM):
        assert main(_pretraining(crop_folder, broken, 16)) == 143
    assert _last_line(capsys.readouterr().err) == (
        "stopped by SIGTERM; the checkpoint after step 11 is written; the same command continues "
        "there"
    )
    assert [p.name for p in (broken / "checkpoints").glob("step-*")] == ["step-00000011"]
    assert main(_pretraining(crop_folder, broken, 16)) == 0
    ends = [load_file(run / "model.safetensors") for run in (whole, broken)]
    assert all((ends[0][name] == ends[1][name]).all() for name in ends[0])
    lines = [json.loads((run / "metrics.jsonl").read_text()) for run in (whole, broken)]
    assert lines[0]["train_loss"] == lines[1]["train_loss"]


@pytest.mark.e2e
def test_a_finetuning_does_the_same(tmp_path, labelled_people, capsys):
    out = tmp_path / "run"
    words = [
        "--task", "attributes", "--init", "random", "--backbone", "test_resnet", "--input-size",
        "48x24", "--dataset", labelled_people, "--split", "train", "--max-steps", "100",
        "--eval-every", "0", "--save-every", "50", "--output-dir", str(out),
    ]  # fmt: skip
    with _stopped(FinetuneTrainer, 3, signal.SIGUSR1):
        code = finetune(words)
    assert code == 128 + signal.SIGUSR1
    said = capsys.readouterr().err
    assert "stopped by SIGUSR1; the checkpoint after step 3 is written" in said
    assert [p.name for p in (out / "checkpoints").glob("step-*")] == ["step-00000003"]


@pytest.mark.e2e
def test_before_the_first_step_there_is_a_line_too():
    code = (
        "import sys, time\n"
        "from patchit_hf.common.console import guarded\n"
        "def run(argv):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "    return 0\n"
        "sys.exit(guarded(run, None, 'the same command starts again'))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 129
    assert said == "stopped by SIGHUP; the same command starts again\n"
