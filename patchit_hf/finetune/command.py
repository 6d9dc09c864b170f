"""Finetune a backbone on labelled person crops: ``patchit finetune``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from patchit_hf.common import cli
from patchit_hf.common.console import as_command, say, say_then
from patchit_hf.finetune.arguments import FinetuneArguments, FinetuningArguments
from patchit_hf.finetune.build import build_trainer
from patchit_hf.models.names import check_backbone, check_init

if TYPE_CHECKING:
    from patchit_hf.finetune.trainer import FinetuneTrainer

DESCRIPTION = """\
Finetune a timm backbone on labelled person crops.

  patchit finetune --task attributes --init FOLDER_OR_HUB_ID --dataset ...
  patchit finetune --task reid --init random --backbone resnet18

The same command continues an interrupted run."""
ARGUMENTS = (FinetuneArguments, FinetuningArguments)
PROG = "patchit finetune"


def run(argv: list[str] | None = None) -> int:
    """Finetune as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    what, args = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    check_backbone(what.backbone)
    check_init(what.init)
    first = os.environ.get("RANK", "0") == "0"
    if args.push_to_hub and first:
        from patchit_hf.publish.access import check_push

        check_push(args.hub_model_id or "", private=args.hub_private_repo)
    opened = build_trainer(what, args)
    if isinstance(opened, Path):
        say(f"{opened}: this run is finished; its results are in {opened}/patchit.json")
        if args.push_to_hub and first:
            from patchit_hf.publish.run import push_finished

            push_finished(args, opened)
        return 0
    try:
        opened.train()
    finally:
        if opened.run.finished:  # even if the push failed afterwards
            _report(what, opened)
        opened.run.release()
    opened.accelerator.end_training()
    return 0


def _report(what: FinetuneArguments, trainer: FinetuneTrainer) -> None:
    from patchit_hf.metrics.names import short_name

    folder, results, metric = trainer.run.path, trainer.results(), trainer.task.primary_metric
    if f"eval_{metric}" in results:
        say(
            f"{folder}: validation {short_name(metric)} {results[f'eval_{metric}']:.1%} "
            f"(step {results['step']} of {trainer.max_steps})"
        )
    say(f'load it: patchit_hf.FinetunedModel.from_pretrained("{folder}")')
    if trainer.data.validation is not None:
        data = () if what.dataset is None else ("--dataset", what.dataset)
        column, urls = trainer.args.image_column, trainer.args.allow_urls
        more = (*(("--image-column", column) if column else ()), *(["--allow-urls"] * urls))
        say_then("evaluate", str(folder), *data, *more)


main = as_command(run)
