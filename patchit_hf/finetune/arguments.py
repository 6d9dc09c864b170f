"""Arguments of finetuning; flags are the same as in pretraining where possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patchit_hf.common.arguments import Arguments, arg
from patchit_hf.downstream import list_downstream
from patchit_hf.training.arguments import LoopArguments


@dataclass(frozen=True, kw_only=True)
class FinetuningArguments(LoopArguments):
    """Arguments that say how finetuning runs; see each field's help.

    Raises:
        InputError: for a value that is out of range; the message names the flag.
    """

    num_train_epochs: float = arg(
        20.0, "--epochs", "training", "number of epochs; an epoch shows every crop once"
    )
    train_batch_size: int = arg(
        32,
        "--batch-size",
        "training",
        "crops per optimiser step, over all processes; auto for the default in as many parts as "
        "memory needs",
        words=("auto",),
    )
    learning_rate: float = arg(1e-3, "--learning-rate", "training", "peak learning rate")
    optim: str = arg("adamw", "--optimizer", "training", "timm's name of the optimiser")
    eval_steps: float = arg(
        0.1,
        "--eval-every",
        "evaluation",
        "steps between evaluations on validation; below 1, a fraction of the run; 0 to evaluate "
        "only at the end",
    )
    save_steps: float = arg(
        0.25,
        "--save-every",
        "output",
        "steps between checkpoints; below 1, a fraction of the run; 0 for no checkpoints",
        identity=False,
    )
    early_stopping_patience: int = arg(
        0,
        "--early-stopping-patience",
        "evaluation",
        "stop after this many evaluations without a better validation metric; 0 to never stop "
        "early",
    )
    early_stopping_threshold: float = arg(
        0.0, "--early-stopping-threshold", "evaluation", "gain above which it counts as better"
    )
    load_best_model_at_end: bool = arg(
        True,
        "--keep-best",
        "evaluation",
        "export the weights with the best validation metric, not the last ones",
    )
    freeze: bool = arg(False, "--freeze", "training", "train only the head, on frozen features")
    layer_decay: float | None = arg(
        None,
        "--layer-decay",
        "training",
        "factor of the learning rate from one layer to the one below it, such as 0.75",
    )
    reestimate_batch_norm: bool = arg(
        True,
        "--reestimate-batch-norm",
        "training",
        "before the first step, re-estimate the batch-norm statistics on whole training crops",
    )
    reinit_last_stage: bool = arg(
        False, "--reinit-last-stage", "training", "give the last stage random weights again"
    )
    augment: dict[str, Any] = arg(
        {}, "--augment", "data", "augmentation of the crops, such as mirror=0.5 zoom=0.1 jitter=0"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_layer_decay(self.layer_decay)


@dataclass(frozen=True, kw_only=True)
class FinetuneArguments(Arguments):
    """Which task is trained, from which initial weights, and on which labels."""

    task: str = arg("attributes", "--task", "task", "what is learnt", choices=list_downstream)
    task_kwargs: dict[str, Any] = arg(
        {}, "--task-kwargs", "task", "options of the task, such as columns=[hat,backpack]"
    )
    init: str = arg(
        "random",
        "--init",
        "model",
        "initial weights: random, timm[:tag], hf-hub:org/name, a folder, or a file (.safetensors, "
        ".pth)",
    )
    backbone: str | None = arg(
        None, "--backbone", "model", "timm's model name; only needed if --init does not include it"
    )
    backbone_kwargs: dict[str, Any] = arg(
        {}, "--backbone-kwargs", "model", "options of the model, such as drop_path_rate=0.1"
    )
    dataset: str | None = arg(
        None,
        "--dataset",
        "data",
        "Hub id, folder of images, parquet or arrow files, or save_to_disk folder; rendered people "
        "by default",
    )
    split: str | None = arg(
        None, "--split", "data", "training split; by default train, or the only one"
    )
    input_size: str | None = arg(
        None,
        "--input-size",
        "data",
        "height x width of the input; by default that of the initial weights, or 192x96",
    )
    fraction: float | None = arg(
        None,
        "--fraction",
        "data",
        "fraction of the labels to use; smaller fractions are subsets of larger ones",
    )
    shots: int | None = arg(
        None, "--shots", "data", "number of labelled crops per class, instead of --fraction"
    )
    subset_seed: int | None = arg(
        None,
        "--subset-seed",
        "data",
        "seed for the choice of labels that --fraction or --shots keeps",
    )
