"""Freed memory stays with the process while a computation asks for it, and only then."""

import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from patchit_hf import FinetunedModel, build_model, create_task
from patchit_hf.common import freed_memory
from patchit_hf.common.freed_memory import freed_memory_kept

HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MANY = 5 * 2**26 // resource.getpagesize()  # pages of five blocks of 64 MB, cleared once each
glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or freed_memory._glibc() is None,
    reason="another allocator, or the user's own settings",
)

BLOCKS = """
import resource
from patchit_hf.common.freed_memory import freed_memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        b"1" * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
with freed_memory_kept():
    faults()
    with freed_memory_kept():  # as an evaluation in a training
        pass
    print(faults())
print(faults())
"""


@glibc
@pytest.mark.skipif(HUGE.exists() and "[always]" in HUGE.read_text(), reason="huge pages are on")
def test_blocks_are_used_again_and_given_back_afterwards():
    """In a process of its own: one with a large hole in its memory fills that one instead."""
    run = subprocess.run([sys.executable, "-c", BLOCKS], capture_output=True, text=True, check=True)
    before, within, after = map(int, run.stdout.split())
    assert before > MANY / 2
    assert within < 100
    assert after > MANY / 2


@glibc
def test_the_last_of_several_threads_gives_it_back(monkeypatch):
    said = []
    library = type("L", (), {"mallopt": lambda _, *given: said.append(given),
                             "malloc_trim": lambda _, pad: said.append("trim")})()  # fmt: skip
    monkeypatch.setattr(freed_memory, "_glibc", lambda: library)
    meet = threading.Barrier(4)

    def work():
        with freed_memory_kept():
            meet.wait(10)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(ZeroDivisionError), freed_memory_kept():
        _ = 1 / 0
    once = [(-4, 0), (-1, 2**31 - 1), (-4, 65536), (-3, 2**25), (-1, 2**26), "trim"]
    assert said == once * 2


@pytest.mark.parametrize(
    "variables",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=1"},
        {"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"},
    ],
)
def test_the_users_choice_stays(variables, monkeypatch):
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert freed_memory._glibc() is None
    with freed_memory_kept():
        assert freed_memory._within == 0


@glibc
@pytest.mark.parametrize("way", ["embed", "predict"])
def test_networks_that_only_answer_use_it(way, monkeypatch):
    seen = []
    monkeypatch.setattr(freed_memory, "_count", lambda _, step: seen.append(step))
    images = torch.zeros(2, 3, 200, 100, dtype=torch.uint8)
    if way == "embed":
        build_model("test_resnet", create_task("position"), 0).embed(images)
        assert seen == [1, 1, -1, -1]
    else:
        with pytest.raises(Exception, match="task"):
            FinetunedModel(torch.nn.Identity(), None).predict(images)
        assert seen == [1, -1]
