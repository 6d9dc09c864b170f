"""Two commands that would write into one folder: the second is told who does so already."""

import gc
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from patchit_hf.common.errors import InputError
from patchit_hf.common.lock import LOCK, FolderLock, check_free
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.detections import read_detections
from patchit_hf.crops.make import make_crops
from patchit_hf.training.run_folder import RunFolder
from tests.crops.test_crops import as_text, make_scenes

HOLD = """
import sys, time
from pathlib import Path
from patchit_hf.common.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), "x")
print("held", flush=True)
time.sleep(120)
"""


@pytest.fixture
def other():
    """A function: start a process that runs some code, and wait until it says something."""
    started = []

    def start(code, *argv):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, argv)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline().strip() == "held"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.e2e
def test_another_process_is_named(tmp_path, other):
    process = other(HOLD, tmp_path)
    line = rf"--output-dir 'x': is being written by process {process.pid} on .*, since 20.*; wait"
    for take in (check_free, FolderLock):
        with pytest.raises(InputError, match=line) as error:
            take(tmp_path, "--output-dir 'x'")
        assert "\n" not in str(error.value)
    assert json.loads((tmp_path / LOCK).read_text())["process"] == process.pid


def test_a_killed_process_blocks_nobody(tmp_path, other):
    process = other(HOLD, tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (tmp_path / LOCK).exists()  # it could not take it away
    check_free(tmp_path, "x")
    lock = FolderLock(tmp_path, "x")
    assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_children_of_a_killed_process_block_nobody(tmp_path, other):
    forks = HOLD.replace(
        "print(", "import os\nif os.fork() == 0: time.sleep(5); os._exit(0)\nprint("
    )
    process = other(forks, tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    FolderLock(tmp_path, "x").release()


@pytest.mark.e2e
def test_one_process_may_hold_a_folder_twice(tmp_path, other):
    first, second = FolderLock(tmp_path, "x"), FolderLock(tmp_path, "x")
    first.release()
    code = "from patchit_hf.common.lock import FolderLock as Lock; from pathlib import Path; "
    code += "Lock(Path({!r}), 'x')"
    again = [sys.executable, "-c", code.format(str(tmp_path))]
    done = subprocess.run(again, capture_output=True, text=True, check=False)
    assert f"is being written by process {os.getpid()}" in done.stderr
    del second
    gc.collect()
    subprocess.run(again, check=True)


@pytest.mark.e2e
def test_a_run_that_is_being_written_is_refused(tmp_path, other):
    code = HOLD.replace(
        "from patchit_hf.common.lock import FolderLock",
        "from patchit_hf.training.run_folder import *",
    )
    code = code.replace(
        'lock = FolderLock(Path(sys.argv[1]), "x")',
        'run = RunFolder(sys.argv[1], {"a": 1}); run.start()',
    )
    early = RunFolder(tmp_path / "run", {"a": 1})  # before the other one has begun
    process = other(code, tmp_path / "run")
    line = f"--output-dir .*run': is being written by process {process.pid}"
    with pytest.raises(InputError, match=line):
        RunFolder(tmp_path / "run", {"a": 1})
    with pytest.raises(InputError, match=line):
        early.start()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    RunFolder(tmp_path / "run", {"a": 1}).start()


def test_a_run_that_another_has_made_meanwhile_is_refused(tmp_path):
    early = RunFolder(tmp_path / "run", {"a": 1})
    RunFolder(tmp_path / "run", {"a": 2}).start()
    with pytest.raises(InputError, match=r"holds another run; these differ: a \(2 there, 1 here\)"):
        early.start()


@pytest.mark.e2e
def test_crops_that_are_being_cut_are_refused(tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    boxes = as_text(make_scenes(images, 60), tmp_path / "b.txt")
    command = [
        sys.executable, "-m", "patchit_hf.crops", "--detections", boxes, "--images", images,
        "--output", out, "--workers", 2, "--shard-size", 10,
    ]  # fmt: skip
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL)
    try:
        while not (out / ".work" / LOCK).exists() or not (out / ".work" / LOCK).stat().st_size:
            assert process.poll() is None, "it ended before it could be disturbed"
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGSTOP)
        found = read_detections(boxes)
        with pytest.raises(
            InputError, match=f"--output .*out': is being written by process {process.pid}"
        ):
            make_crops(found, images, out, CropOptions(preset="all", shard_size=10))
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert (
        make_crops(found, images, out, CropOptions(preset="all", shard_size=10))["boxes"]["kept"]
        == 180
    )
    assert not (out / ".work").exists()
