"""The built wheel holds what it needs and works outside the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import own_process

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[1]


def test_the_wheel_works_outside_the_checkout(tmp_path, crop_folder):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "patchit_hf/py.typed" in names
    assert "patchit_hf/publish/card.md.jinja" in names
    assert not [n for n in names if n.startswith(("tests/", "examples/", "benchmarks/"))]
    done = own_process.run(
        ["-m", "patchit_hf.pretrain", "--backbone", "test_resnet",
         "--canvas", "50x25", "--task-kwargs", "rows=3", "cols=2", "patch_size=8",
         "--max-steps", "2", "--batch-size", "8", "--dataset", crop_folder],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HF_HOME": str(tmp_path / "hf")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "test_resnet-position-crops" / "README.md").exists()
