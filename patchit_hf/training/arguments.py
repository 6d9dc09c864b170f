"""How a model is trained, in pretraining and in finetuning.

Field names are those of Hugging Face's ``TrainingArguments`` wherever it has one.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import Any

from patchit_hf.common.arguments import Arguments, arg
from patchit_hf.common.errors import InputError
from patchit_hf.data.decoding import DecodeArguments

_REPORTERS = ("none", "tensorboard", "wandb", "trackio")
_SCHEDULES = ("cosine", "linear", "constant", "step")
_STEP_OPTIONS = ("step_epochs", "step_factor")


@dataclass(frozen=True, kw_only=True)
class LoopArguments(DecodeArguments):
    """Arguments of any training, pretraining and finetuning alike; see each field's help.

    Raises:
        InputError: for a value that is out of range, named by its flag.
    """

    output_dir: str | None = arg(
        None,
        "--output-dir",
        "output",
        "folder of the run; runs/<backbone>-<task>-<data> by default",
        identity=False,
    )
    num_train_epochs: float = arg(
        20.0, "--epochs", "training", "epochs; an epoch is one sample per crop"
    )
    max_steps: int = arg(
        -1, "--max-steps", "training", "optimiser steps; overrides --epochs unless -1"
    )
    train_batch_size: int = arg(
        256,
        "--batch-size",
        "training",
        "inputs of the trunk per optimiser step, over all processes and accumulation steps",
    )
    gradient_accumulation_steps: int = arg(
        1, "--gradient-accumulation-steps", "training", "parts that a process cuts its batch into"
    )
    learning_rate: float = arg(4e-3, "--learning-rate", "training", "peak learning rate")
    lr_scheduler_type: str = arg(
        "cosine", "--schedule", "training", "learning-rate schedule", choices=_SCHEDULES
    )
    lr_scheduler_kwargs: dict[str, Any] = arg(
        {}, "--schedule-kwargs", "training", "for step: step_epochs=5 step_factor=0.5"
    )
    warmup_steps: float = arg(
        0.05, "--warmup", "training", "warm-up in steps, or as a share of the run below 1"
    )
    weight_decay: float = arg(0.05, "--weight-decay", "training", "decay of weights, not of biases")
    optim: str = arg("muon", "--optimizer", "training", "an optimiser of timm's")
    optim_args: dict[str, Any] = arg(
        {}, "--optimizer-args", "training", "its options, such as momentum=0.9"
    )
    max_grad_norm: float = arg(
        1.0, "--max-grad-norm", "training", "gradients are clipped to this norm; 0 for never"
    )
    mixed_precision: str | None = arg(
        None,
        "--mixed-precision",
        "training",
        "as Accelerate is configured, unless given",
        choices=("no", "bf16", "fp16"),
    )
    cuda_graphs: bool = arg(
        True,
        "--cuda-graphs",
        "training",
        "on one CUDA GPU, replay the network's kernels instead of launching each",
        identity=False,
    )
    seed: int = arg(42, "--seed", "training", "seed of weights, order, cells and jitter")
    eval_steps: float = arg(
        0.2,
        "--eval-every",
        "evaluation",
        "steps between evaluations, or a share of the run below 1; 0 for the end alone",
        identity=False,
    )
    early_stopping_patience: int = arg(
        0,
        "--early-stopping-patience",
        "evaluation",
        "stop after so many evaluations without a better held-out accuracy; 0 for never",
        identity=False,
    )
    early_stopping_threshold: float = arg(
        0.0,
        "--early-stopping-threshold",
        "evaluation",
        "what counts as better, as a difference of accuracies",
        identity=False,
    )
    logging_steps: int = arg(
        20, "--log-every", "output", "steps between progress updates", identity=False
    )
    save_steps: float = arg(
        500,
        "--save-every",
        "output",
        "steps between checkpoints, or a share of the run below 1; 0 for none",
        identity=False,
    )
    save_total_limit: int = arg(
        2, "--save-limit", "output", "newest checkpoints kept while training", identity=False
    )
    report_to: str = arg(
        "none", "--report-to", "output", "tracker", identity=False, choices=_REPORTERS
    )
    push_to_hub: bool = arg(
        False,
        "--push-to-hub",
        "hub",
        "upload every checkpoint while training, and the export at the end",
        identity=False,
    )
    hub_model_id: str | None = arg(
        None, "--hub-model-id", "hub", "repository to push to, such as org/name", identity=False
    )
    hub_private_repo: bool = arg(
        False, "--hub-private", "hub", "create the repository as private", identity=False
    )
    hub_revision: str | None = arg(
        None, "--hub-revision", "hub", "branch to push to", identity=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (
            "train_batch_size", "gradient_accumulation_steps", "logging_steps", "save_total_limit",
        ):  # fmt: skip
            self._check_whole(name, 1)
        for name in ("seed", "early_stopping_patience"):
            self._check_whole(name, 0)
        for name in (
            "warmup_steps", "weight_decay", "max_grad_norm", "eval_steps", "save_steps",
            "early_stopping_threshold",
        ):  # fmt: skip
            self._check_number(name)
        self._check_number("learning_rate", positive=True)
        if self.max_steps != -1:
            self._check_whole("max_steps", 1)
        else:
            self._check_number("num_train_epochs", positive=True)
        for key in self.lr_scheduler_kwargs:
            if key not in _STEP_OPTIONS or self.lr_scheduler_type != "step":
                raise InputError(
                    f"--schedule-kwargs {key!r}: only --schedule step has options "
                    f"({', '.join(_STEP_OPTIONS)})"
                )
        if self.report_to != "none" and importlib.util.find_spec(self.report_to) is None:
            raise InputError(
                f"--report-to {self.report_to!r}: is not installed; pip install {self.report_to}"
            )
        if self.push_to_hub and not self.hub_model_id:
            raise InputError("--push-to-hub needs --hub-model-id, such as org/name")


@dataclass(frozen=True, kw_only=True)
class PatchDataArguments(Arguments):
    """Which crops are used, and which patch task asks about them."""

    dataset: str | None = arg(
        None,
        "--dataset",
        "data",
        "Hub id, folder of images, parquet or arrow, or save_to_disk folder; rendered people "
        "if left out",
    )
    split: str | None = arg(None, "--split", "data", "training split; train, or the only one")
    streaming: bool = arg(False, "--streaming", "data", "read as it comes, without preparing")
    canvas: str = arg("200x100", "--canvas", "data", "size that crops are brought to, H x W")
    task: str = arg("position", "--task", "task", "patch task, or a preset of one (pt18, pt8)")
    task_kwargs: dict[str, Any] = arg(
        {}, "--task-kwargs", "task", "its options, such as rows=6 cols=3 patch_size=32 jitter=4"
    )


def in_steps(value: float, max_steps: int) -> int:
    """Return a number of steps; a value below 1 is a share of the run (at least one step)."""
    if 0 < value < 1:
        return max(1, math.ceil(value * max_steps))
    return int(value)
