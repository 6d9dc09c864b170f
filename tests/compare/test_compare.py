"""The comparison: the same budget for all, finished cells kept, one honest table."""

import json
import shutil

import numpy as np
import pytest
import torch

from patchit_hf.common import cli
from patchit_hf.common.errors import InputError
from patchit_hf.compare import compare
from patchit_hf.compare.arguments import CompareArguments
from patchit_hf.compare.cells import Cell, at_the_edge
from patchit_hf.compare.command import DESCRIPTION, main
from patchit_hf.compare.plan import make_plan, named
from patchit_hf.compare.rows import difference_interval
from patchit_hf.compare.table import table
from patchit_hf.figures.label_efficiency import label_efficiency
from patchit_hf.finetune.arguments import FinetuningArguments
from tests.conftest import some_people, write_people

BOTH = ["--init", "random", "--init", "a=random"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rows = {"train": range(120), "validation": range(120, 160), "test": range(160, 220)}
    return write_people(tmp_path_factory.mktemp("people"), **rows)


def _words(folder, out):
    return [
        "--task", "action", "--dataset", folder, "--backbone", "test_resnet", "--init", "random",
        "--init", "again=random", "--fractions", "0.5", "1", "--seeds", "2", "--learning-rates",
        "1e-3", "3e-3", "--input-size", "48x24", "--max-steps", "2", "--batch-size", "16",
        "--eval-every", "0", "--save-every", "0", "--bootstrap", "20", "--output-dir", str(out),
        "--reference", "again",
    ]  # fmt: skip


@pytest.mark.e2e
def test_a_comparison_and_the_same_again(folder, tmp_path, capsys):
    out = tmp_path / "compare"
    assert main(_words(folder, out)) == 0
    result = json.loads((out / "compare.json").read_text())
    assert [(r["contender"], r["fraction"], r["labels"]) for r in result["rows"]] == [
        ("random", 0.5, 60), ("again", 0.5, 60), ("random", 1.0, 120), ("again", 1.0, 120),
    ]  # fmt: skip
    # Both contenders are the same weights, so budget, order and augmentation are shown to be, too.
    for first, second in zip(result["rows"][::2], result["rows"][1::2], strict=True):
        assert first["values"] == second["values"]
        assert second["difference"] == 0
        assert second["interval"][0] <= 0 <= second["interval"][1]
    assert len(result["trials"]) == 4
    assert (out / "label_efficiency.png").stat().st_size > 10_000
    text = (out / "compare.md").read_text()
    assert text == capsys.readouterr().out
    assert "| 60 | random |" in text
    in_python = compare(
        {"random": "random", "again": "random"}, folder, task="action", backbone="test_resnet",
        fractions=[0.5, 1], seeds=2, learning_rates=[1e-3, 3e-3], input_size=(48, 24),
        bootstrap=20, reference="again",
        args=FinetuningArguments(
            max_steps=2, train_batch_size=16, eval_steps=0, save_steps=0, output_dir=str(out)
        ),
    )  # fmt: skip
    assert json.loads(json.dumps(in_python.as_json())) == {
        k: v for k, v in result.items() if k not in ("command", "versions")
    }
    assert in_python.table() == text
    saved = in_python.save(tmp_path / "saved")
    assert [file.name for file in saved] == ["compare.json", "compare.md", "label_efficiency.png"]
    again = json.loads(saved[0].read_text())
    assert again == {k: v for k, v in result.items() if k != "command"}
    files = {p: p.stat().st_mtime_ns for p in out.rglob("model.safetensors")}
    assert len(files) == 2 * (2 + 2 + 1)  # two rates and a second seed at 1, two seeds at 0.5

    shutil.rmtree(next(p for p in files if "fraction-0.5" in str(p)).parent)
    assert main(_words(folder, out)) == 0
    again = json.loads((out / "compare.json").read_text())
    assert [r["values"] for r in again["rows"]] == [r["values"] for r in result["rows"]]
    same = [p for p, time in files.items() if p.stat().st_mtime_ns == time]
    assert len(same) == len(files) - 1


def test_all_contenders_have_inputs_of_one_size(export, folder, tmp_path, capsys):
    """That of the export among them; and differences are to the first, where none is random."""
    args = FinetuningArguments(
        max_steps=1, train_batch_size=16, eval_steps=0, save_steps=0, output_dir=str(tmp_path / "x")
    )
    options = {"task": "action", "learning_rates": [1e-3], "bootstrap": 10, "args": args}
    made_for = json.loads((export / "config.json").read_text())["pretrained_cfg"]["input_size"][1:]
    contenders = {"plain": "random", "mine": str(export)}
    for seeds in (1, 2):  # once more, with cells that are finished
        result = compare(contenders, folder, backbone="test_resnet", seeds=seeds, **options)
        records = [json.loads(file.read_text()) for file in (tmp_path / "x").rglob("patchit.json")]
        assert [r["downstream"]["size"] for r in records] == [made_for] * 2 * seeds
    assert result.against == "plain"
    assert ["difference" in row for row in result.rows] == [False, True]
    assert "against plain (95 %)" in result.table()
    height, width = made_for
    assert f"inputs of {height}x{width} for all" in capsys.readouterr().err
    result = compare(contenders, folder, backbone="test_resnet", against="mine", **options)
    assert ["difference" in row for row in result.rows] == [True, False]

    other = shutil.copytree(export, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["pretrained_cfg"]["input_size"] = [3, 64, 64]
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"mine \d+x\d+, other 64x64\); give --input-size"):
        compare({**contenders, "other": str(other)}, folder, backbone="test_resnet", **options)


class _Tested:
    def __init__(self, values):
        self.values, self.count = torch.tensor(values), len(values)

    def statistic(self, rows):
        return {"m": float(self.values[rows].mean())}


def test_an_interval_covers_the_difference_and_shrinks_with_the_rows():
    torch.manual_seed(0)
    wide = None
    for count in (30, 3000):
        second = [_Tested(torch.rand(count).tolist()) for _ in range(3)]
        first = [_Tested((s.values + 0.2).tolist()) for s in second]
        low, high = difference_interval(first, second, "m", 200)
        assert low < 0.2 < high
        assert wide is None or high - low < wide / 3
        wide = high - low


def test_names():
    inits = ["random", "timm:a1_in1k", "x/runs/peta", "in=w.safetensors", "w.safetensors"]
    assert named(inits) == {
        "random": "random", "timm:a1_in1k": "timm:a1_in1k", "peta": "x/runs/peta",
        "in": "w.safetensors", "w": "w.safetensors",
    }  # fmt: skip
    with pytest.raises(InputError, match="two are named 'peta'"):
        named(["a/peta", "b/peta"])


def test_the_table_and_the_figure_of_one_fraction():
    row = {"labels": 10, "contender": "random", "mean": 0.5, "deviation": None, "seeds": [0],
           "figures": {"map": 0.5, "ma": 0.6}, "learning_rate": 1e-3, "fraction": 1}  # fmt: skip
    better = {**row, "contender": "mine", "mean": 0.6, "difference": 0.1, "interval": [0.05, 0.2],
              "gap_closed": 0.5}  # fmt: skip
    result = {"primary_metric": "map", "rows": [row, better], "at_the_edge": [],
              "against": "random"}  # fmt: skip
    lines = table(result).splitlines()
    assert len(lines) == 4
    assert "| mAP | against random (95 %) | gap closed | mA |" in lines[0]
    assert "+10.0 (+5.0 to +20.0)" in lines[3]
    assert "50 %" in lines[3]
    assert label_efficiency(result) is None
    assert table({**result, "at_the_edge": ["mine"]}).splitlines()[4:] == [
        "", "Best at an end of --learning-rates, so perhaps better beyond it: mine."
    ]  # fmt: skip


def test_a_draw_of_the_labels_is_of_the_cells_that_have_a_part_of_them(folder):
    words = [*BOTH, "--dataset", folder, "--fractions", "0.5", "1", "--subset-seed", "3"]
    plan = make_plan(
        *cli.parse(DESCRIPTION, words, CompareArguments, FinetuningArguments, prog="compare")
    )
    drawn = [Cell("a", fraction, 1e-3, 42).what(plan) for fraction in plan.fractions]
    assert [(what.fraction, what.subset_seed) for what in drawn] == [(0.5, 3), (None, None)]


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("random", "init 'random': must be a list of at least two"),
        (["random"], "name at least two"),
        ({"a=b": "random", "c": "random"}, "'a=b' is no name"),
    ],
)
def test_contenders_that_cannot_be(init, message, folder, tmp_path):
    args = FinetuningArguments(output_dir=str(tmp_path / "x"))
    with pytest.raises(InputError, match=message):
        compare(init, folder, backbone="test_resnet", args=args)


def test_which_learning_rates_are_at_an_end_of_the_grid():
    chosen = {"a": 1e-3, "b": 3e-3, "c": 3e-4}
    assert at_the_edge(chosen, [1e-3, 3e-4, 3e-3]) == ["b", "c"]
    assert at_the_edge(chosen, [1e-3]) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--init", "random"], "name at least two"),
        ([*BOTH, "--seeds", "0"], "--seeds 0"),
        ([*BOTH, "--fractions", "2"], "--fractions 2.0"),
        ([*BOTH, "--subset-seed", "-1", "--fractions", "0.5"], "--subset-seed -1"),
        ([*BOTH, "--subset-seed", "1"], "--subset-seed 1: needs --fraction or --shots"),
        ([*BOTH, "--reference", "b"], "--reference 'b'"),
        ([*BOTH, "--against", "b"], "--against 'b': must be one of random, a"),
        ([*BOTH, "--learning-rates", "0"], "--learning-rates"),
        ([*BOTH, "--test-split", "nose"], "--split 'nose'"),
    ],
)
def test_bad_input_is_one_line(words, message, folder, capsys, tmp_path):
    assert main([*words, "--dataset", folder, "--output-dir", str(tmp_path / "x")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--init", "gone.safetensors"], "--init 'gone.safetensors': no such file"),
        (["--init", "a=random", "--test-dataset", "EMPTY"], "(test split): column 'action'"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_trained(
    words, message, folder, capsys, tmp_path
):
    people = some_people().select(range(20)).remove_columns("action")
    people.to_parquet(str(tmp_path / "bare" / "test-00000-of-00001.parquet"))
    words = [str(tmp_path / "bare") if word == "EMPTY" else word for word in words]
    out = tmp_path / "compare"
    short = ["--dataset", folder, "--backbone", "test_resnet", "--input-size", "48x24"]
    assert main(["--task", "action", "--init", "random", *words, *short,
                 "--output-dir", str(out)]) == 2  # fmt: skip
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.e2e
def test_a_test_split_without_any_match_keeps_what_was_trained(folder, capsys, tmp_path):
    people = some_people()
    _, first = np.unique(people["person_id"], return_index=True)
    people.select(first).to_parquet(str(tmp_path / "alone" / "test-00000-of-00001.parquet"))
    out = tmp_path / "compare"
    words = ["--task", "reid", "--dataset", folder, "--backbone", "test_resnet", "--init",
             "random", "--init", "again=random", "--seeds", "1", "--learning-rates", "1e-3",
             "--input-size", "48x24", "--max-steps", "1", "--batch-size", "16", "--eval-every",
             "0", "--save-every", "0", "--output-dir", str(out)]  # fmt: skip
    assert main([*words, "--test-dataset", str(tmp_path / "alone")]) == 2
    assert "random: mAP cannot be computed on the test split" in capsys.readouterr().err
    assert len(list(out.rglob("head/model.safetensors"))) == 1
    assert not (out / "compare.json").exists()
