"""Average the exports of several runs that share a start: ``patchit average``."""

from __future__ import annotations

import sys

from patchit_hf.average.arguments import AverageArguments
from patchit_hf.common import cli
from patchit_hf.common.arguments import stated
from patchit_hf.common.config import write_args
from patchit_hf.common.console import as_command, say, say_then

DESCRIPTION = """\
Average the weights of several pretrained backbones of one architecture that share a start.

  patchit average runs/a runs/b runs/c --output runs/abc --dataset path/to/crops

The runs may have learnt different tasks, but must have begun with the same weights: averages of
weights that began apart are no better than random ones. The result loads like any other export; it
has no head."""
ARGUMENTS = (AverageArguments,)
PROG = "patchit average"


def run(argv: list[str] | None = None) -> int:
    """Average as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    (what,) = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    from patchit_hf.common.progress import Progress

    with Progress("importing torch"):
        from patchit_hf.average.build import build_average
    with Progress("averaging"):
        folder = build_average(what)
    write_args(folder, stated(what), PROG)
    say(f"{folder}: the average of {len(what.runs)} backbones")
    say_then("finetune", "--init", str(folder))
    return 0


main = as_command(run, "the same command starts again")


if __name__ == "__main__":
    sys.exit(main())
