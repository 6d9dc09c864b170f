"""An evaluation: accuracy on held-out crops, the health of the features, and the probe."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from patchit_hf.data.training_set import HeldOut
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.pretrain.batches import held_out_batches
from patchit_hf.pretrain.health import Answers
from patchit_hf.pretrain.probe import OnlineProbe
from patchit_hf.training import loop


class Evaluator:
    """Evaluates a model on the held-out crops.

    Args:
        accelerator: the accelerator.
        task: the task.
        model: the model itself.
        prepared: the model as the accelerator prepared it.
        held_out: the crops; None for no evaluation.
        probe: a probe on labels; None for none.

    Attributes:
        confusion: counts ``[classes, classes]`` of the last evaluation, true by predicted; None
            before the first.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        task: PatchTask,
        model: PatchTaskModel,
        prepared: nn.Module,
        held_out: HeldOut | None,
        probe: OnlineProbe | None,
    ) -> None:
        self.accelerator, self.task, self.model = accelerator, task, model
        self.prepared, self.held_out, self.probe = prepared, held_out, probe
        self.confusion: Tensor | None = None

    def __call__(self) -> dict[str, Any]:
        """Return loss, metrics and health, with ``eval_`` before each name."""
        if self.held_out is None:
            return {}
        accelerator = self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        answers = Answers(self.task, accelerator.device)
        batches = held_out_batches(self.held_out.crops, self.task, accelerator.device, rank, world)
        hook = self.model.head.register_forward_pre_hook(
            lambda _, features: answers.keep(features[0])
        )
        try:
            values: dict[str, Any] = dict(
                loop.evaluate(accelerator, self.prepared, batches, self.task.loss, answers.add)
            )
        finally:
            hook.remove()
        values |= answers.result(accelerator)
        values |= self._over_all(answers.collected)
        self.confusion = answers.confusion.cpu()
        return {f"eval_{name}": value for name, value in values.items()}

    def _over_all(self, collected: list[Tensor]) -> dict[str, float]:
        """Return the task's metrics over the held-out crops of all processes."""
        every = [part for part in gather_object(collected) if len(part)]
        return self.task.over_all(torch.cat(every)) if every else {}

    def probed(self) -> dict[str, float]:
        """Return the probe's figures on the main process, nothing elsewhere or without a probe."""
        if self.probe is None:
            return {}
        values: dict[str, float] = {}
        if self.accelerator.is_main_process:
            training = self.model.training
            values = self.probe(self.model, self.task, torch.device(self.accelerator.device))
            self.model.train(training)
        self.accelerator.wait_for_everyone()
        return values
