"""The task of CONTRIBUTING.md: one file, and everything works with it."""

import json
import re
from pathlib import Path

import pytest
import torch

from patchit_hf import patch_tasks
from patchit_hf.common.draws import Draws
from patchit_hf.pretrain.command import main

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def rotation(tmp_path, monkeypatch):
    """The example, saved as one more file of the room."""
    source = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL).group(1)
    assert len(source.splitlines()) < 60
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "rotation.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(patch_tasks, "__path__", [*patch_tasks.__path__, str(tmp_path / "tasks")])
    return patch_tasks.create_task("rotation", (50, 25), rows=3, cols=2, patch_size=8, jitter=2)


def test_the_labels_of_the_example(rotation):
    crops = torch.randint(0, 256, (9, 3, 50, 25), dtype=torch.uint8)
    rotation = rotation.with_statistics((0.0,) * 3, (1.0,) * 3)
    batch = rotation.sample(crops, Draws(0, torch.arange(9)))
    for crop, picture, turns in zip(crops, batch.inputs * 255, batch.targets, strict=True):
        back = picture.round().to(torch.uint8).rot90(-int(turns), (-2, -1))
        windows = crop.unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4)
        assert (windows == back).flatten(2).all(2).any()
    assert "rotation" in patch_tasks.list_tasks()


@pytest.mark.e2e
def test_the_example_trains(rotation, tmp_path, crop_folder, capsys):
    code = main(
        ["--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "16", "--max-steps",
         "6", "--task", "rotation", "--task-kwargs", "rows=3", "cols=2", "patch_size=8",
         "--dataset", crop_folder, "--output-dir", str(tmp_path / "run")]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    record = json.loads((tmp_path / "run" / "patchit.json").read_text())
    assert record["task"]["name"] == "rotation"
    assert record["task"]["num_classes"] == 4
    assert "patches.png" in record["figures"]
