"""The script that provokes faults runs, and says what it saw."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def faults(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    return importlib.import_module("faults")


def test_every_fault_has_a_name_of_its_own(faults):
    names = [(case.group, case.name) for case in faults.cases()]
    assert len(names) == len(set(names)) > 50


@pytest.mark.slow
def test_a_fault_becomes_a_row(faults, server):
    case = next(c for c in faults.cases() if c.name == "a stray file step-99999999")
    cache = str(server.folder / "cache")
    scene = faults.Scene(server, server.folder / "whole", how={"cache": cache})
    scene.start()
    assert scene.code == 0, scene.said
    row = faults.play(case, server, 0)
    assert row == {
        "group": "newest checkpoint", "fault": "a stray file step-99999999", "code": 0,
        "said": "nothing", "disk": "whole export; checkpoints: step 2, step 4, step 6",
        "traceback": False, "next": "was finished, the same weights as uninterrupted", "wrong": "",
    }  # fmt: skip
    assert "| newest checkpoint | a stray file step-99999999 | nothing | 0 | whole" in faults.table(
        {"rows": [row], "command": "x", "packages": "y"}
    )
