"""What Accelerate takes from the environment is taken over knowingly, or refused in one line."""

import json

import pytest
import torch
from accelerate.state import AcceleratorState

from patchit_hf import InputError, PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.training.accelerator import create_accelerator
from tests.conftest import train_and_kill
from tests.pretrain.test_trainer import _assert_equal, _weights

ON_CPU = pytest.mark.skipif(torch.cuda.is_available(), reason="of a CPU")
REFUSED = [
    ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", r"give --gradient-accumulation-steps 4 inst"),
    ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "auto", r"'auto': give --gradient-accumulation-"),
    ("ACCELERATE_MIXED_PRECISION", "fp8", r"MIXED_PRECISION 'fp8': must be one of no, bf16, fp16"),
    ("ACCELERATE_USE_DEEPSPEED", "true", "does not train with DeepSpeed"),
    ("ACCELERATE_USE_FSDP", "true", "FSDP_VERSION '1': must be 2"),
    ("ACCELERATE_USE_MEGATRON_LM", "true", "does not train with Megatron-LM"),
    ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", "with parts of a network on several devices"),
    ("ACCELERATE_DOWNCAST_BF16", "true", "does not train with weights in bfloat16"),
    pytest.param(
        "ACCELERATE_MIXED_PRECISION", "fp16", "'fp16': a CPU computes in float32", marks=ON_CPU
    ),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_what_is_refused(tmp_path, monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        create_accelerator(TrainingArguments(), tmp_path)


@ON_CPU
def test_fp16_is_refused_on_a_cpu(tmp_path):
    with pytest.raises(InputError, match="--mixed-precision 'fp16': a CPU computes in float32"):
        create_accelerator(TrainingArguments(mixed_precision="fp16"), tmp_path)
    with pytest.raises(InputError, match="--mixed-precision 'fp8': must be one of no, bf16, fp16"):
        TrainingArguments(mixed_precision="fp8")


def _run(folder, crops, small, **kwargs):
    options = {"max_steps": 3, "train_batch_size": 8, "figures": False, "audit": False}
    args = TrainingArguments(output_dir=str(folder), **{**options, **kwargs})
    task = create_task("position", (50, 25), **small)
    PatchTaskTrainer("test_resnet", args, task, crops).train()
    return json.loads((folder / "patchit.json").read_text())


TAKEN = [
    {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2"},  # the same as the argument
    {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"},
    {"ACCELERATE_GRADIENT_CLIPPING": "0.001"},  # of DeepSpeed alone
    {"ACCELERATE_DEBUG_MODE": "true"},
    {"ACCELERATE_USE_CPU": "true"},
    {"ACCELERATE_DYNAMO_BACKEND": "NO"},
]


@pytest.mark.e2e
def test_what_changes_nothing_changes_nothing(tmp_path, crops, small, monkeypatch):
    plain = _run(tmp_path / "plain", crops, small, gradient_accumulation_steps=2)
    for number, variables in enumerate(TAKEN):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            record = _run(tmp_path / str(number), crops, small, gradient_accumulation_steps=2)
        _assert_equal(_weights(tmp_path / "plain"), _weights(tmp_path / str(number)))
        assert record["training"]["mixed_precision"] == plain["training"]["mixed_precision"] == "no"


@pytest.mark.e2e
def test_the_precision_of_the_environment_is_recorded(tmp_path, crops, small, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    record = _run(tmp_path / "run", crops, small, max_steps=1)
    assert record["training"]["mixed_precision"] == "bf16"


@pytest.mark.slow
@pytest.mark.parametrize("order", [("eager", "NO"), ("NO", "eager")])
def test_a_compiled_run_goes_on_uncompiled_and_the_reverse(
    tmp_path, crops, small, monkeypatch, order
):
    def trainer(folder, backend):
        monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", backend)
        AcceleratorState._reset_state(reset_partial_state=True)
        args = TrainingArguments(
            output_dir=str(folder), max_steps=4, train_batch_size=8, save_steps=2, figures=False
        )
        return PatchTaskTrainer(
            "test_resnet", args, create_task("position", (50, 25), **small), crops
        )

    trainer(tmp_path / "whole", "NO").train()
    train_and_kill(trainer(tmp_path / "killed", order[0]), 2)
    trainer(tmp_path / "killed", order[1]).train()
    _assert_equal(_weights(tmp_path / "whole"), _weights(tmp_path / "killed"), atol=1e-6)
    record = json.loads((tmp_path / "killed" / "patchit.json").read_text())
    assert record["training"]["compiled"] == (None if order[1] == "NO" else "eager")
