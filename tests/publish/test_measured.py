"""What weights were worth in a comparison is in their card, and in every later one."""

import json
import shutil

import pytest
from huggingface_hub import ModelCard

from patchit_hf.common.markdown import command_without_folders
from patchit_hf.compare.command import main as compare_main
from patchit_hf.publish.card import main as card_main
from tests.conftest import write_people


@pytest.fixture(scope="module")
def compared(export, tmp_path_factory):
    """A comparison of an export with random weights, by the command."""
    rows = {"train": range(60), "validation": range(60, 90), "test": range(90, 120)}
    out = tmp_path_factory.mktemp("compared")
    people = write_people(out / "people", **rows)
    words = [
        "--task", "action", "--dataset", people, "--backbone", "test_resnet", "--init", "random",
        "--init", f"mine={export}", "--seeds", "2", "--learning-rates",
        "1e-3", "--max-steps", "1", "--batch-size", "16", "--eval-every", "0", "--save-every", "0",
        "--bootstrap", "10", "--output-dir", str(out / "compare"),
    ]  # fmt: skip
    assert compare_main(words) == 0
    return out / "compare"


@pytest.fixture
def run(export, tmp_path):
    return shutil.copytree(export, tmp_path / "run")


def test_the_card_says_what_the_weights_were_worth(compared, run, tmp_path, capsys):
    before = (run / "README.md").read_text()
    assert card_main([str(run), "--compare", str(compared)]) == 0
    card = ModelCard.load(run / "README.md")
    found = json.loads((compared / "compare.json").read_text())
    rows = {(row["contender"], row["labels"]): row for row in found["rows"]}
    mine, other = rows["mine", 60], rows["random", 60]
    line = next(line for line in card.text.splitlines() if "| 60 | **these weights** |" in line)
    low, high = mine["interval"]
    assert f"| {100 * mine['mean']:.1f} ± {100 * mine['deviation']:.1f} |" in line
    interval = f"{100 * mine['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    assert f"| {interval} | 2 | 0.001 |" in line
    assert f"| 60 | random | {100 * other['mean']:.1f} ± " in card.text
    assert card.text.count("| **these weights** |") == 1
    assert command_without_folders(found["command"]) in card.text
    assert str(tmp_path) not in card.text
    assert str(compared.parent) not in card.text
    assert "how useful the weights are" in before
    assert "how useful the weights are" not in card.text
    result = card.data.eval_results[-1]
    assert result.metric_value == pytest.approx(mine["mean"], abs=1e-4)
    assert result.task_name == "action, after finetuning on 60 crops"
    again = (run / "README.md").read_bytes()
    assert card_main([str(run), "--output", str(tmp_path / "card")]) == 0  # without --compare
    assert (tmp_path / "card" / "README.md").read_bytes() == again
    assert card_main([str(run), "--compare", str(compared), str(compared)]) == 0
    assert (run / "README.md").read_bytes() == again  # each comparison once


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "compare.json").unlink(), "no comparison (no compare.json"),
        (
            lambda folder: _edit(folder, initial_weights={"random": None, "x": "0" * 16}),
            "was not of these weights; it began with random, x",
        ),
        (lambda folder: _edit(folder, rows=[{}]), "compare.json is damaged, or of an older"),
        (lambda folder: _edit(folder, rows=[]), "compare.json is damaged, or of an older"),
        (lambda folder: _edit(folder, initial_weights=None), "compare.json is damaged, or of an"),
        (lambda folder: _edit(folder, input_size=[64]), "compare.json is damaged, or of an older"),
    ],
)
def test_another_comparison_is_refused_and_nothing_changes(
    compared, run, tmp_path, capsys, change, told
):
    folder = tmp_path / "compare"
    folder.mkdir()
    shutil.copyfile(compared / "compare.json", folder / "compare.json")
    change(folder)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert card_main([str(run), "--compare", str(folder)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def _edit(folder, **changes):
    file = folder / "compare.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
