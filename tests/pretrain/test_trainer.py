import json

import pytest
import torch
from safetensors.torch import load_file

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.common.errors import InputError
from tests.conftest import train_and_kill


def _trainer(folder, crops, small, backbone="test_resnet", **kwargs):
    options = {
        "max_steps": 12, "train_batch_size": 16, "learning_rate": 1e-2, "save_steps": 5,
        "figures": False, "audit": False,
    }  # fmt: skip
    args = TrainingArguments(output_dir=str(folder), **{**options, **kwargs})
    task = create_task("position", (50, 25), **small)
    return PatchTaskTrainer(
        backbone, args, task, crops.select(range(32)), crops.select(range(32, 40))
    )


def _weights(folder):
    return load_file(folder / "model.safetensors") | {
        f"head.{k}": v for k, v in load_file(folder / "head/model.safetensors").items()
    }


def _assert_equal(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        if tolerance:
            assert torch.allclose(a[name], b[name], **tolerance), name
        else:
            assert torch.equal(a[name], b[name]), name


def _distance(a, b):
    """How far two networks' weights and statistics lie apart."""
    assert a.keys() == b.keys()
    names = [name for name in a if a[name].is_floating_point()]
    return sum((a[name].double() - b[name].double()).square().sum().item() for name in names) ** 0.5


@pytest.mark.e2e
def test_it_learns_and_records_what_happened(tmp_path, crops, small):
    trainer = _trainer(tmp_path / "run", crops, small, max_steps=60, eval_steps=20)
    before = trainer.evaluate()
    results = trainer.train()
    assert before["eval_accuracy"] < 0.4
    assert results["eval_accuracy"] > 0.8  # places differ in colour
    assert results["chance"] == pytest.approx(1 / 6)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [20, 40, 60]
    record = json.loads((tmp_path / "run" / "patchit.json").read_text())
    assert record["results"] == results
    assert record["training"]["patches"] == 960
    assert record["data"]["train_crops"] == 32
    assert record["data"]["eval_crops"] == 8
    assert 0 < record["training"]["gradient"]["share"] <= 1


@pytest.mark.e2e
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_a_killed_and_resumed_run_is_the_uninterrupted_one(tmp_path, crops, small, backbone):
    small = {**small, "input_scale": 2, "grayscale": 0.3}
    options = {"backbone": backbone, "eval_steps": 3}
    _trainer(tmp_path / "whole", crops, small, **options).train()
    killed = _trainer(tmp_path / "killed", crops, small, **options)
    train_and_kill(killed, 7)
    assert not (tmp_path / "killed" / "patchit.json").exists()
    _trainer(tmp_path / "killed", crops, small, **options).train()
    _assert_equal(_weights(tmp_path / "whole"), _weights(tmp_path / "killed"))
    metrics = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "killed")
    ]
    for whole, resumed in zip(*metrics, strict=True):
        assert whole["step"] == resumed["step"]
        assert whole["eval_loss"] == pytest.approx(resumed["eval_loss"], abs=1e-6)


@pytest.mark.e2e
def test_training_leaves_the_given_task_as_it_was(tmp_path, crops, small):
    task = create_task("position", (50, 25), smooth=1.0, **small)
    before = dict(vars(task))
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=2,
        train_batch_size=8,
        figures=False,
        audit=False,
    )
    trainer = PatchTaskTrainer("test_resnet", args, task, crops, crops)
    trainer.train()
    assert vars(task) == before
    assert trainer.task is trainer.model.task is trainer.evaluator.task
    mean = trainer.task.transform.mean
    assert mean != task.transform.mean
    assert json.loads((tmp_path / "run" / "patchit.json").read_text())["data"]["mean"] == list(mean)


@pytest.mark.e2e
def test_dropout_is_resumed_too(tmp_path, crops, small):
    from patchit_hf.models.build import build_model

    def run(name, stop=None):
        task = create_task("position", (50, 25), **small)
        model = build_model("test_resnet", task, 42, {"drop_path_rate": 0.5})
        args = TrainingArguments(
            output_dir=str(tmp_path / name),
            max_steps=8,
            train_batch_size=8,
            save_steps=4,
            figures=False,
        )
        trainer = PatchTaskTrainer(model, args, task, crops)
        if stop:
            train_and_kill(trainer, stop)
        else:
            trainer.train()

    run("whole")
    run("killed", stop=5)
    run("killed")
    _assert_equal(_weights(tmp_path / "whole"), _weights(tmp_path / "killed"))


def test_checkpoints_are_limited_and_hold_nothing_that_can_run(tmp_path, crops, small):
    _trainer(tmp_path / "run", crops, small, save_steps=2, save_total_limit=3).train()
    found = sorted(p.name for p in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert found == ["step-00000008", "step-00000010", "step-00000012"]
    folder = tmp_path / "run" / "checkpoints" / found[0]
    names = ["SHA256SUMS", "model.safetensors", "optimizer.pt", "state.json"]
    assert sorted(p.name for p in folder.iterdir()) == names
    torch.load(folder / "optimizer.pt", weights_only=True)


def _steps_by_hand(trainer, steps, accumulation, learning_rate):
    """Plain gradient descent on the mean of the gradients of a step's parts, in a naive loop."""
    parts, model = trainer._parts(0), trainer.model.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    for _ in range(steps):
        gradients = []
        for _ in range(accumulation):
            part = next(parts)
            loss = trainer.task.loss(model(part.inputs), part.targets)["loss"]
            gradients.append(torch.autograd.grad(loss, weights))
        with torch.no_grad():
            for weight, *each in zip(weights, *gradients, strict=True):
                weight -= learning_rate * sum(each) / accumulation
    return model.state_dict()


PLAIN = {
    "optim": "momentum", "optim_args": {"momentum": 0.0}, "weight_decay": 0.0, "max_grad_norm": 0.0,
    "lr_scheduler_type": "constant", "warmup_steps": 0, "learning_rate": 0.05, "max_steps": 4,
}  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_accumulation(tmp_path, crops, small, backbone):
    """Two parts are stepped as by hand; without batch statistics they are one batch, too."""
    small = {**small, "input_scale": 2}
    common = {"backbone": backbone, **PLAIN}
    trained = {}
    for parts in (1, 2):
        options = {**common, "gradient_accumulation_steps": parts}
        trainer = _trainer(tmp_path / str(parts), crops, small, **options)
        start = {k: v.clone() for k, v in trainer.model.state_dict().items()}
        trainer.train()
        trained[parts] = trainer.model.state_dict()
        other = _trainer(tmp_path / f"{parts} by hand", crops, small, **options)
        by_hand = _steps_by_hand(other, 4, parts, 0.05)
        assert _distance(by_hand, trained[parts]) < 1e-4 * _distance(start, trained[parts])
    apart = _distance(trained[1], trained[2]) / _distance(start, trained[2])
    assert apart < 1e-3 if backbone == "test_vit" else apart > 0.1


def test_a_checkpoint_of_another_task_is_refused(tmp_path, crops, small):
    _trainer(tmp_path / "a", crops, small).train()
    chosen = str(tmp_path / "a" / "checkpoints" / "step-00000010")
    other = _trainer(tmp_path / "b", crops, {**small, "rows": 2}, resume_from_checkpoint=chosen)
    with pytest.raises(InputError, match="belongs to another run; these differ: task_kwargs"):
        other.train()
    assert not (tmp_path / "b").exists()


def test_other_data_in_the_same_folder_is_refused(tmp_path, crops, small):
    _trainer(tmp_path / "a", crops, small).train()
    (tmp_path / "a" / "patchit.json").unlink()
    args = TrainingArguments(
        output_dir=str(tmp_path / "a"),
        max_steps=12, train_batch_size=16, learning_rate=1e-2, save_steps=5,
    )  # fmt: skip
    task = create_task("position", (50, 25), **small)
    other = PatchTaskTrainer("test_resnet", args, task, crops.select(range(8, 40)))
    with pytest.raises(InputError, match=r"the data changed since this .*: train: .*row 0, row 1"):
        other.train()


@pytest.mark.e2e
def test_a_diverging_run_says_so(tmp_path, crops, small):
    trainer = _trainer(
        tmp_path / "run", crops, small, optim="sgd", learning_rate=1e30, max_grad_norm=0,
        warmup_steps=0, logging_steps=1,
    )  # fmt: skip
    with pytest.raises(FloatingPointError, match="try a lower --learning-rate"):
        trainer.train()


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path, crops, small):
    with pytest.raises(InputError, match="--batch-size 16: must be a multiple of 3"):
        _trainer(tmp_path / "run", crops, small, gradient_accumulation_steps=3)
    with pytest.raises(InputError, match="batch normalisation"):
        _trainer(tmp_path / "run", crops, small, train_batch_size=2, gradient_accumulation_steps=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("options", "inputs"), [({"identity_weight": 0}, 3), ({}, 4)])
def test_the_default_batch_suits_every_task(options, inputs, tmp_path, crops, caplog):
    """256 is no multiple of three, which this task has without its third kind of window."""
    args = TrainingArguments(output_dir=str(tmp_path / "run"), max_steps=1, figures=False)
    task = create_task("octaves", (50, 25), window=32, **options)
    assert task.inputs_per_sample == inputs
    trainer = PatchTaskTrainer("test_resnet", args, task, crops)
    assert trainer.share.batch * inputs == {3: 255, 4: 256}[inputs]
    with caplog.at_level("INFO", logger="patchit_hf"):
        trainer._say_header()
    assert f"1 steps of {inputs * trainer.share.batch} patches" in caplog.text


@pytest.mark.e2e
def test_streaming_needs_a_length_and_then_trains(tmp_path, crops, small):
    task = create_task("position", (50, 25), **small)
    stream = crops.to_iterable_dataset(num_shards=2)
    args = TrainingArguments(output_dir=str(tmp_path / "run"), dataloader_num_workers=0)
    with pytest.raises(InputError, match="give --max-steps"):
        PatchTaskTrainer("test_resnet", args, task, stream)
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"), dataloader_num_workers=0, max_steps=3,
        train_batch_size=8, figures=False,
    )  # fmt: skip
    trainer = PatchTaskTrainer("test_resnet", args, task, stream, stream)
    assert trainer.train()["step"] == 3
    record = json.loads((tmp_path / "run" / "patchit.json").read_text())
    assert record["data"]["train_crops"] is None


def test_tensorboard(tmp_path, crops, small):
    _trainer(tmp_path / "run", crops, small, report_to="tensorboard", max_steps=4).train()
    events = list((tmp_path / "run").rglob("events.out.tfevents.*"))
    assert events
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(events[0].parent))
    accumulator.Reload()
    assert "eval_accuracy" in accumulator.Tags()["scalars"]


@pytest.mark.e2e
def test_every_trainer_has_the_precision_that_it_asks_for(tmp_path, crops, small):
    """In one Python process, and whichever was made last."""
    small = {**small, "input_scale": 4}  # on the CPU, bf16 is wrong for 1x1 maps and stride 2
    asked = {"first": "bf16", "default": None, "last": "bf16"}
    trainers = [
        _trainer(tmp_path / name, crops, small, mixed_precision=precision, max_steps=1)
        for name, precision in asked.items()
    ]
    for trainer in trainers:
        trainer.train()
    for name, precision in asked.items():
        record = json.loads((tmp_path / name / "patchit.json").read_text())
        assert record["training"]["mixed_precision"] == (precision or "no")
        weights = _weights(tmp_path / name)
        assert {v.dtype for k, v in weights.items() if k.endswith("weight")} == {torch.float32}
    first, default, last = (_weights(tmp_path / name) for name in asked)
    assert all(torch.equal(first[key], last[key]) for key in first)
    assert any(not torch.equal(first[key], default[key]) for key in first)
