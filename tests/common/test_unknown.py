"""What is said about words that no command expects."""

import pytest

from patchit_hf.common import cli
from patchit_hf.common.errors import InputError, did_you_mean_file
from patchit_hf.pretrain.arguments import PretrainArguments, TrainingArguments


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--learning_rte", "1"], "--learning-rte: no such flag; did you mean --learning-rate?"),
        (["--lr", "1"], "--lr: no such flag; did you mean --learning-rate?"),
        (["--model", "x"], "--model: no such flag; did you mean --backbone?"),
        (["--num_train_epochs", "1"], "--num-train-epochs: no such flag; did you mean --epochs?"),
        (["-dataset", "x"], "-dataset: no such flag; did you mean --dataset?"),
        (["\u2014dataset", "x"], "\u2014dataset: no such flag; did you mean --dataset?"),
        (["--zzz"], "--zzz: no such flag; see p --help"),
        (["seed=3"], "'seed=3': flags begin with two dashes; did you mean --seed 3?"),
        (["--streaming", "on"], "--streaming 'on': takes no value; --no-streaming turns it off"),
        (["--split", "my", "own"], "'own': not expected here (a value with spaces needs quotes);"
         " see p --help"),
        (["--split"], "--split: needs a value; see p --help"),
    ],
)  # fmt: skip
def test_unknown_words(words, line):
    with pytest.raises(InputError) as error:
        cli.parse("", words, PretrainArguments, TrainingArguments, prog="p")
    assert str(error.value) == line


def test_a_folder_without_its_flag(tmp_path):
    with pytest.raises(InputError, match=f"did you mean --dataset {tmp_path}"):
        cli.parse("", [str(tmp_path)], PretrainArguments, TrainingArguments, prog="p")


def test_files_that_are_nearly_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    assert did_you_mean_file("runs/mien") == "; did you mean runs/mine?"
    assert did_you_mean_file("rnus/mine") == "; did you mean runs/mine?"
    assert did_you_mean_file("elsewhere/mine") == ""
    assert did_you_mean_file(tmp_path / "runs" / "mime") == f"; did you mean {tmp_path}/runs/mine?"
