"""What a command says is next works as it is printed."""

import shlex

import numpy as np
from PIL import Image

from patchit_hf.common import cli
from patchit_hf.data.source import load_crops
from patchit_hf.pretrain.command import ARGUMENTS as PRETRAIN
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


def test_a_finetuned_model_is_evaluated(labelled_people, tmp_path, capsys):
    words = ["finetune", "--task", "action", "--backbone", "test_resnet", "--input-size", "48x24"]
    words += ["--max-steps", "1", "--eval-every", "0", "--save-every", "0", "--shots", "2"]
    words += ["--dataset", labelled_people, "--split", "train"]
    assert main([*words, "--output-dir", str(tmp_path / "run")]) == 0
    command, *rest = then(capsys.readouterr().err)
    assert (command, rest) == ("evaluate", [str(tmp_path / "run"), "--dataset", labelled_people])
    assert main([command, *rest, "--bootstrap", "0"]) == 0
    assert "metrics.json, predictions.parquet" in capsys.readouterr().err
