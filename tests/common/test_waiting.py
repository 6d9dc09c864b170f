import os
import subprocess
import sys

import pytest

from patchit_hf.common import waiting

SEEN = """
import os, sys
import patchit_hf, patchit_hf.pretrain
from patchit_hf.common.console import guarded
spins = lambda: os.environ.get("GOMP_SPINCOUNT")
before = spins()
guarded(lambda argv: print(before, spins(), "torch" in sys.modules) or 0, [])
"""


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, f"None {waiting.SPINS} False"),
        ({"GOMP_SPINCOUNT": "7"}, "7 7 False"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None None False"),
    ],
)
def test_commands_let_threads_spin_briefly_and_the_package_does_not(given, line):
    clean = {name: text for name, text in os.environ.items() if name not in waiting.VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", SEEN], capture_output=True, text=True, check=True,
        env={**clean, "PYTHONPATH": os.pathsep.join(sys.path), **given},
    )  # fmt: skip
    assert done.stdout.strip() == line


def test_it_is_too_late_once_torch_is_there(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setitem(sys.modules, "torch", None)
    waiting.wait_briefly()
    assert os.environ == {}
    monkeypatch.delitem(sys.modules, "torch")
    waiting.wait_briefly()
    assert os.environ == {"GOMP_SPINCOUNT": waiting.SPINS}
