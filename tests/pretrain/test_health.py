"""Health of a run: figures against hand-worked values, alarms, early stopping."""

import json

import datasets
import pytest
import torch

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.metrics.pretext import place_metrics, rank_me, spread
from patchit_hf.patch_tasks.grid import Grid
from patchit_hf.pretrain.health import warning
from patchit_hf.publish.contents import _export_title
from patchit_hf.training.clock import Clock
from patchit_hf.training.monitor import EarlyStopping


def test_rank_of_known_features():
    assert rank_me(torch.eye(7)) == pytest.approx(7, rel=1e-3)
    assert rank_me(torch.ones(50, 9)) == pytest.approx(1, abs=1e-3)
    # Singular values 3 and 1: shares 0.75 and 0.25.
    two = torch.diag(torch.tensor([3.0, 1.0]))
    assert rank_me(two) == pytest.approx(0.75**-0.75 * 0.25**-0.25, rel=1e-4)


def test_spread():
    assert spread(torch.ones(5, 3)) == 0
    assert spread(torch.tensor([[1.0], [-1.0]])) == 1
    assert spread(torch.tensor([[3.0], [1.0]])) == pytest.approx(1 / 5**0.5)


def test_error_distance_rows_and_columns():
    boxes = Grid(2, 2, 8, 0, 0, (20, 20)).boxes
    confusion = torch.zeros(4, 4, dtype=torch.int64)
    confusion[0, 0] = 3  # right
    confusion[0, 1] = 1  # one cell off
    confusion[1, 2] = 2  # a diagonal off
    confusion[3, 3] = 2
    values = place_metrics(confusion, boxes)
    assert values["error_distance"] == pytest.approx((1 + 2 * 2**0.5) / 8, abs=1e-4)
    assert values["row_accuracy"] == [0.5, 1.0]
    assert values["column_accuracy"] == [0.75, 0.5]


@pytest.mark.parametrize(
    ("entry", "share", "begins"),
    [
        ({"eval_accuracy": 0.4, "eval_feature_rank": 20.0, "eval_feature_spread": 0.5}, 1, None),
        ({"eval_accuracy": 0.4, "eval_feature_rank": 1.01, "eval_feature_spread": 0.5}, 0.1,
         "WARNING collapse: "),
        ({"eval_accuracy": 0.4, "eval_feature_rank": 3.0, "eval_feature_spread": 1e-5}, 0.1,
         "WARNING collapse: "),
        ({"eval_feature_rank": float("nan"), "eval_feature_spread": 0.1}, 0.1,
         "WARNING collapse: "),
        ({"eval_accuracy": 0.06}, 0.1, None),
        ({"eval_accuracy": 0.06}, 0.5, "WARNING chance: "),
        ({}, 1, None),
    ],
)  # fmt: skip
def test_alarms(entry, share, begins):
    line = warning(entry, 1 / 18, 300, share)
    assert line is None if begins is None else line.startswith(begins)


def test_early_stopping():
    def entries(*accuracies):
        return [{"eval_accuracy": a} for a in accuracies]

    patient = EarlyStopping(2, 0.01)
    assert patient.reason(entries(0.1, 0.2, 0.3)) is None
    assert patient.reason(entries(0.1, 0.2, 0.205)) is None
    assert "20.0% in 2 evaluations" in patient.reason(entries(0.1, 0.2, 0.205, 0.2))
    assert EarlyStopping(0).reason(entries(0.2, 0.1, 0.1, 0.1)) is None


def test_clock():
    clock = Clock()
    assert clock.result() == {}
    clock.waiting = 1.0
    clock.step(3.0, 64)
    clock.step(1.0, 64)
    assert clock.result() == {"samples_per_second": 32.0, "data_share": 0.25}
    assert clock.steps == [3.0, 1.0]
    assert clock.result() == {}


def _train(folder, crops, small, **kwargs):
    args = TrainingArguments(
        output_dir=str(folder), train_batch_size=16, figures=False, audit=False, **kwargs,
    )  # fmt: skip
    task = create_task("position", (50, 25), **small)
    trainer = PatchTaskTrainer(
        "test_resnet", args, task, crops.select(range(32)), crops.select(range(32, 40))
    )
    return trainer, trainer.train()


@pytest.mark.e2e
def test_a_run_that_learns_nothing_is_stopped_and_said_so(tmp_path, crops, small, capsys):
    trainer, results = _train(
        tmp_path / "run", crops, small, max_steps=40, learning_rate=1e-12, eval_steps=4,
        early_stopping_patience=3,
    )  # fmt: skip
    assert results["step"] < 40
    record = json.loads((tmp_path / "run" / "patchit.json").read_text())
    assert "in 3 evaluations" in record["training"]["stopped"]
    assert record["training"]["patches"] == 16 * results["step"]
    assert capsys.readouterr().err.count("WARNING chance:") == 1
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == results["step"] == trainer.monitor.done


def test_every_evaluation_has_its_health(tmp_path, crops, small):
    _, results = _train(tmp_path / "run", crops, small, max_steps=8, eval_steps=4)
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        # 48 questions: rows and columns are the same answers, counted twice.
        assert len(entry["eval_row_accuracy"]) == 3
        assert len(entry["eval_column_accuracy"]) == 2
        for name in ("eval_row_accuracy", "eval_column_accuracy"):
            share = sum(entry[name]) / len(entry[name])
            assert share == pytest.approx(entry["eval_accuracy"], abs=1e-3)
        assert entry["eval_error_distance"] >= 1 - entry["eval_accuracy"] - 1e-3
        assert 1 <= entry["eval_feature_rank"] <= 48
        assert entry["samples_per_second"] > 0
        assert 0 < entry["data_share"] < 1
    assert results["eval_feature_rank"] == entry["eval_feature_rank"]


def test_places_that_are_not_learnt_from_decide_nothing(tmp_path, crops, capsys):
    """Identity alone: what counts is how often a part finds its own person."""
    task = create_task("octaves", (50, 25), window=32, details=0, position_weight=0, light=0)
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"), max_steps=6, train_batch_size=16, eval_steps=2,
        figures=False, max_eval_crops=None,
    )  # fmt: skip
    many = datasets.concatenate_datasets([crops, crops])  # enough for an audit
    trainer = PatchTaskTrainer("test_resnet", args, task, many, crops)
    results = trainer.train()
    assert trainer.monitor.reporter.metric == "eval_retrieval_accuracy"
    found = results["eval_retrieval_accuracy"]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    chance = 1 / len(trainer.data.held_out)
    assert f"step 6: own person found {found:.1%} (chance {chance:.1%}), loss " in lines[-1]
    assert f"places {results['eval_accuracy']:.1%} (not learnt from)" in lines[-1]
    record = json.loads((tmp_path / "run" / "patchit.json").read_text())
    assert record["audit"]["network"] is None
    assert record["audit"]["baselines"]["border_pixels"] > 0.5  # these crops give places away,
    assert record["audit"]["shortcut"] is None  # but nothing learns them
    card = (tmp_path / "run" / "README.md").read_text()
    assert "(`position_weight=0`): a head beside it" in card
    assert "Accuracy over" not in card  # what the Hub would show as the model's result
    assert _export_title(record).endswith(f": own person found {found:.1%}")
    entry = {"eval_accuracy": 0.0, "eval_retrieval_accuracy": 0.5}  # places at chance are no alarm
    assert trainer.reporter.warning(entry, 0.5) is None
    entry = {"eval_accuracy": 0.9, "eval_retrieval_accuracy": chance}
    said = "WARNING chance: after 50% of the run the share of own persons found is "
    assert trainer.reporter.warning(entry, 0.5).startswith(said)


def test_a_collapsed_net_is_caught(tmp_path, crops, small):
    args = TrainingArguments(output_dir=str(tmp_path / "run"), max_steps=1, train_batch_size=8)
    task = create_task("position", (50, 25), **small)
    trainer = PatchTaskTrainer("test_resnet", args, task, crops, crops)
    for parameter in trainer.model.backbone.parameters():
        parameter.data.zero_()
    entry = trainer.evaluate()
    assert warning(entry, task.chance, 40, 0.1).startswith("WARNING collapse: ")
