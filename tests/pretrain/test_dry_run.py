"""--dry-run: the whole path with few crops, and what it says about the full run."""

import json

import pytest
from PIL import Image

from patchit_hf.pretrain.command import main
from tests.pretrain.test_pretrain import SMALL

pytestmark = pytest.mark.e2e


@pytest.fixture
def run(tmp_path, crop_folder, capsys):
    """A function: run the command, return its exit code and what it said."""

    def call(*argv):
        words = [*SMALL[:-1], "--dataset", crop_folder, "--output-dir", str(tmp_path / "run"),
                 "--dry-run"]  # fmt: skip
        code = main([*words, *argv])
        return code, capsys.readouterr().err

    return call


def test_it_says_what_the_full_run_takes_and_leaves_no_run(tmp_path, run):
    code, text = run("--epochs", "3", "--max-steps", "-1")
    assert code == 0
    assert "dry run: the full run would start" in text
    assert not (tmp_path / "run").exists()
    folder = tmp_path / "run-dry-run"
    assert sorted(p.name for p in folder.iterdir()) == ["dry-run.json", "patches.png"]
    summary = json.loads((folder / "dry-run.json").read_text())
    # 90 % of the ten persons of four crops train: 36 crops, 3 epochs, 16 a step.
    assert summary["train_crops"] == 36
    assert summary["steps"] == 7
    assert summary["inputs_per_second"] > 0
    assert 0 < summary["hours"] < 1
    assert 0.05 < summary["memory_gb"] < 20
    assert summary["reload_difference"] < 1e-4
    assert Image.open(folder / "patches.png").width > 300


def test_it_says_what_a_head_keeps_of_every_crop(tmp_path, crop_folder, capsys):
    code = main(
        ["--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "16", "--max-steps", "6",
         "--task", "octaves", "--task-kwargs", "window=32", "part_cells=[2,2]", "--dry-run",
         "--dataset", crop_folder, "--output-dir", str(tmp_path / "run")]
    )  # fmt: skip
    assert code == 0
    assert "; for all crops 0.1 MB more" in capsys.readouterr().err  # 36 x 128 x 4 x 4 bytes


def test_twice_and_with_a_probe(run):
    assert run()[0] == 0
    assert run()[0] == 0
    code, text = run("--probe-column", "nothing")
    assert code == 2
    assert "--probe-column 'nothing'" in text


def test_what_keeps_the_full_run_from_starting_is_said(run):
    code, text = run("--batch-size", "15", "--gradient-accumulation-steps", "4")
    assert code == 2
    assert "--batch-size 15: must be a multiple of 4" in text
