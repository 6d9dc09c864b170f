"""``metrics.jsonl``: what is read back, and what earlier versions wrote."""

import json

from patchit_hf.training.run_folder import History


def test_lines_after_the_step_that_is_resumed_from_are_taken_out(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 2, "train_loss": 1.5}\n{"step": 4, "train_loss": 1.0}\n{"step": 6,')
    history = History(file, writes=True, step=2)
    assert history.entries == [{"step": 2, "train_loss": 1.5}]
    history.add({"step": 4, "train_loss": 0.5})
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [2, 4]


def test_a_finetuning_of_an_earlier_version_is_continued(tmp_path):
    """It wrote ``loss``, where pretraining wrote ``train_loss``."""
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 3, "loss": 0.25, "eval_map": 0.5}\n')
    assert History(file, writes=False, step=3).last == {
        "step": 3, "train_loss": 0.25, "eval_map": 0.5,
    }  # fmt: skip
