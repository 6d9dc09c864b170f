"""Push a run's folder to the Hub: ``patchit push RUN org/name``."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from patchit_hf.common import cli
from patchit_hf.common.arguments import Arguments, arg
from patchit_hf.common.console import as_command

DESCRIPTION = """\
Push a run's folder to the Hub: its export, or else its newest checkpoint.

  patchit push runs/mine org/name
  patchit push runs/mine org/name --private --revision trial"""
PROG = "patchit push"


@dataclass(frozen=True, kw_only=True)
class PushArguments(Arguments):
    """What is pushed, and where to."""

    folder: str = arg("", "RUN", "what", "the run's folder")
    repo_id: str = arg("", "ORG/NAME", "what", "repository; created if missing")
    private: bool = arg(False, "--private", "hub", "the repository must be private")
    revision: str | None = arg(None, "--revision", "hub", "branch; created if missing")
    message: str | None = arg(None, "--message", "hub", "commit message")
    include_people: bool = arg(
        False,
        "--include-people",
        "hub",
        "also upload the figures that show single people from your crops",
    )


ARGUMENTS = (PushArguments,)


def run(argv: list[str] | None = None) -> int:
    """Push a folder as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input, or if the push fails.
    """
    (what,) = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    from patchit_hf.publish.upload import push_folder

    words = dict(vars(what))
    sys.stdout.write(push_folder(words.pop("folder"), words.pop("repo_id"), **words) + "\n")
    return 0


main = as_command(run, "the same command sends what is missing")


if __name__ == "__main__":
    sys.exit(main())
