"""Write the model card of a run: ``patchit card RUN --output FOLDER``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from patchit_hf.common import cli
from patchit_hf.common.arguments import Arguments, arg
from patchit_hf.common.console import as_command

DESCRIPTION = """\
Write the model card of a finished run, with the figures that it shows.

  patchit card runs/mine                    (into runs/mine/README.md)
  patchit card runs/mine --output model_cards/mine"""
PROG = "patchit card"


@dataclass(frozen=True, kw_only=True)
class CardArguments(Arguments):
    """Whose card is written, and where to."""

    folder: str = arg("", "RUN", "what", "a finished run's folder")
    output: str | None = arg(
        None, "--output", "output", "folder for the card and its figures; by default the run's own"
    )


ARGUMENTS = (CardArguments,)


def run(argv: list[str] | None = None) -> int:
    """Write the card.

    Returns:
        The exit code.

    Raises:
        InputError: for a folder that holds no finished run.
    """
    (what,) = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    from patchit_hf.publish.model_card import write_card

    sys.stdout.write(f"{write_card(Path(what.folder), Path(what.output or what.folder))}\n")
    return 0


main = as_command(run, "repeat the command to start over")


if __name__ == "__main__":
    sys.exit(main())
