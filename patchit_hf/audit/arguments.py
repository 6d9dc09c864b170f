"""Which crops and which patch task are audited."""

from __future__ import annotations

from dataclasses import dataclass

from patchit_hf.common.arguments import arg
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.training.patch_data import PatchDataArguments


@dataclass(frozen=True, kw_only=True)
class AuditArguments(PatchDataArguments, DecodeArguments):
    """Arguments of an audit; flags are spelt as in pretraining."""

    max_eval_crops: int = arg(300, "--max-eval-crops", "data", "held-out crops used")
    seed: int = arg(42, "--seed", "data", "seed of the order in which a stream is read")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("max_eval_crops", 1)
        self._check_whole("seed", 0)
