"""Arguments of pretraining: the network, the data, the task, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patchit_hf.common.arguments import arg
from patchit_hf.training.arguments import LoopArguments, PatchDataArguments


@dataclass(frozen=True, kw_only=True)
class TrainingArguments(LoopArguments):
    """Arguments that say how pretraining runs; see each field's help.

    Raises:
        InputError: for a value that is out of range; the message names the flag.
    """

    max_eval_crops: int = arg(
        300,
        "--max-eval-crops",
        "evaluation",
        "number of held-out crops to evaluate on; every question about each is asked",
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
        self._check_whole("max_eval_crops", 1)
        self._check_number("probe_steps", positive=False)


@dataclass(frozen=True, kw_only=True)
class PretrainArguments(PatchDataArguments):
    """What is pretrained, on which crops, and by which task.

    Example:
        >>> PretrainArguments(backbone="resnet50").task
        'position'
    """

    backbone: str = arg("resnet18", "--backbone", "model", "name of any timm model, without a tag")
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
