"""Arguments by the names that Hugging Face's ``TrainingArguments`` have for them."""

from __future__ import annotations

import os
from typing import Any

from patchit_hf.common.errors import InputError

SAME = ("fp16", "bf16", "per_device_train_batch_size", "warmup_ratio", "eval_strategy",
        "evaluation_strategy", "save_strategy")  # fmt: skip
INSTEAD = {
    "batch_size": "train_batch_size",
    "epochs": "num_train_epochs",
    "eval_batch_size": "nothing: evaluations take what fits",
    "gradient_checkpointing": "gradient_accumulation_steps, to save memory",
    "hub_token": "hf auth login, or HF_TOKEN in the environment",
    "load_best_model_at_end": "nothing: finetuning keeps the best weights, pretraining the last",
    "logging_dir": "report_to, which writes to output_dir",
    "lr": "learning_rate",
    "no_cuda": "ACCELERATE_USE_CPU=true in the environment",
    "num_epochs": "num_train_epochs",
    "num_workers": "dataloader_num_workers",
    "overwrite_output_dir": "another output_dir: a run is continued, and never overwritten",
    "per_device_eval_batch_size": "nothing: evaluations take what fits",
    "remove_unused_columns": "nothing: only the image column is read",
    "run_name": "output_dir",
    "tf32": "torch.backends.cuda.matmul.allow_tf32",
    "use_cpu": "ACCELERATE_USE_CPU=true in the environment",
}


def understood(others: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return what arguments of Hugging Face's names mean here, by our names.

    Args:
        others: arguments that we have other names for.
        values: the arguments that are given by our names.

    Raises:
        InputError: for one that has no counterpart, naming what there is instead; for a value that
            has none; for two that contradict each other.

    Example:
        >>> understood({"bf16": True, "warmup_ratio": 0.1}, {})
        {'mixed_precision': 'bf16', 'warmup_steps': 0.1}
    """
    found: dict[str, Any] = {}
    for name, value in others.items():
        if name in INSTEAD:
            raise InputError(f"{name}={value!r}: here it is {INSTEAD[name]}")
        for ours, meant in _meant(name, value, values).items():
            if {**values, **found}.get(ours, meant) != meant:
                raise InputError(
                    f"{name}={value!r}: is {ours}={meant!r} here, and {ours} is "
                    f"{ {**values, **found}[ours]!r} already"
                )
            if ours not in values:
                found[ours] = meant
    return found


def _meant(name: str, value: Any, values: dict[str, Any]) -> dict[str, Any]:
    if name in ("fp16", "bf16"):
        return {"mixed_precision": name} if value else {}
    if name == "per_device_train_batch_size":
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        parts = int(values.get("gradient_accumulation_steps", 1))
        return {"train_batch_size": int(value) * processes * parts}
    if name == "warmup_ratio":
        return {"warmup_steps": float(value)}
    ours = "save_steps" if name == "save_strategy" else "eval_steps"
    if str(getattr(value, "value", value)) == "no":
        return {ours: 0}
    if str(getattr(value, "value", value)) == "steps":
        return {}
    raise InputError(f"{name}={value!r}: give {ours}, in steps or below 1 as a fraction of the run")
