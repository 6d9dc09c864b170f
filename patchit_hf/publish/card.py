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
  patchit card runs/mine --output model_cards/mine
  patchit card runs/mine --compare runs/compare-attributes   (with what they were worth)"""
PROG = "patchit card"


@dataclass(frozen=True, kw_only=True)
class CardArguments(Arguments):
    """Whose card is written, and where to."""

    folder: str = arg("", "RUN", "what", "a finished run's folder")
    output: str | None = arg(
        None, "--output", "output", "folder for the card and its figures; by default the run's own"
    )
    compare: list[str] = arg(
        [],
        "--compare",
        "what",
        "folders of `patchit compare` in which these weights took part: what they say of them goes "
        "into the card, and into the run's patchit.json for every later card",
    )


ARGUMENTS = (CardArguments,)


def run(argv: list[str] | None = None) -> int:
    """Write the card.

    Returns:
        The exit code.

    Raises:
        InputError: for a folder that holds no finished run, or a comparison of other weights.
    """
    (what,) = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    from patchit_hf.publish.model_card import write_card

    folder, comparisons = Path(what.folder), [Path(name) for name in what.compare]
    file = write_card(folder, Path(what.output or folder), comparisons)
    sys.stdout.write(f"{file}\n")
    return 0


main = as_command(run, "repeat the command to start over")


if __name__ == "__main__":
    sys.exit(main())
