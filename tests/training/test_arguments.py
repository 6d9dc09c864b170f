import dataclasses
import math

import pytest
from transformers import TrainingArguments as HFTrainingArguments

from patchit_hf.common.errors import InputError
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.training.arguments import in_steps

OURS_ALONE = {  # what Hugging Face has no field of that meaning for
    "keep_initial",
    "ema",
    "train_batch_size",  # theirs is per device
    "mixed_precision",  # theirs is bf16 and fp16; this is Accelerate's
    "optim_args",
    "layer_decay",
    "freeze_stages",
    "head_first",
    "save_minutes",
    "change",
    "extend",
    "allow_changed_data",
    "allow_urls",
    "timeout",
    "verify_cache",
    "image_column",
    "fit",
    "crop_cache_gb",
    "on_bad_image",
    "max_eval_crops",
    "audit",
    "cuda_graphs",
    "hub_include_people",
    "figures",
    "probe_column",
    "probe_steps",
    "early_stopping_patience",
    "early_stopping_threshold",  # of its EarlyStoppingCallback
}


def test_field_names_are_hugging_faces():
    ours = {f.name for f in dataclasses.fields(TrainingArguments)}
    theirs = {f.name for f in dataclasses.fields(HFTrainingArguments)}
    assert ours - theirs <= OURS_ALONE


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingArguments().seed = 3


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", math.nan, "--learning-rate nan: must be a finite number above 0"),
        ("learning_rate", 0, "--learning-rate 0"),
        ("learning_rate", math.inf, "--learning-rate inf"),
        ("train_batch_size", 0, "--batch-size 0: must be a whole number of at least 1"),
        ("train_batch_size", 2.5, "--batch-size 2.5"),
        ("gradient_accumulation_steps", -1, "--gradient-accumulation-steps -1"),
        ("num_train_epochs", -1.0, "--epochs -1.0"),
        ("max_steps", 0, "--max-steps 0"),
        ("weight_decay", -0.1, "--weight-decay -0.1"),
        ("warmup_steps", -5, "--warmup -5"),
        ("max_eval_crops", 0, "--max-eval-crops 0"),
        ("seed", -1, "--seed -1"),
        ("fit", "pad", "--fit 'pad': must be one of squash, cover"),
        ("mixed_precision", "fp8", "--mixed-precision 'fp8'"),
        ("report_to", "mlflow", "--report-to 'mlflow'"),
        ("lr_scheduler_type", "cyclic", "--schedule 'cyclic'"),
        ("save_total_limit", 0, "--save-limit 0"),
        ("push_to_hub", True, "--push-to-hub needs --hub-model-id"),
    ],
)
def test_nonsense_is_refused(name, value, message):
    with pytest.raises(InputError) as error:
        TrainingArguments(**{name: value})
    assert message in str(error.value)


def test_shares_of_a_run():
    assert in_steps(0.2, 1000) == 200
    assert in_steps(0.001, 10) == 1
    assert in_steps(500, 1000) == 500
    assert in_steps(0, 1000) == 0


@pytest.mark.parametrize(
    ("key", "flag"), [("lr", "--learning-rate"), ("weight_decay", "--weight-decay")]
)
def test_options_of_the_optimiser_that_have_a_flag(key, flag):
    with pytest.raises(InputError) as error:
        TrainingArguments(optim_args={key: 3})
    assert str(error.value) == f"--optimizer-args {key}=3: is a flag: {flag} 3"
