"""Draw the figures of a finished run again: ``patchit figures RUN``."""

from __future__ import annotations

from pathlib import Path

from patchit_hf.common import cli
from patchit_hf.common.console import as_command, say
from patchit_hf.figures.arguments import FiguresArguments

DESCRIPTION = """\
Draw the figures of a finished run: for the screen or for a paper.

Of a pretraining: its questions, answers, accuracy and learning curve; the nearest neighbours of
crops before and after it, and a map of their embeddings. Of a finetuning: neighbours and map, and
of re-identification whom it takes for whom. Figures that show people are not pushed to the Hub.

  patchit figures runs/mine
  patchit figures runs/mine --format pdf --style paper
  patchit figures runs/reid-people --dataset path/to/labelled --split test"""
ARGUMENTS = (FiguresArguments,)
PROG = "patchit figures"


def run(argv: list[str] | None = None) -> int:
    """Draw as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    (what,) = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    from patchit_hf.common.progress import Progress

    with Progress("importing torch"):
        from patchit_hf.figures.again import draw_again
        from patchit_hf.figures.files import write_figures
    with Progress("drawing figures"):
        figures = draw_again(what)
    base = Path(what.run) if Path(what.run).is_dir() else Path("runs") / Path(what.run).name
    folder = Path(what.output or base / ("figures" if what.style == "report" else "figures-paper"))
    files = write_figures(folder, figures, format=what.format, style_name=what.style)
    say(f"{folder}: {', '.join(file.name for file in files)}")
    return 0


main = as_command(run, "repeat the command to start over")
