"""Compare initial weights on your labels: ``python -m patchit_hf.compare``."""

from __future__ import annotations

import sys

from patchit_hf.common import cli
from patchit_hf.common.console import guarded, say
from patchit_hf.compare.arguments import CompareArguments
from patchit_hf.finetune.arguments import FinetuningArguments

DESCRIPTION = """\
Finetune from several initial weights with the same budget, order and augmentation, and compare.

  python -m patchit_hf.compare --task attributes --dataset ... --backbone resnet18 \\
      --init random --init timm --init runs/mine --fractions 0.05 0.2 1 --seeds 3

Each contender's learning rate is chosen on validation, from the same grid. Each chosen run uses the
test split once. The same command continues an interrupted comparison; finished runs are not
repeated."""


def run(argv: list[str] | None = None) -> int:
    """Compare as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    what, args = cli.parse(
        DESCRIPTION, argv, CompareArguments, FinetuningArguments, prog="patchit_hf.compare"
    )
    from patchit_hf.common.provenance import command
    from patchit_hf.compare.comparison import run_comparison

    result = run_comparison(what, args)
    files = result.save(command=command())
    sys.stdout.write(result.table())
    say(f"{result.folder}: {', '.join(file.name for file in files)}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input is one line on stderr and exit code 2."""
    return guarded(run, argv)
