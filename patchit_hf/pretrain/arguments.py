"""What is pretrained, on what, by which task, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patchit_hf.common.arguments import arg
from patchit_hf.training.arguments import LoopArguments, PatchDataArguments


@dataclass(frozen=True, kw_only=True)
class TrainingArguments(LoopArguments):
    """Arguments of pretraining; see each field's help.

    Raises:
        InputError: for a value that is out of range, named by its flag.
    """

    max_eval_crops: int = arg(
        300,
        "--max-eval-crops",
        "evaluation",
        "held-out crops used, every question of each",
        identity=False,
    )
    probe_column: str | None = arg(
        None,
        "--probe-column",
        "evaluation",
        "labelled column that frozen features of whole crops are probed on, by kNN and linearly",
        identity=False,
    )
    probe_steps: float = arg(
        0.2,
        "--probe-every",
        "evaluation",
        "steps between probes, or a share of the run below 1; 0 for the end alone",
        identity=False,
    )
    audit: bool = arg(
        True,
        "--audit",
        "evaluation",
        "at the end, see how far colours, edges and border pixels alone get",
        identity=False,
    )
    figures: bool = arg(
        True, "--figures", "output", "draw figures/*.png at the end", identity=False
    )
    resume_from_checkpoint: str | None = arg(
        None,
        "--resume",
        "output",
        "a checkpoint to go on from, a folder or hub:org/name@revision; a run in --output-dir is "
        "continued by itself",
        identity=False,
    )
    hub_include_people: bool = arg(
        False,
        "--hub-include-people",
        "hub",
        "upload the figures that show single people of your crops, too",
        identity=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("max_eval_crops", 1)
        self._check_number("probe_steps", positive=False)


@dataclass(frozen=True, kw_only=True)
class PretrainArguments(PatchDataArguments):
    """What is pretrained, on which crops, and by which task."""

    backbone: str = arg("resnet18", "--backbone", "model", "any model of timm's, without a tag")
    backbone_kwargs: dict[str, Any] = arg(
        {}, "--backbone-kwargs", "model", "its options, such as drop_path_rate=0.1"
    )
    dry_run: bool = arg(
        False,
        "--dry-run",
        "output",
        "go the whole way with a few crops and steps, and say what the full run would take",
        identity=False,
    )
