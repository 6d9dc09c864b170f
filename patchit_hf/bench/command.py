"""Measure what limits a planned pretraining: ``patchit bench``."""

from __future__ import annotations

import json
import logging
import sys

from patchit_hf.bench.arguments import BenchArguments
from patchit_hf.common import cli
from patchit_hf.common.console import as_command, messages_from
from patchit_hf.models.names import check_backbone, check_init
from patchit_hf.pretrain.arguments import (
    RECIPES,
    PretrainArguments,
    TrainingArguments,
    recipe_for,
)

DESCRIPTION = """\
Measure what limits a pretraining on this machine, what to change, and how long the run would take.

  patchit bench --backbone resnet18
  patchit bench --backbone resnet18 --dataset FOLDER_OR_HUB_ID --epochs 50

The flags are those of pretraining: write bench for pretrain. Nothing is kept of what is trained."""
ARGUMENTS = (PretrainArguments, TrainingArguments, BenchArguments)
WITHOUT = (
    "dry_run", "output_dir", "push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision",
    "hub_include_people", "resume_from_checkpoint", "extend", "change", "allow_changed_data",
    "report_to", "save_steps", "save_minutes", "save_total_limit", "audit", "figures",
)  # fmt: skip
PROG = "patchit bench"


def run(argv: list[str] | None = None) -> int:
    """Measure, and write the result on stdout.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    what, args, how = cli.parse(
        DESCRIPTION,
        argv,
        *ARGUMENTS,
        prog=PROG,
        without=WITHOUT,
        recipes=RECIPES,
        recipe_for=recipe_for,
    )
    check_backbone(what.backbone)
    check_init(what.init)
    from patchit_hf.common.progress import Progress

    with Progress("importing torch"):
        from patchit_hf.bench.measure import bench
    with messages_from(logging.WARNING):  # a training says much
        report = bench(what, args, how.seconds, how.rounds)
    text = json.dumps(report.to_json(), indent=1) if how.json else "\n".join(report.lines())
    sys.stdout.write(f"{text}\n")
    return 0


main = as_command(run, "repeat the command to start over")
