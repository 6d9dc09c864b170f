"""The sweep over timm's architectures runs, and writes what it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_sweep_of_one_module(tmp_path):
    out = tmp_path / "sweep.json"
    subprocess.run(
        [sys.executable, "benchmarks/timm_sweep.py", "--modules", "convit", "--output", str(out)],
        cwd=ROOT, check=True,
    )  # fmt: skip
    result = json.loads(out.read_text())
    (row,) = result["rows"]
    assert (row["model"], row["works"], result["percent"]) == ("convit_tiny", True, 100.0)
    assert {row[way] for way in ("timm", "transformers", "num_classes")} == {"equal"}
    table = out.with_suffix(".md").read_text()
    assert "1 of 1 modules work (100.0 %)" in table
    assert "| convit | convit_tiny | 5.5 | 32x32 | equal | equal | equal |" in table
