"""Arguments of training, shared by pretraining and finetuning.

Field names follow Hugging Face's ``TrainingArguments`` where it has such a field.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, fields
from typing import Any

from patchit_hf.common.arguments import arg
from patchit_hf.common.errors import InputError
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.training.other_names import INSTEAD, SAME, understood

_REPORTERS = ("none", "tensorboard", "wandb", "trackio")
_SCHEDULES = ("cosine", "linear", "constant", "step")
_OWN_FLAGS = {"lr": "--learning-rate", "learning_rate": "--learning-rate"}
_OWN_FLAGS |= {"weight_decay": "--weight-decay", "opt": "--optimizer"}
_STEP_OPTIONS = ("step_epochs", "step_factor")
# What may change when a run continues: it only decides the length and the rate of later steps.
CHANGEABLE = (
    "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "max_grad_norm", "max_steps",
    "num_train_epochs", "warmup_steps",
)  # fmt: skip
LENGTH = ("max_steps", "num_train_epochs")  # what --extend changes
_FIELD = {  # flags that are not called as their fields
    "epochs": "num_train_epochs",
    "schedule": "lr_scheduler_type",
    "schedule_kwargs": "lr_scheduler_kwargs",
    "warmup": "warmup_steps",
}


@dataclass(frozen=True, kw_only=True)
class LoopArguments(DecodeArguments):
    """Arguments of any training, pretraining or finetuning; see each field's help.

    Raises:
        InputError: for a value that is out of range; the message names the flag.

    Example:
        >>> LoopArguments(learning_rate=-1.0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        patchit_hf.common.errors.InputError: --learning-rate -1.0: must be a finite number...
    """

    output_dir: str | None = arg(
        None,
        "--output-dir",
        "output",
        "folder of the run; by default a folder in runs/ named after the run's arguments",
        identity=False,
    )
    num_train_epochs: float = arg(
        20.0, "--epochs", "training", "number of epochs; an epoch takes one sample of every crop"
    )
    max_steps: int = arg(
        -1,
        "--max-steps",
        "training",
        "number of optimiser steps, instead of --epochs; -1 to use --epochs",
    )
    train_batch_size: int = arg(
        256,
        "--batch-size",
        "training",
        "inputs of the backbone per optimiser step, over all processes and accumulation steps; "
        "auto for the default in as many parts as memory needs",
        words=("auto",),
    )
    gradient_accumulation_steps: int = arg(
        1,
        "--gradient-accumulation-steps",
        "training",
        "number of parts that each process splits its batch into, to save memory; 0 to find by a "
        "trial how many are needed",
        identity=False,
    )
    learning_rate: float | None = arg(4e-3, "--learning-rate", "training", "peak learning rate")
    lr_scheduler_type: str = arg(
        "cosine", "--schedule", "training", "learning-rate schedule", choices=_SCHEDULES
    )
    lr_scheduler_kwargs: dict[str, Any] = arg(
        {},
        "--schedule-kwargs",
        "training",
        "options of --schedule step, such as step_epochs=5 step_factor=0.5",
    )
    warmup_steps: float = arg(
        0.05, "--warmup", "training", "warm-up in steps; below 1, as a fraction of the run"
    )
    head_first: float = arg(
        0.0,
        "--head-first",
        "training",
        "steps at the beginning in which only the head is trained; below 1, a fraction of the run",
        later=True,
    )
    ema: float = arg(
        0.0,
        "--ema",
        "training",
        "evaluate and export the moving average of the weights, of which each step keeps this "
        "share, such as 0.99; 0 for the weights of the last step",
        later=True,
    )
    weight_decay: float = arg(
        0.05, "--weight-decay", "training", "weight decay; biases and norms are not decayed"
    )
    optim: str = arg("muon", "--optimizer", "training", "timm's name of the optimiser")
    optim_args: dict[str, Any] = arg(
        {}, "--optimizer-args", "training", "options of the optimiser, such as momentum=0.9"
    )
    max_grad_norm: float = arg(
        1.0, "--max-grad-norm", "training", "clip gradients to this norm; 0 to not clip"
    )
    mixed_precision: str | None = arg(
        None,
        "--mixed-precision",
        "training",
        "precision of the computation; by default as Accelerate is configured",
        choices=("no", "bf16", "fp16"),
    )
    cuda_graphs: bool = arg(
        True,
        "--cuda-graphs",
        "training",
        "on a single CUDA GPU, replay the network's kernels as a CUDA graph, which is faster",
        identity=False,
    )
    torch_compile: bool = arg(
        False,
        "--torch-compile",
        "training",
        "compile the network by torch's inductor; the first step then takes minutes, and patches "
        "on a CPU gained nothing by it",
        identity=False,
    )
    seed: int = arg(
        42,
        "--seed",
        "training",
        "seed of everything random: weights, order of the crops, cells, jitter",
    )
    eval_steps: float = arg(
        0.2,
        "--eval-every",
        "evaluation",
        "steps between evaluations; below 1, a fraction of the run; 0 to evaluate only at the end",
        identity=False,
    )
    early_stopping_patience: int = arg(
        0,
        "--early-stopping-patience",
        "evaluation",
        "stop after this many evaluations without a better held-out accuracy; 0 to never stop "
        "early",
        identity=False,
    )
    early_stopping_threshold: float = arg(
        0.0,
        "--early-stopping-threshold",
        "evaluation",
        "gain in held-out accuracy above which an evaluation counts as better",
        identity=False,
    )
    logging_steps: int = arg(
        20, "--log-every", "output", "steps between progress updates", identity=False
    )
    save_steps: float = arg(
        500,
        "--save-every",
        "output",
        "steps between checkpoints; below 1, a fraction of the run; 0 for no checkpoints",
        identity=False,
    )
    save_minutes: float = arg(
        10.0,
        "--save-minutes",
        "output",
        "minutes between checkpoints, in addition to --save-every; the first comes after two; "
        "0 for --save-every alone",
        identity=False,
    )
    save_total_limit: int = arg(
        2,
        "--save-limit",
        "output",
        "number of checkpoints to keep; older ones are deleted",
        identity=False,
    )
    extend: bool = arg(
        False,
        "--extend",
        "output",
        "go on with a run, also a finished one, for longer: --max-steps or --epochs is above its "
        "own, and the learning rate follows the new length from there",
        identity=False,
    )
    allow_changed_data: bool = arg(
        False,
        "--allow-changed-data",
        "data",
        "continue a run although its images changed since its checkpoint; record and card say it",
        identity=False,
    )
    timeout: float = arg(
        1800.0,
        "--timeout",
        "output",
        "seconds that the processes of a run wait for each other; one that hangs longer ends it",
        identity=False,
    )
    change: list[str] = arg(
        [],
        "--change",
        "output",
        "arguments whose value may differ from that of the checkpoint that is continued, such as "
        "learning_rate; record and card say it",
        identity=False,
    )
    report_to: str = arg(
        "none", "--report-to", "output", "experiment tracker", identity=False, choices=_REPORTERS
    )
    push_to_hub: bool = arg(
        False,
        "--push-to-hub",
        "hub",
        "push every checkpoint to the Hub during training, and the export at the end",
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

    @classmethod
    def _understood(cls, others: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        known = {name: others[name] for name in others if name in {*SAME, *INSTEAD}}
        rest = {name: others[name] for name in others if name not in known}
        found = understood(known, values)
        return found | (super()._understood(rest, values) if rest else {})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._resolve_auto()
        for name in ("train_batch_size", "logging_steps", "save_total_limit"):
            self._check_whole(name, 1)
        for name in ("seed", "early_stopping_patience", "gradient_accumulation_steps"):
            self._check_whole(name, 0)
        for name in (
            "warmup_steps", "head_first", "weight_decay", "max_grad_norm", "eval_steps",
            "save_steps", "save_minutes", "early_stopping_threshold",
        ):  # fmt: skip
            self._check_number(name)
        if not 0 <= self.ema < 1:
            raise self._error("ema", "a number from 0 to below 1")
        self._check_number("timeout", positive=True)
        self._check_change()
        if self.learning_rate is not None:
            self._check_number("learning_rate", positive=True)
        if self.max_steps != -1:
            self._check_whole("max_steps", 1)
        else:
            self._check_number("num_train_epochs", positive=True)
        for key, flag in _OWN_FLAGS.items():
            if key in self.optim_args:
                value = self.optim_args[key]
                raise InputError(f"--optimizer-args {key}={value}: is a flag: {flag} {value}")
        for key in self.lr_scheduler_kwargs:
            if key not in _STEP_OPTIONS or self.lr_scheduler_type != "step":
                raise InputError(
                    f"--schedule-kwargs {key!r}: only --schedule step has options "
                    f"({', '.join(_STEP_OPTIONS)})"
                )
        if self.report_to != "none" and importlib.util.find_spec(self.report_to) is None:
            raise InputError(
                f"--report-to {self.report_to!r}: not installed; pip install {self.report_to}"
            )
        if self.push_to_hub and not self.hub_model_id:
            raise InputError("--push-to-hub needs --hub-model-id, such as org/name")

    def _resolve_auto(self) -> None:
        """Make ``--batch-size auto`` the default batch, in parts whose number is to be found."""
        if self.train_batch_size == "auto":  # type: ignore[comparison-overlap]
            object.__setattr__(self, "train_batch_size", self.default_batch_size)
            object.__setattr__(self, "gradient_accumulation_steps", 0)

    def _check_change(self) -> None:
        """Bring the names to those of the fields, as in ``learning_rate``."""
        names = [name.lstrip("-").replace("-", "_") for name in self.change]
        names = [_FIELD.get(name, name) for name in names]
        for name in names:
            if name not in CHANGEABLE:
                raise InputError(f"--change {name!r}: must be among {', '.join(CHANGEABLE)}")
        more = [name for name in LENGTH if self.extend and name not in names]
        object.__setattr__(self, "change", [*names, *more])

    @property
    def default_batch_size(self) -> int:
        """The batch size unless another one is asked for."""
        defaults: dict[str, Any] = {field.name: field.default for field in fields(self)}
        return int(defaults["train_batch_size"])

    @property
    def peak_learning_rate(self) -> float:
        """The peak learning rate, once it is known what a training starts from."""
        if self.learning_rate is None:
            raise RuntimeError("the learning rate depends on the initial weights; see settled()")
        return self.learning_rate

    def _check_layer_decay(self, value: float | None) -> None:
        if value is not None and not 0 < value <= 1:
            raise InputError(
                f"--layer-decay {value!r}: must be above 0 and at most 1 (layer_decay)"
            )


def in_steps(value: float, max_steps: int) -> int:
    """Return a number of steps; a value below 1 is a fraction of the run (at least one step).

    Example:
        >>> in_steps(0.25, 1000), in_steps(500, 1000)
        (250, 500)
    """
    if 0 < value < 1:
        return max(1, math.ceil(value * max_steps))
    return int(value)
