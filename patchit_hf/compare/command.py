"""Compare initial weights on your labels: ``patchit compare``."""

from __future__ import annotations

import sys

from patchit_hf.common import cli
from patchit_hf.common.arguments import stated
from patchit_hf.common.config import write_args
from patchit_hf.common.console import as_command, say
from patchit_hf.compare.arguments import CompareArguments
from patchit_hf.finetune.arguments import FinetuningArguments
from patchit_hf.models.names import check_backbone, check_init

DESCRIPTION = """\
Finetune from several initial weights with the same budget, order and augmentation, and compare.

  patchit compare --task attributes --dataset ... --backbone resnet18 \\
      --init random --init timm --init runs/mine --fractions 0.05 0.2 1 --seeds 3

Each contender's learning rate is chosen on validation, from the same grid. Each chosen run uses the
test split once. The same command continues an interrupted comparison; finished runs are not
repeated."""
ARGUMENTS = (CompareArguments, FinetuningArguments)
PROG = "patchit compare"
# chosen on validation; a comparison has several runs, of which none is the one to push
WITHOUT = ("learning_rate", "push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision")


def run(argv: list[str] | None = None) -> int:
    """Compare as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    what, args = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG, without=WITHOUT)
    check_backbone(what.backbone)
    for source in what.init:
        check_init(source.partition("=")[2] or source)
    from patchit_hf.common.provenance import command
    from patchit_hf.compare.comparison import run_comparison

    result = run_comparison(what, args)
    files = result.save(command=command())
    arguments = stated(what, args, without=WITHOUT)
    write_args(result.folder, {**arguments, "output-dir": str(result.folder)}, PROG)
    sys.stdout.write(result.table())
    say(f"{result.folder}: {', '.join(file.name for file in files)}")
    return 0


main = as_command(run)
