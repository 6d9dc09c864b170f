"""Every example runs."""

import importlib.util
import json
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


@pytest.mark.slow
def test_the_papers_setting_runs(tmp_path, crop_folder, capsys):
    code = main(
        ["--config", str(EXAMPLES / "paper.yaml"), "--dataset", crop_folder, "--max-steps", "1",
         "--batch-size", "2", "--output-dir", str(tmp_path / "run"), "--max-eval-crops", "1",
         "--no-figures", "--no-audit"]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err


@pytest.mark.e2e
def test_adapting_a_timm_model_in_ten_lines(tmp_path, crop_folder, capsys):
    spec = importlib.util.spec_from_file_location("adapt", EXAMPLES / "adapt_timm_model.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(
        ["--crops", crop_folder, "--backbone", "test_resnet", "--no-pretrained", "--max-steps", "1",
         "--batch-size", "8", "--output", str(tmp_path / "run")]
    )  # fmt: skip
    assert "ResNet with a new classifier of 7 classes" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "patchit.json").read_text())
    assert record["initial_weights"]["source"] == "a timm model given in Python"
