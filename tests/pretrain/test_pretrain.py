"""The command: what it makes, how it goes on, and one clear line for bad input."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest
import timm
import torch
import yaml

from patchit_hf.pretrain.command import main
from tests import own_process
from tests.conftest import write_people

SMALL = [
    "--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "16", "--max-steps", "6",
    "--task-kwargs", "rows=3", "cols=2", "patch_size=8", "jitter=2", "--no-figures",
    "--no-audit",
]  # fmt: skip


def _run(capsys, *argv):
    capsys.readouterr()
    code = main([str(word) for word in argv])
    return code, capsys.readouterr().err


def _lines(text):
    return [line for line in text.splitlines() if line.startswith("error:")]


@pytest.mark.e2e
def test_a_run_and_the_same_again(tmp_path, crop_folder, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [*SMALL, "--dataset", crop_folder]
    code, text = _run(capsys, *command)
    assert code == 0
    folder = Path("runs/test_resnet-position-crops")
    assert f"{folder}: held-out accuracy" in text
    names = {p.name for p in folder.iterdir()}
    assert {
        "model.safetensors", "config.json", "head", "README.md", "patchit.json",
        "metrics.jsonl", "run.json",
    } <= names  # fmt: skip
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=7).eval()
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    code, text = _run(capsys, *command)
    assert code == 0
    assert "this run is finished" in text
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.e2e
def test_another_configuration_is_refused(tmp_path, crop_folder, capsys):
    out = tmp_path / "run"
    assert _run(capsys, *SMALL, "--dataset", crop_folder, "--output-dir", out)[0] == 0
    before = sorted((p.name, p.stat().st_mtime_ns) for p in out.iterdir())
    code, text = _run(
        capsys, *SMALL, "--dataset", crop_folder, "--output-dir", out, "--seed", 1,
        "--learning-rate", "0.5",
    )  # fmt: skip
    assert code == 2
    assert "these differ: learning_rate (0.004 there, 0.5 here), seed (42 there, 1 here)" in text
    assert sorted((p.name, p.stat().st_mtime_ns) for p in out.iterdir()) == before


@pytest.mark.e2e
def test_a_config_file_runs(tmp_path, crop_folder, capsys):
    config = {
        "backbone": "test_vit", "canvas": "50x25", "max-steps": 3, "batch-size": 8,
        "task-kwargs": {"rows": 2, "cols": 1, "patch_size": 16},
        "dataset": crop_folder, "output-dir": str(tmp_path / "run"),
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert _run(capsys, "--config", tmp_path / "c.yaml")[0] == 0
    assert json.loads((tmp_path / "run" / "patchit.json").read_text())["results"]["step"] == 3


def _two_image_columns(tmp_path, crops):
    two = crops.add_column("mask", [None] * 40).cast_column("mask", datasets.Image())
    two.save_to_disk(str(tmp_path / "data"))


def _no_image_column(tmp_path, crops):
    crops.select_columns("person_id").save_to_disk(str(tmp_path / "data"))


def _one_crop(tmp_path, crops):
    crops.select([0]).save_to_disk(str(tmp_path / "data"))


def _corrupt(tmp_path, crops):
    (tmp_path / "data").mkdir()
    for i, image in enumerate(crops["image"]):
        image.save(tmp_path / "data" / f"{i:02}.png")
    (tmp_path / "data" / "07.png").write_bytes(b"\x89PNG cut")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_two_image_columns, "2 image columns; choose one with --image-column: image, mask"),
        (_no_image_column, "has no image column (columns: person_id)"),
        (_one_crop, "has 1 crop; at least 2 are needed"),
        (_corrupt, "07.png): not a readable image"),
    ],
)
def test_bad_data(tmp_path, crops, capsys, make, message):
    make(tmp_path, crops)
    out = tmp_path / "run"
    code, text = _run(capsys, *SMALL, "--dataset", tmp_path / "data", "--output-dir", out)
    assert code == 2
    assert len(_lines(text)) == 1
    assert message in _lines(text)[0]
    assert "Traceback" not in text
    assert not out.exists()


def test_a_corrupt_image_is_named_by_its_row(tmp_path, crops, capsys):
    _corrupt(tmp_path, crops)
    text = _run(capsys, *SMALL, "--dataset", tmp_path / "data", "--output-dir", tmp_path / "r")[1]
    assert "row 7 (file" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--backbone", "resnet81"], "timm has no such model; similar names: resnet18"),
        (["--backbone", "vit_small_patch16_224", "--backbone-kwargs", "depth=no"], "--backbone"),
        (["--dataset", "./none"], "--dataset './none': no such folder"),
        (["--split", "dev"], "--split 'dev': data set"),
        (["--image-column", "picture"], "--image-column 'picture': no such image column"),
        (["--task-kwargs", "patch_size=64"], "patch_size=64 is larger than the canvas 50x25"),
        (["--task-kwargs", "rows=0"], "rows=0 in --task-kwargs"),
        (["--task-kwargs", "jitter=-1"], "jitter=-1 in --task-kwargs"),
        (["--learning-rate", "nan"], "--learning-rate nan: must be a finite number"),
        (["--batch-size", "0"], "--batch-size 0: must be a whole number of at least 1"),
        (["--batch-size", "1"], "test_resnet has batch normalisation"),
        (["--task", "positon"], "did you mean position?"),
        (["--canvas", "wide"], "--canvas 'wide': must be HEIGHTxWIDTH"),
        (["--optimizer", "adamm"], "--optimizer 'adamm': timm has no such optimiser"),
        (["--report-to", "trackio"], "--report-to 'trackio': not installed"),
        (["--resume", "none"], "--resume 'none': not a checkpoint"),
        (["--streaming", "--max-steps", "-1"], "give --max-steps"),
        (["--schedule-kwargs", "gamma=1"], "--schedule-kwargs"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path, crop_folder, capsys, argv, message):
    out = tmp_path / "run"
    common = [*SMALL, "--dataset", crop_folder, "--output-dir", out, "--workers", "0"]
    code, text = _run(capsys, *common, *argv)
    assert code == 2, text
    assert len(_lines(text)) == 1
    assert message in _lines(text)[0]
    assert "Traceback" not in text
    assert not out.exists()


def test_a_folder_with_other_things_is_refused(tmp_path, crop_folder, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("...")
    code, text = _run(capsys, *SMALL, "--dataset", crop_folder, "--output-dir", tmp_path / "thesis")
    assert code == 2
    assert "has files, but not of a run" in text
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]


def test_a_backbone_that_cannot_see_the_patch_is_told_what_it_could(tmp_path, crop_folder, capsys):
    code, text = _run(
        capsys, *SMALL, "--backbone", "vit_tiny_patch16_224", "--dataset", crop_folder,
        "--output-dir", tmp_path / "run",
    )  # fmt: skip
    assert code == 2
    assert "cannot process inputs of 8x8 px" in text
    assert "input_scale=" in text


@pytest.mark.e2e
def test_module_and_exit_code(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "patchit_hf.pretrain", "--batch-size", "0"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: --batch-size 0: must be a whole number of at least 1 " \
        "(train_batch_size)\n"  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.e2e
def test_the_command_killed_after_a_checkpoint_ends_as_if_it_had_not_been(tmp_path, caplog):
    """SIGKILL at whatever moment comes after the second checkpoint, then the same words again."""
    (tmp_path / "people").mkdir()
    folder = write_people(tmp_path / "people", train=range(120), validation=range(120, 150))
    words = [
        "--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "32", "--max-steps", "40",
        "--save-every", "3", "--eval-every", "20",
        "--task-kwargs", "rows=3", "cols=2", "patch_size=8", "jitter=2", "grayscale=0.3",
        "--no-figures", "--no-audit", "--dataset", folder, "--output-dir",
    ]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*words, str(whole)]) == 0
    process = own_process.start(["-m", "patchit_hf.pretrain", *words, killed])
    try:
        while not (killed / "checkpoints" / "step-00000006").exists():
            assert process.exitcode is None, "it ended before it could be killed"
            time.sleep(0.002)
    finally:
        process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (killed / "model.safetensors").exists()
    assert main([*words, str(killed)]) == 0
    assert re.search(r"continuing after step \d+ of 40 from", caplog.text)
    for name in ("model.safetensors", "head/model.safetensors"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    steps = [
        [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (whole, killed)
    ]
    assert steps == [[20, 40]] * 2


@pytest.mark.e2e
def test_importing_the_package_is_light(tmp_path):
    code = "import sys, patchit_hf; print({'torch', 'transformers', 'timm'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "set()"
