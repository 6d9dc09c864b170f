"""What other programs have of the machine."""

import subprocess
import sys
import time

import pytest

from patchit_hf.common import other_programs
from patchit_hf.common.other_programs import OtherPrograms, advice

BUSY = "import time\nend = time.time() + 20\nwhile time.time() < end: pass"


@pytest.mark.parametrize(
    ("used", "cores", "threads", "wanted"),
    [
        (0.0, 2, 2, None),
        (0.4, 2, 2, None),
        (0.9, 2, 2, "OMP_NUM_THREADS=1"),
        (2.0, 2, 2, "OMP_NUM_THREADS=1"),
        (2.0, 2, 1, None),
        (3.0, 16, 16, None),
        (6.0, 16, 16, "OMP_NUM_THREADS=10"),
        (6.0, 16, 8, None),
        (1.0, 1, 1, None),
    ],
)
def test_fewer_threads_are_advised_where_others_have_the_cores(used, cores, threads, wanted):
    line = advice(used, cores, threads)
    assert line is None if wanted is None else f"({wanted})" in line


def test_this_process_and_its_children_are_no_other_programs(monkeypatch):
    class Times:
        user, nice, system = 0.0, 0.0, 0.0

    monkeypatch.setattr(other_programs.psutil, "cpu_times", lambda: Times)
    Times.user = time.process_time()
    child = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        before, own = other_programs.used_by_others(), time.process_time()
        time.sleep(1)
        spent = before - other_programs.used_by_others() - (time.process_time() - own)
    finally:
        child.kill()
        child.wait()
    assert spent > 0.02  # of the child, which is taken off
    watch = OtherPrograms()
    Times.user += 10
    time.sleep(0.05)
    assert watch.cores() > 1
