"""The end of a run: how far a shortcut would have got, and the figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from patchit_hf.common.errors import one_line
from patchit_hf.common.progress import Progress
from patchit_hf.common.resources import ResourceError
from patchit_hf.data.training_set import HeldOut, Source
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.training.outcome import RunOutcome

logger = logging.getLogger(__name__)

AUDIT_CROPS = 2000
FEWEST_CROPS = 30  # held-out crops, below which an audit would be a matter of luck
FIGURES = "figures"


def wrap_up(
    outcome: RunOutcome,
    args: TrainingArguments,
    task: PatchTask,
    model: PatchTaskModel,
    source: Source,
    held_out: HeldOut | None,
    *,
    confusion: Tensor | None,
    trackers: Sequence[Any] = (),
) -> dict[str, Any]:
    """Audit a run and draw its figures.

    Args:
        outcome: of the training that has ended.
        args: whether to audit and to draw.
        task: the patch task.
        model: the trained model.
        source: the training crops.
        held_out: the held-out crops, or None.
        confusion: counts ``[classes, classes]`` of the last evaluation, true by predicted.
        trackers: Accelerate's; TensorBoard gets the figures, too.

    Returns:
        ``audit``, as JSON values, and ``figures``, the names of the files under ``figures/``;
        each only where it was made. A failure is logged: it is never worth a finished run.
    """
    notes: dict[str, Any] = {}
    if args.audit:
        try:
            with Progress("auditing"):
                notes |= _audit(outcome, task, source, held_out)
        except Exception as error:
            logger.warning("the audit failed: %s: %s", type(error).__name__, one_line(error))
    if args.figures:
        baselines = notes.get("audit", {}).get("baselines", {})
        crops = None if held_out is None else held_out.crops
        try:
            with Progress("drawing figures"):
                notes |= _draw(outcome, task, model, crops, confusion, baselines, trackers)
        except ResourceError as error:
            logger.warning("the figures could not be drawn: %s", error)
        except Exception as error:
            logger.warning(
                "the figures could not be drawn: %s: %s", type(error).__name__, one_line(error)
            )
    return notes


def _audit(
    outcome: RunOutcome, task: PatchTask, source: Source, held_out: HeldOut | None
) -> dict[str, Any]:
    if held_out is None or len(held_out) < FEWEST_CROPS:
        logger.info("no shortcut audit: it needs at least %d held-out crops", FEWEST_CROPS)
        return {}
    from patchit_hf.audit import audit, report  # imports scikit-learn

    crops = torch.cat(list(source.sample(AUDIT_CROPS)))
    accuracy = None if task.beside else outcome.results.get("eval_accuracy")
    result = audit(task, crops, held_out.crops, network_accuracy=accuracy)
    report(result)
    return {"audit": result.to_json()}


def _draw(
    outcome: RunOutcome,
    task: PatchTask,
    model: PatchTaskModel,
    crops: Tensor | None,
    confusion: Tensor | None,
    baselines: dict[str, float],
    trackers: Sequence[Any],
) -> dict[str, Any]:
    from patchit_hf.figures import as_image, draw_figures, write_figures  # imports matplotlib

    figures = draw_figures(
        task,
        model,
        crops,
        confusion=confusion,
        entries=outcome.history,
        baselines=baselines,
        device=next(model.parameters()).device,
    )
    for tracker in trackers:
        if tracker.name == "tensorboard":
            for name, figure in figures.items():
                image = as_image(figure)
                tracker.writer.add_image(f"figures/{name}", image, outcome.steps, dataformats="HWC")
    return {"figures": [path.name for path in write_figures(outcome.folder / FIGURES, figures)]}
