"""What a kind of training says of itself: what it has to define, and what it may add."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from patchit_hf.training.loop import Part
from patchit_hf.training.run_data import RunData


def parameters_of(network: nn.Module) -> str:
    """Return a network's number of parameters in words.

    Example:
        >>> parameters_of(nn.Linear(999, 1000))
        '1.0 M parameters'
    """
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f} M parameters"


class Hooks(ABC):
    """The methods of a trainer that differ between pretraining and finetuning.

    Attributes:
        data: what is trained on; a subclass opens it.
    """

    data: RunData

    @abstractmethod
    def save_pretrained(self, folder: str | Path | None = None) -> Path:
        """Export the trained model; the run's own folder by default."""

    @abstractmethod
    def _parts(self, start: int) -> Iterator[Part]:
        """Yield this process's inputs and targets from a step on, for ever."""

    @abstractmethod
    def _loss(self, output: Any, targets: Tensor) -> dict[str, Tensor]:
        """Return ``loss`` and metrics of a batch, each a scalar."""

    @abstractmethod
    def _evaluated(self) -> dict[str, Any]:
        """Return an evaluation, with ``eval_`` before each name; empty without held-out crops."""

    def _header(self) -> list[str]:
        """Return lines about data, network and task, which a run begins with."""
        return []

    def _resumed(self, checkpoint: Path) -> None:
        """See the checkpoint that has just been read, on the main process."""

    def _begin(self, start: int) -> None:
        """Get ready before the first step; the run's folder is there."""

    def _before_step(self, step: int) -> None:
        """See a step's gradients."""

    def _also_evaluates(self, done: int) -> bool:
        """Whether another evaluation than that of ``--eval-every`` is due after a step."""
        return False

    def _also_evaluated(self) -> dict[str, Any]:
        """Return the values of such an evaluation."""
        return {}

    def _after_evaluation(self) -> None:
        """See an evaluation that has just been recorded."""

    def _after_save(self, done: int) -> None:
        """See a checkpoint that has just been written, on the main process."""

    def _end(self) -> None:
        """Finish the run before it is exported."""

    def _abort(self) -> None:
        """Tidy up after an error or an interrupt."""
