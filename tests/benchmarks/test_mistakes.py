"""The usual mistakes get one clear line."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "mistakes.py"

pytestmark = pytest.mark.slow


def test_usual_mistakes_are_answered_clearly():
    spec = importlib.util.spec_from_file_location("mistakes", FILE)
    mistakes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mistakes)
    found = mistakes.answers()
    assert len(found) == 52
    assert [answer for answer in found if not answer.clear] == []
