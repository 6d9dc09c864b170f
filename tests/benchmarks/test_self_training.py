"""The contender of claim.py that labels crops by its own model."""

import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from patchit_hf import InputError
from tests.conftest import write_people

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))
import self_training  # noqa: E402


def test_only_unlabelled_rows_get_answers():
    columns = {"hat": [1, 0, 1, 0], "bag": [0, 0, 1, 1], "id": [5, 6, 7, 8]}
    crops = datasets.Dataset.from_dict(columns)
    answers = {"hat": [0, 1, -1, 1], "bag": [1, 1, 0, 0]}
    found = self_training.relabelled(crops, answers, {0, 3})
    assert found["hat"][:] == [1, 1, -1, 0]
    assert found["bag"][:] == [0, 1, 0, 1]
    assert found["id"][:] == [5, 6, 7, 8]
    with pytest.raises(InputError, match="'hat=red' is one answer of several"):
        self_training.relabelled(crops, {"hat=red": [1, 1, 0, 0]}, set())


def test_an_answer_cannot_be_surer_than_sure(monkeypatch, capsys, tmp_path):
    words = ["x", "--dataset", "d", "--fraction", "0.5", "--sure", "2", "--output-dir"]
    monkeypatch.setattr(sys, "argv", [*words, str(tmp_path / "run")])
    assert self_training.main() == 2
    assert capsys.readouterr().err == "error: --sure 2: must be from 0.5 to below 1\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_it_finetunes_twice(tmp_path):
    (tmp_path / "people").mkdir()
    people = write_people(tmp_path / "people", train=range(80), validation=range(80, 100))
    out = tmp_path / "run"
    words = [
        "--task", "attributes", "--task-kwargs", "columns=[hat,backpack]", "--init", "random",
        "--backbone", "test_resnet", "--input-size", "48x24", "--dataset", people,
        "--fraction", "0.5", "--epochs", "1", "--again", "1", "--sure", "0.51",
        "--output-dir", str(out),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "benchmarks/self_training.py", *words],
        capture_output=True, text=True, cwd=FOLDER.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    labels = datasets.load_dataset(str(tmp_path / "run-labels"))
    truth = datasets.load_dataset(str(people))["train"]
    for name in ("hat", "backpack"):
        told = labels["train"][name][:]
        assert set(told) <= {-1, 0, 1}
        same = [one == other for one, other in zip(told, truth[name][:], strict=True)]
        assert len(same) // 2 <= sum(same) < len(same)  # the labelled half, and not all others
    assert (out / "patchit.json").exists()
