"""An evaluation: accuracy on held-out crops, the health of the features, and the probe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from patchit_hf.common.draws import EVAL_SEED, Draws
from patchit_hf.common.progress import Progress
from patchit_hf.data.training_set import HeldOut
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchBatch, PatchTask
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.pretrain.batches import EVAL_BATCH, held_out_batches
from patchit_hf.pretrain.health import Answers
from patchit_hf.pretrain.probe import OnlineProbe
from patchit_hf.training import loop

MOST_CROPS, FEWEST_CROPS = 300, 32  # held-out crops that are asked by default
SHARE = 0.1  # of the patches that a run trains on: so many an evaluation asks about, at most


def crops_to_ask(args: TrainingArguments, task: PatchTask, inputs: int) -> int:
    """Return the number of held-out crops of an evaluation, if there are as many.

    Args:
        args: the number that was given, if one was.
        task: asks so many questions about a crop.
        inputs: that the whole run trains on.

    Example:
        >>> from patchit_hf import TrainingArguments, create_task
        >>> task = create_task("position")  # 18 questions about a crop
        >>> [crops_to_ask(TrainingArguments(), task, n) for n in (256, 18_000, 72_000)]
        [32, 100, 300]
    """
    if args.max_eval_crops is not None:
        return args.max_eval_crops
    share = int(SHARE * inputs / inputs_per_crop(task))
    return max(FEWEST_CROPS, min(MOST_CROPS, share))


def inputs_per_crop(task: PatchTask) -> int:
    """Return how many inputs of the backbone an evaluation makes of a crop."""
    crops = torch.zeros(2, 3, *task.canvas, dtype=torch.uint8)
    asked = task.sample_all(crops, Draws(EVAL_SEED, torch.arange(2)))
    return len(asked.inputs.flatten(0, -4)) // 2


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
        crops = self.held_out.crops
        batches = held_out_batches(crops, self.task, accelerator.device, rank, world)
        mine, shown = len(range(rank, len(crops), world)), accelerator.is_main_process
        hook = self.model.head.register_forward_pre_hook(
            lambda _, features: answers.keep(features[0])
        )
        try:
            with Progress("evaluating", mine, "crops", shown=shown, leave=False) as progress:
                counted = _counted(batches, mine, progress)
                values: dict[str, Any] = dict(
                    loop.evaluate(accelerator, self.prepared, counted, self.task.loss, answers.add)
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
            with Progress("probing", leave=False):
                values = self.probe(self.model, self.task, torch.device(self.accelerator.device))
            self.model.train(training)
        self.accelerator.wait_for_everyone()
        return values


def _counted(batches: Iterator[PatchBatch], crops: int, progress: Progress) -> Iterator[PatchBatch]:
    """Pass batches on, and count their crops once they are done."""
    for start, batch in zip(range(0, crops, EVAL_BATCH), batches, strict=True):
        yield batch
        progress.update(min(EVAL_BATCH, crops - start))
