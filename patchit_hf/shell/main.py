"""``patchit COMMAND ...``."""

from __future__ import annotations

import sys

from patchit_hf.common.console import as_command
from patchit_hf.common.errors import InputError, did_you_mean
from patchit_hf.shell.commands import BY_NAME, COMMANDS

HELP = """\
usage: patchit COMMAND [options]

Pretrain a timm backbone on your own person crops without a label, and use it.

{commands}

  patchit COMMAND --help    its flags
  patchit --version         the version

Start with: patchit pretrain --backbone resnet18
"""


def help_text() -> str:
    """Return what ``patchit --help`` shows."""
    width = max(len(name) for name in BY_NAME)
    lines = [f"  {command.name:{width}}  {command.summary}" for command in COMMANDS]
    return HELP.format(commands="\n".join(lines))


def run(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: its name and its arguments; those of the process if None.

    Returns:
        The exit code.

    Raises:
        InputError: for a command that is not there.
    """
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(help_text())
        return 0
    if words[0] in ("-V", "--version"):
        from patchit_hf import __version__

        sys.stdout.write(f"patchit {__version__}\n")
        return 0
    if words[0] not in BY_NAME:
        raise InputError(_unknown(words[0]))
    return int(BY_NAME[words[0]].load().main(words[1:]))


def _unknown(word: str) -> str:
    if word.startswith("-"):
        return f"{word}: the command comes first; see patchit --help"
    hint = did_you_mean(word, BY_NAME)
    known = f" (commands: {', '.join(BY_NAME)})"
    return f"{word!r}: no such command{hint or known}"


main = as_command(run)
