"""How a model is finetuned; flags are spelt as in pretraining."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patchit_hf.common.arguments import arg
from patchit_hf.common.errors import InputError
from patchit_hf.training.arguments import LoopArguments


@dataclass(frozen=True, kw_only=True)
class FinetuningArguments(LoopArguments):
    """Arguments of finetuning; see each field's help.

    Raises:
        InputError: for a value that is out of range, named by its flag.
    """

    num_train_epochs: float = arg(
        20.0, "--epochs", "training", "epochs; an epoch is one view of every crop"
    )
    train_batch_size: int = arg(
        32, "--batch-size", "training", "crops per optimiser step, over all processes"
    )
    learning_rate: float = arg(1e-3, "--learning-rate", "training", "peak learning rate")
    optim: str = arg("adamw", "--optimizer", "training", "an optimiser of timm's")
    eval_steps: float = arg(
        0.1,
        "--eval-every",
        "evaluation",
        "steps between evaluations on validation, or a share of the run below 1; 0 for the end "
        "alone",
    )
    save_steps: float = arg(
        0.25,
        "--save-every",
        "output",
        "steps between checkpoints, or a share of the run below 1; 0 for none",
        identity=False,
    )
    early_stopping_patience: int = arg(
        0,
        "--early-stopping-patience",
        "evaluation",
        "stop after so many evaluations without a better validation figure; 0 for never",
    )
    early_stopping_threshold: float = arg(
        0.0, "--early-stopping-threshold", "evaluation", "what counts as better"
    )
    load_best_model_at_end: bool = arg(
        True, "--keep-best", "evaluation", "keep the weights that did best on validation"
    )
    freeze: bool = arg(
        False, "--freeze", "training", "train the head alone, on the backbone as it is"
    )
    layer_decay: float | None = arg(
        None,
        "--layer-decay",
        "training",
        "learning rate of each layer against the one above it, such as 0.75",
    )
    reestimate_batch_norm: bool = arg(
        True,
        "--reestimate-batch-norm",
        "training",
        "before the first step, set the statistics of batch normalisation to those of the whole "
        "training crops",
    )
    reinit_last_stage: bool = arg(
        False, "--reinit-last-stage", "training", "give the last stage random weights again"
    )
    augment: dict[str, Any] = arg(
        {}, "--augment", "data", "how crops vary, such as mirror=0.5 zoom=0.1 jitter=0"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise InputError(
                f"--layer-decay {self.layer_decay!r}: must be above 0 and at most 1 (layer_decay)"
            )


@dataclass(frozen=True, kw_only=True)
class FinetuneArguments:
    """What is trained, from which weights, and on which labels."""

    task: str = arg("attributes", "--task", "task", "attributes, reid, pose or action")
    task_kwargs: dict[str, Any] = arg(
        {}, "--task-kwargs", "task", "its options, such as columns=[hat,backpack]"
    )
    init: str = arg(
        "random",
        "--init",
        "model",
        "random, timm[:tag], hf-hub:org/name, a folder, or a .safetensors file",
    )
    backbone: str | None = arg(
        None, "--backbone", "model", "a model of timm's, where --init does not bring one"
    )
    backbone_kwargs: dict[str, Any] = arg(
        {}, "--backbone-kwargs", "model", "its options, such as drop_path_rate=0.1"
    )
    dataset: str | None = arg(
        None,
        "--dataset",
        "data",
        "Hub id, folder of images, parquet or arrow, or save_to_disk folder; rendered people "
        "if left out",
    )
    split: str | None = arg(None, "--split", "data", "training split; train, or the only one")
    input_size: str | None = arg(
        None,
        "--input-size",
        "data",
        "height x width of the input; what the weights were made for, or 192x96",
    )
    fraction: float | None = arg(
        None, "--fraction", "data", "share of the labels; smaller ones lie inside larger ones"
    )
    shots: int | None = arg(None, "--shots", "data", "labelled crops of each class instead")
    subset_seed: int | None = arg(
        None, "--subset-seed", "data", "another draw of the labels that --fraction or --shots keeps"
    )
