"""Every example runs."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from patchit_hf.pretrain.command import main

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.e2e
def test_contact_sheet(tmp_path):
    out = tmp_path / "sheet.png"
    subprocess.run(
        [sys.executable, str(EXAMPLES / "contact_sheet.py"), "--output", str(out),
         "--rows", "1", "--cols", "3", "--skeleton"],
        check=True,
    )  # fmt: skip
    assert Image.open(out).size == (308, 200)


@pytest.mark.e2e
def test_the_papers_setting_runs(tmp_path, crop_folder, capsys):
    code = main(
        ["--config", str(EXAMPLES / "paper.yaml"), "--dataset", crop_folder, "--max-steps", "1",
         "--batch-size", "2", "--output-dir", str(tmp_path / "run"), "--max-eval-crops", "1",
         "--no-figures", "--no-audit"]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
