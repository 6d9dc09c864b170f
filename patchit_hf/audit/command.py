"""Audit a data set and a task before any training: ``patchit audit``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from patchit_hf.audit.arguments import AuditArguments
from patchit_hf.common import cli
from patchit_hf.common.console import as_command
from patchit_hf.common.errors import InputError

if TYPE_CHECKING:
    from patchit_hf.audit.verdict import Audit

DESCRIPTION = """\
Measure how far mean colour, colour histogram, edges and border pixels alone get in a patch task.

  patchit audit --dataset FOLDER_OR_HUB_ID
  patchit audit --dataset FOLDER_OR_HUB_ID --task-kwargs standardize=true

The flags are spelt as in pretraining, so that you can audit a data set and a task before you train.
Those about the network and its training do not exist here."""
ARGUMENTS = (AuditArguments,)
PROG = "patchit audit"


def audit_dataset(args: AuditArguments) -> Audit:
    """Audit a data set and a patch task, without a network.

    Args:
        args: which crops, and which task.

    Raises:
        InputError: for bad input, or if no crops are held out.
    """
    import torch

    from patchit_hf.audit.verdict import TRAIN_CROPS, audit
    from patchit_hf.data.choices import parse_canvas
    from patchit_hf.data.source import load_crops
    from patchit_hf.data.training_set import open_held_out, open_training, statistics
    from patchit_hf.patch_tasks import create_task

    task = create_task(args.task, parse_canvas(args.canvas), **args.task_kwargs)
    crops = load_crops(
        args.dataset,
        split=args.split,
        image_column=args.image_column,
        streaming=args.streaming,
        allow_urls=args.allow_urls,
    )
    held_out = open_held_out(
        crops.held_out,
        args,
        task.canvas,
        name=f"{crops.name} (held out)",
        limit=args.max_eval_crops,
    )
    if held_out is None:
        raise InputError(f"--dataset {crops.name!r}: no crops are held out; an audit needs some")
    source = open_training(
        crops.train, args, task.canvas, name=f"{crops.name} ({crops.split})", seed=args.seed
    )
    task = task.with_statistics(*statistics(source, task.covered))
    return audit(task, torch.cat(list(source.sample(TRAIN_CROPS))), held_out.crops)


def run(argv: list[str] | None = None) -> int:
    """Print the table on stdout and a warning on stderr.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    (args,) = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    from patchit_hf.common.progress import Progress

    with Progress("importing torch"):
        from patchit_hf.audit.verdict import report
    with Progress("auditing"):
        found = audit_dataset(args)
    sys.stdout.write("\n".join(found.lines()) + "\n")
    report(found)
    return 0


main = as_command(run, "repeat the command to start over")
