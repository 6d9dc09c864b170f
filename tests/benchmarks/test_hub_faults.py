"""The script that tries what can go wrong with a push runs, and says what it saw."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("hub_faults", ROOT / "benchmarks/hub_faults.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


WELL = {"disk": "all files", "pushed": False, "hub": "the earlier export, 0 new commits"}
WELL |= {"reason": "no", "later": "the new export, 1 new commit"}
PUSHED = {**WELL, "pushed": True, "hub": "the new export, 1 new commit"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (WELL, ""),
        (PUSHED, ""),
        ({**WELL, "disk": "CHANGED"}, "files on the disk changed"),
        ({**WELL, "hub": "NEITHER, 1 new commit"}, "not pushed, but the Hub changed"),
        ({**PUSHED, "hub": WELL["hub"]}, "pushed, but not on the Hub"),
        ({**WELL, "later": "NOTHING"}, "the command does not push it later"),
        ({k: v for k, v in WELL.items() if k != "reason"}, "not one line with the folder and the"),
    ],
)
def test_what_counts_as_lost(script, row, words):
    assert script.lost(row) == words or (words and script.lost(row).startswith(words))


@pytest.mark.slow
def test_a_few_faults(tmp_path):
    out = tmp_path / "faults.json"
    subprocess.run(
        [sys.executable, "benchmarks/hub_faults.py", "--only", "LFS verify", "--output", str(out)],
        cwd=ROOT, check=True,
    )  # fmt: skip
    result = json.loads(out.read_text())
    assert result["lost"] == 0
    seen = {(row["fault"], row["lasts"]): row for row in result["rows"]}
    refused, passing = seen["403", "stays"], seen["503", "once"]
    assert (refused["pushed"], refused["attempts"], refused["asked"]) == (False, 1, 1)
    assert refused["said"].endswith("python -m patchit_hf.publish.hub RUN org/name")
    assert (passing["pushed"], passing["hub"]) == (True, "the new export, 1 new commit")
    table = out.with_suffix(".md").read_text()
    assert "| 403 | LFS verify | stays | the token has no right to do that (403" in table
    assert "Lost: nothing, in any of them." in table
