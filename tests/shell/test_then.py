"""What a command says is next works as it is printed."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import patchit_hf
from patchit_hf.common import cli
from patchit_hf.data.source import load_crops
from patchit_hf.pretrain.command import ARGUMENTS as PRETRAIN
from patchit_hf.pretrain.command import _report
from patchit_hf.shell.main import main


def then(text):
    (line,) = [line for line in text.splitlines() if line.startswith("then: ")]
    words = shlex.split(line.removeprefix("then: "))
    assert words[0] == "patchit"
    return words[1:]


def test_crops_are_pretrained_on(tmp_path, capsys):
    rng, folder = np.random.default_rng(0), tmp_path / "two words"
    folder.mkdir()
    boxes = []
    for number in range(4):
        pixels = rng.integers(0, 255, (120, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        boxes.append(f"{number}.png 20 10 60 115")
    (tmp_path / "boxes.txt").write_text("\n".join(boxes))
    words = ["crops", "--detections", str(tmp_path / "boxes.txt"), "--images", str(folder)]
    words += ["--output", str(tmp_path / "my crops"), "--canvas", "64x32", "--workers", "0"]
    assert main([*words, "--source", "image", "--box-format", "xyxy"]) == 0
    command, *rest = then(capsys.readouterr().err)
    assert command == "pretrain"
    what, _ = cli.parse("", rest, *PRETRAIN, prog="pretrain")
    assert (what.dataset, what.canvas) == (str(tmp_path / "my crops"), "64x32")
    assert len(load_crops(what.dataset).train) == 3


@pytest.mark.e2e
@pytest.mark.parametrize("chosen", [[], ["--image-column", "image", "--allow-urls"]])
def test_a_finetuned_model_is_evaluated(chosen, labelled_people, tmp_path, capsys):
    words = ["finetune", "--task", "action", "--backbone", "test_resnet", "--input-size", "48x24"]
    words += ["--max-steps", "1", "--eval-every", "0", "--save-every", "0", "--shots", "2"]
    words += ["--dataset", labelled_people, "--split", "train", *chosen]
    assert main([*words, "--output-dir", str(tmp_path / "run")]) == 0
    command, *rest = then(capsys.readouterr().err)
    assert (command, rest) == (
        "evaluate", [str(tmp_path / "run"), "--dataset", labelled_people, *chosen],
    )  # fmt: skip
    assert main([command, *rest, "--bootstrap", "0"]) == 0
    assert "metrics.json, predictions.parquet" in capsys.readouterr().err


@pytest.mark.e2e
def test_an_export_is_finetuned(export, labelled_people, crop_folder, tmp_path, capsys):
    """What pretraining on the rendered people, and an average, say next, on fewer of them."""
    first, second = tmp_path / "the run", tmp_path / "second"
    shutil.copytree(export, first)
    shutil.copytree(export, second)
    _report(str(first), None, {})
    after_pretraining = then(capsys.readouterr().err)
    words = ["average", str(first), str(second), "--dataset", crop_folder]
    assert main([*words, "--output", str(tmp_path / "mean")]) == 0
    after_average = then(capsys.readouterr().err)
    short = ["--task", "action", "--dataset", labelled_people, "--split", "train", "--shots", "2"]
    short += ["--max-steps", "1", "--eval-every", "0", "--save-every", "0"]
    for words, folder in ((after_pretraining, first), (after_average, tmp_path / "mean")):
        assert words == ["finetune", "--init", str(folder)]
        output = tmp_path / f"{folder.name} finetuned"
        assert main([*words, *short, "--output-dir", str(output)]) == 0
        assert (output / "model.safetensors").exists()


def test_there_are_no_other_lines_of_that_kind():
    """Each place that says what is next is tried above."""
    package = Path(patchit_hf.__file__).parent
    places = [
        file.relative_to(package).as_posix()
        for file in sorted(package.rglob("*.py"))
        for _ in range(file.read_text().count(" say_then("))
    ]
    assert places == [
        "average/command.py", "common/console.py", "crops/command.py", "finetune/command.py",
        "pretrain/command.py",
    ]  # fmt: skip
