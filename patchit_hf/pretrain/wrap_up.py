"""The end of a run: what a shortcut would have reached, and the figures."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from patchit_hf.pretrain.trainer import PatchTaskTrainer

logger = logging.getLogger(__name__)

AUDIT_CROPS = 2000
FEWEST_CROPS = 30  # held-out crops, below which an audit would be a matter of luck
FIGURES = "figures"


def look_back(trainer: PatchTaskTrainer) -> dict[str, Any]:
    """Audit the run and draw its figures, on the main process.

    Args:
        trainer: whose training has ended.

    Returns:
        ``audit``, as JSON values, and ``figures``, the names of the files under ``figures/``;
        each only where it was made.
    """
    notes: dict[str, Any] = {}
    if trainer.args.audit:
        try:
            found = _audit(trainer)
        except Exception as error:  # a look back is never worth a finished run
            logger.warning("the audit failed: %s: %s", type(error).__name__, error)
        else:
            if found is not None:
                notes["audit"] = found
    if trainer.args.figures:
        baselines = notes.get("audit", {}).get("baselines", {})
        try:
            notes["figures"] = _draw(trainer, baselines)
        except Exception as error:  # nor is a picture
            logger.warning("the figures could not be drawn: %s: %s", type(error).__name__, error)
    return notes


def _audit(trainer: PatchTaskTrainer) -> dict[str, Any] | None:
    if trainer.held_out is None or len(trainer.held_out) < FEWEST_CROPS:
        logger.info("no shortcut audit: it needs at least %d held-out crops", FEWEST_CROPS)
        return None
    from patchit_hf.audit import audit, report  # brings scikit-learn along

    crops = torch.cat(list(trainer.source.sample(AUDIT_CROPS)))
    result = audit(
        trainer.task,
        crops,
        trainer.held_out.crops,
        network_accuracy=trainer.results().get("eval_accuracy"),
    )
    report(result)
    found: dict[str, Any] = result.to_json()
    return found


def _draw(trainer: PatchTaskTrainer, baselines: dict[str, float]) -> list[str]:
    if trainer.monitor is None:
        return []
    from patchit_hf.figures import as_image, draw_figures, write_figures  # brings matplotlib along

    figures = draw_figures(
        trainer.task,
        trainer.model,
        None if trainer.held_out is None else trainer.held_out.crops,
        confusion=trainer.evaluator.confusion,
        entries=trainer.monitor.history.entries,
        baselines=baselines,
        device=trainer.accelerator.device,
    )
    for tracker in trainer.accelerator.trackers:
        if tracker.name == "tensorboard":
            for name, figure in figures.items():
                tracker.writer.add_image(
                    f"figures/{name}", as_image(figure), trainer.monitor.done, dataformats="HWC"
                )
    return [path.name for path in write_figures(trainer.run.path / FIGURES, figures)]
