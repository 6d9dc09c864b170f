"""Runs on crops with bad images among them: what they say, and that they stay exact."""

import json

import datasets
import pytest
import torch

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.pretrain.command import main
from tests.conftest import train_and_kill
from tests.data.spoilt import bad_files, spoilt_crops, spoilt_folder

TASK = ["--task-kwargs", "rows=3", "cols=2", "patch_size=8", "jitter=2"]
COMMON = [
    "--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "16", "--max-steps", "6",
    "--workers", "0", "--no-figures", "--no-audit", "--eval-every", "0", *TASK,
]  # fmt: skip
BAD = bad_files()


def _run(capsys, *argv):
    capsys.readouterr()
    code = main([str(word) for word in argv])
    return code, capsys.readouterr().err


def _manifest(folder):
    return [json.loads(line) for line in (folder / "bad_images.jsonl").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path):
    """Training crops with bad ones among them, and held-out crops with two more."""
    spoilt_folder(tmp_path / "crops")
    two = {name: BAD[name] for name in ("empty.jpg", "dot.png")}
    spoilt_crops(two, good=12).to_parquet(str(tmp_path / "crops" / "validation.parquet"))
    return tmp_path / "crops"


def test_a_run_stops_with_one_line_and_leaves_nothing(tmp_path, folder, capsys):
    code, text = _run(
        capsys, *COMMON, "--dataset", folder, "--output-dir", tmp_path / "run"
    )  # fmt: skip
    assert code == 2
    (line,) = [line for line in text.splitlines() if line.startswith("error:")]
    assert "(train), row 3 (file truncated.jpg): not a readable image: image file is tr" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("policy", ["skip", "replace"])
@pytest.mark.parametrize("way", ["cached", "lazy", "streamed"])
def test_a_run_goes_on_and_lists_them(tmp_path, folder, capsys, way, policy):
    more = {"cached": [], "lazy": ["--crop-cache-gb", "0"], "streamed": ["--streaming"]}[way]
    run = tmp_path / "run"
    code, text = _run(
        capsys, *COMMON, *more, "--dataset", folder, "--output-dir", run,
        "--on-bad-image", policy,
    )  # fmt: skip
    assert code == 0, text
    data = json.loads((run / "patchit.json").read_text())["data"]
    assert (data["on_bad_image"], data["bad_images"]) == (policy, len(BAD) + 2)
    assert f"| bad images | {len(BAD) + 2}, " in (run / "README.md").read_text()
    if way != "streamed":
        assert data["train_crops"] == 40 + (policy == "replace") * len(BAD)
    assert data["eval_crops"] == 12
    entries = _manifest(run)
    assert {e["file"] for e in entries if e["part"] == "train"} == set(BAD)
    assert {e["file"] for e in entries if e["part"] == "held_out"} == {"empty.jpg", "dot.png"}
    for entry in entries:
        assert BAD[entry["file"]][1] in entry["reason"]
        assert entry["became"]
        if way != "streamed":
            assert entry["row"] == 3 + 4 * list(BAD).index(entry["file"]) or (
                entry["part"] == "held_out"
            )


def test_a_run_without_bad_images_says_so(tmp_path, crop_folder, capsys):
    run = tmp_path / "run"
    assert _run(capsys, *COMMON, "--dataset", crop_folder, "--output-dir", run)[0] == 0
    data = json.loads((run / "patchit.json").read_text())["data"]
    assert (data["on_bad_image"], data["bad_images"]) == ("raise", 0)
    assert not (run / "bad_images.jsonl").exists()


def _trainer(folder, data, policy, way):
    args = TrainingArguments(
        output_dir=str(folder), max_steps=9, train_batch_size=16, save_steps=4, eval_steps=0,
        figures=False, audit=False, dataloader_num_workers=0, on_bad_image=policy,
        crop_cache_gb=8 if way == "cached" else 0,
    )  # fmt: skip
    crops = datasets.load_dataset(data, split="train", streaming=way == "streamed")
    task = create_task("position", (50, 25), rows=3, cols=2, patch_size=8, jitter=2)
    return PatchTaskTrainer("test_resnet", args, task, crops)


@pytest.mark.e2e
@pytest.mark.parametrize("policy", ["skip", "replace"])
@pytest.mark.parametrize("way", ["cached", "lazy", "streamed"])
def test_a_killed_run_ends_as_the_uninterrupted_one(tmp_path, way, policy):
    data = spoilt_folder(tmp_path / "crops")
    whole = _trainer(tmp_path / "whole", data, policy, way)
    whole.train()
    killed = _trainer(tmp_path / "killed", data, policy, way)
    train_and_kill(killed, 5)
    resumed = _trainer(tmp_path / "killed", data, policy, way)
    resumed.train()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key

    def named(run):
        return [(e["file"], e["became"]) for e in _manifest(run)]

    assert named(tmp_path / "killed") == named(tmp_path / "whole")
