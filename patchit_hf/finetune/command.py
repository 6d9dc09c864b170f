"""Finetune a backbone on labelled person crops: ``python -m patchit_hf.finetune``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from patchit_hf.common import cli
from patchit_hf.common.console import guarded, say
from patchit_hf.finetune.arguments import FinetuneArguments, FinetuningArguments
from patchit_hf.finetune.build import build_trainer
from patchit_hf.metrics.names import short_name

if TYPE_CHECKING:
    pass

DESCRIPTION = """\
Finetune a timm backbone on labelled person crops.

  python -m patchit_hf.finetune --task attributes --init FOLDER_OR_HUB_ID --dataset ...
  python -m patchit_hf.finetune --task reid --init random --backbone resnet18

The same command continues an interrupted run."""


def run(argv: list[str] | None = None) -> int:
    """Finetune as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    what, args = cli.parse(
        DESCRIPTION, argv, FinetuneArguments, FinetuningArguments, prog="patchit_hf.finetune"
    )
    first = os.environ.get("RANK", "0") == "0"
    if args.push_to_hub and first:
        from patchit_hf.publish.access import check_push

        check_push(args.hub_model_id or "", private=args.hub_private_repo)
    opened = build_trainer(what, args)
    if isinstance(opened, Path):
        say(f"{opened}: this run is finished; its results are in {opened}/patchit.json")
        folder = opened
    else:
        results = opened.train()
        folder = opened.run.path
        key = f"eval_{opened.task.primary_metric}"
        if key in results:
            say(
                f"{folder}: validation {short_name(opened.task.primary_metric)} {results[key]:.1%} "
                f"(step {results['step']} of {opened.max_steps})"
            )
        opened.accelerator.end_training()
    say(f'load it: patchit_hf.FinetunedModel.from_pretrained("{folder}")')
    if args.push_to_hub and first:
        from patchit_hf.publish.hub import push_folder

        url = push_folder(
            str(folder),
            args.hub_model_id or "",
            private=args.hub_private_repo,
            revision=args.hub_revision,
        )
        say(f"pushed: {url}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input is one line on stderr and exit code 2."""
    return guarded(run, argv)


if __name__ == "__main__":
    sys.exit(main())
