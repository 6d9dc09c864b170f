"""Arguments of pretraining: the network, the data, the task, and how it is trained."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import Self

from patchit_hf.common.arguments import arg
from patchit_hf.common.config import recipes
from patchit_hf.common.errors import InputError
from patchit_hf.training.arguments import LoopArguments
from patchit_hf.training.patch_data import PatchDataArguments

# Defaults that depend on the initial weights, for random ones and for others: LEARNING_RATE is that
# of the trials with ImageNet's weights.
DEFAULT_BACKBONE = "resnet18"
RECIPES = Path(__file__).with_name("recipes")  # YAML, as --config reads it
LEARNING_RATE = {"random": 4e-3, "other": 1e-3}


def recipe_for(values: dict[str, Any]) -> str | None:
    """Return the recipe of a command that names neither one nor a task, but initial weights.

    Args:
        values: what the command line and ``--config`` say, by field.

    Example:
        >>> recipe_for({"init": "timm"}), recipe_for({"init": "timm", "task": "position"})
        ('adapt', None)
        >>> recipe_for({"init": "timm", "task_kwargs": {"light": 0}})  # joined with the recipe's
        'adapt'
    """
    given = values.get("init", "random") != "random"
    return "adapt" if given and "task" not in values else None


@dataclass(frozen=True, kw_only=True)
class TrainingArguments(LoopArguments):
    """Arguments that say how pretraining runs; see each field's help.

    Raises:
        InputError: for a value that is out of range; the message names the flag.

    Example:
        >>> TrainingArguments().settled(random=False).learning_rate
        0.001
    """

    learning_rate: float | None = arg(
        None,
        "--learning-rate",
        "training",
        "peak learning rate; by default 4e-3 from random initial weights, 1e-3 from others",
    )
    layer_decay: float | None = arg(
        None,
        "--layer-decay",
        "training",
        "factor of the learning rate from one layer to the one below it, such as 0.8",
        later=True,
    )
    freeze_stages: int = arg(
        0,
        "--freeze-stages",
        "training",
        "keep the stem and this many stages after it as they are (of a vision transformer: blocks)",
        later=True,
    )
    keep_initial: float = arg(
        0.0,
        "--keep-initial",
        "training",
        "share of the initial weights in the result, mixed in after the last step; 0.5 keeps much "
        "of what they knew and most of what was learnt",
        later=True,
    )
    max_eval_crops: int | None = arg(
        None,
        "--max-eval-crops",
        "evaluation",
        "number of held-out crops to evaluate on; every question about each is asked. By default "
        "300, and fewer in a short run: a tenth of the patches that it trains on",
        identity=False,
    )
    probe_column: str | None = arg(
        None,
        "--probe-column",
        "evaluation",
        "label column for probing frozen features of whole crops with kNN and a linear classifier",
        identity=False,
    )
    probe_steps: float = arg(
        0.2,
        "--probe-every",
        "evaluation",
        "steps between probes; below 1, a fraction of the run; 0 to probe only at the end",
        identity=False,
    )
    audit: bool = arg(
        True,
        "--audit",
        "evaluation",
        "at the end, measure how far colours, edges and border pixels alone get",
        identity=False,
    )
    figures: bool = arg(
        True, "--figures", "output", "draw figures/*.png at the end", identity=False
    )
    resume_from_checkpoint: str | None = arg(
        None,
        "--resume",
        "output",
        "checkpoint to continue from: a folder or hub:org/name@revision; a run in --output-dir is "
        "continued automatically",
        identity=False,
    )
    hub_include_people: bool = arg(
        False,
        "--hub-include-people",
        "hub",
        "also upload the figures that show single people from your crops",
        identity=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_eval_crops is not None:
            self._check_whole("max_eval_crops", 1)
        self._check_number("probe_steps", positive=False)
        self._check_whole("freeze_stages", 0)
        self._check_layer_decay(self.layer_decay)
        if not 0 <= self.keep_initial < 1:
            raise self._error("keep_initial", "a number from 0 to below 1")
        if self.keep_initial and self.early_stopping_patience:
            raise InputError(
                f"--keep-initial {self.keep_initial:g}: is not possible with "
                "--early-stopping-patience, which may end a training before its last step"
            )

    def settled(self, *, random: bool) -> Self:
        """Return these arguments with the defaults for what a training starts from.

        Args:
            random: whether the initial weights are random.

        Raises:
            InputError: if random weights were to be kept.
        """
        if self.keep_initial and random:
            raise InputError(
                f"--keep-initial {self.keep_initial:g}: there is nothing to keep in random weights;"
                " give --init, such as --init timm"
            )
        if self.learning_rate is not None:
            return self
        rate = LEARNING_RATE["random" if random else "other"]
        return dataclasses.replace(self, learning_rate=rate)


@dataclass(frozen=True, kw_only=True)
class PretrainArguments(PatchDataArguments):
    """What is pretrained, on which crops, and by which task.

    Example:
        >>> PretrainArguments(backbone="resnet50").task
        'position'
    """

    backbone: str | None = arg(
        None,
        "--backbone",
        "model",
        "name of any timm model, without a tag; by default that of an export given as --init, and "
        "resnet18 without --init; needed with --init timm or a file of weights",
    )
    init: str = arg(
        "random",
        "--init",
        "model",
        "initial weights: random, timm[:tag], hf-hub:org/name, a folder, or a file (.safetensors, "
        ".pth)",
    )
    recipe: str | None = arg(
        None,
        "--recipe",
        "model",
        "task and settings for a purpose, for use with --init; flags beside it win. adapt (the "
        "default with --init, unless --task is given) is for finetuning, embed for retrieval "
        "without labels. Measured on PETA, from ImageNet's weights, with mobilenetv2_100 and "
        "tf_efficientnet_lite0: adapt wins 0.8 and 1.4 points on attributes, and 3 and 10 in "
        "finding the same person (7 and 9 minutes of a CPU core); embed wins 16 and 12 there (14 "
        "and 12 minutes)",
        identity=False,
        choices=lambda: recipes(RECIPES),
    )
    backbone_kwargs: dict[str, Any] = arg(
        {}, "--backbone-kwargs", "model", "options of the model, such as drop_path_rate=0.1"
    )
    dry_run: bool = arg(
        False,
        "--dry-run",
        "output",
        "run every stage with a few crops and steps, and estimate the time of the full run",
        identity=False,
    )

    @property
    def named_backbone(self) -> str | None:
        """The network's name; None where the initial weights bring it, or it has to be given."""
        return self.backbone or (DEFAULT_BACKBONE if self.init == "random" else None)


def default_folder(backbone: str, task: str, data: str, init: str) -> str:
    """Return the folder of a run that names none.

    Args:
        backbone: the network's name.
        task: the task's name, or that of the recipe.
        data: name of the data set.
        init: the initial weights.

    Example:
        >>> default_folder("resnet18", "position", "../people", "timm:a1_in1k")
        'runs/resnet18-position-people-from-timm-a1_in1k'
    """
    name = f"{backbone}-{task}-{Path(data).name or 'data'}"
    if init != "random":
        start = re.sub(r"[^\w.-]+", "-", Path(init).name).strip("-")
        name += f"-from-{start.removesuffix('.safetensors')}"
    return str(Path("runs") / name)
