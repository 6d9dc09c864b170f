"""What a pretraining says before its first step: data, network and task."""

from __future__ import annotations

from dataclasses import dataclass

from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask, task_name
from patchit_hf.training.hooks import parameters_of


@dataclass(frozen=True)
class Asked:
    """Which crops are used.

    Attributes:
        name: name of the data.
        train: training crops, 0 for a stream.
        held_out: held-out crops that an evaluation asks about, 0 for none.
        all_held_out: that there are, 0 for a stream.
        bounded: whether the run's length bounds the number that is asked.
    """

    name: str
    train: int
    held_out: int
    all_held_out: int
    bounded: bool

    def line(self) -> str:
        """Return these numbers in words.

        Example:
            >>> Asked("people", 3600, 32, 400, bounded=True).line()
            'people, 3,600 crops; 32 of 400 held-out crops are asked, as the run is short'
        """
        train = f"{self.train:,} crops" if self.train else "a stream of crops"
        if not self.held_out:
            return f"{self.name}, {train}; none is held out"
        of = f" of {self.all_held_out:,}" if self.all_held_out > self.held_out else ""
        why = ", as the run is short" if of and self.bounded else ""
        return f"{self.name}, {train}; {self.held_out:,}{of} held-out crops are asked{why}"


def header(asked: Asked, model: PatchTaskModel, task: PatchTask) -> list[str]:
    """Return a line each about data, network and task."""
    start = "random" if model.origin is None else model.origin.init
    return [
        f"data: {asked.line()}",
        f"network: {model.spec.name}, {parameters_of(model.backbone)}, initial weights: {start}",
        f"task: {task_name(task)}, {task.num_classes:,} answers (chance {task.chance:.1%})",
    ]
