"""The moving average of the weights: what is evaluated and exported, and what checkpoints hold."""

import torch
from safetensors.torch import load_file

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.models.build import build_model
from patchit_hf.pretrain.command import main
from patchit_hf.training.checkpoint import newest_whole


def _task():
    return create_task("position", (50, 25), rows=3, cols=2, patch_size=8, jitter=2)


class Weights:
    """Notes all weights after each step."""

    def __init__(self):
        self.noted = []

    def on_step(self, trainer, step):
        values = trainer.model.state_dict()
        self.noted.append({n: v.clone() for n, v in values.items() if v.is_floating_point()})


def _trained(folder, crops, **options):
    args = TrainingArguments(
        output_dir=str(folder), max_steps=4, train_batch_size=16, eval_steps=0, save_steps=2,
        figures=False, audit=False, **options,
    )  # fmt: skip
    task, weights = _task(), Weights()
    model = build_model("test_resnet", task, seed=0)
    begun = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = PatchTaskTrainer(
        model, args, task, crops, crops.select(range(8)), callbacks=[weights]
    )
    trainer.train()
    return trainer, begun, weights.noted


def test_the_average_is_exported_and_evaluated(tmp_path, crops):
    _, _, plain = _trained(tmp_path / "plain", crops)
    trainer, begun, steps = _trained(tmp_path / "ema", crops, ema=0.15)
    average = dict(begun)
    for step, weights in enumerate(steps):
        decay = min(0.15, (1 + step) / (10 + step))  # 0.1, then 0.15
        for name, value in plain[step].items():
            assert torch.equal(weights[name], value), "the training itself is the same"
            average[name] = decay * average[name] + (1 - decay) * value
    exported = load_file(tmp_path / "ema" / "model.safetensors")
    for name, value in exported.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, average[f"backbone.{name}"], rtol=1e-5, atol=1e-6)
            assert not torch.equal(value, steps[-1][f"backbone.{name}"]), name
    head = load_file(tmp_path / "ema" / "head" / "model.safetensors")
    for name, value in head.items():
        torch.testing.assert_close(value, average[f"head.{name}"], rtol=1e-5, atol=1e-6)

    # The figures are those of the exported weights, also while the run goes on.
    assert trainer.evaluate()["eval_loss"] == trainer.results()["eval_loss"]
    saved = newest_whole(tmp_path / "ema" / "checkpoints")
    for name, value in steps[-1].items():
        if not name.startswith("moving_average."):
            assert torch.equal(saved.weights[name], value), name
    card = (tmp_path / "ema" / "README.md").read_text()
    assert "| moving average of the weights, decay | 0.15 |" in card
    assert "moving average" not in (tmp_path / "plain" / "README.md").read_text()


def test_a_model_is_trained_again_without_average(tmp_path, crops):
    trainer, _, _ = _trained(tmp_path / "ema", crops, ema=0.5)
    args = TrainingArguments(output_dir=str(tmp_path / "next"), max_steps=1, train_batch_size=16)
    again = PatchTaskTrainer(trainer.model, args, trainer.task, crops)
    assert not [name for name in again.model.state_dict() if "moving_average" in name]


def test_a_decay_out_of_range(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["--backbone", "test_resnet", "--ema", "1", "--output-dir", str(out)]) == 2
    assert "--ema 1.0: must be a number from 0 to below 1" in capsys.readouterr().err
    assert not out.exists()
