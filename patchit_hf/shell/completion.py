"""``patchit completion bash|zsh|fish``: a script that completes commands, flags and values."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from patchit_hf.common import cli
from patchit_hf.common.arguments import Arguments, arg, choices_of
from patchit_hf.common.console import as_command
from patchit_hf.common.errors import InputError

DESCRIPTION = """\
Print a script that completes the commands, the flags and their values.

  patchit completion bash > ~/.local/share/bash-completion/completions/patchit
  patchit completion zsh > ~/.zfunc/_patchit       (a folder of $fpath)
  patchit completion fish > ~/.config/fish/completions/patchit.fish"""
PROG = "patchit completion"
SHELLS = ("bash", "zsh", "fish")
FILES = {  # flags and arguments that are files or folders
    "config", "dataset", "detections", "image_list", "init", "model", "output",
    "images", "output_dir", "resume_from_checkpoint", "run", "runs", "draw", "test_dataset",
    "folder",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CompletionArguments(Arguments):
    """For which shell.

    Raises:
        InputError: for a shell that is not known.
    """

    shell: str = arg("", "SHELL", "shell", "bash, zsh or fish")

    def __post_init__(self) -> None:
        if self.shell not in SHELLS:
            raise InputError(f"SHELL {self.shell!r}: must be one of {', '.join(SHELLS)}")


ARGUMENTS = (CompletionArguments,)


def whole_parser() -> argparse.ArgumentParser:
    """Return a parser with every command below it."""
    import shtab

    from patchit_hf.shell.commands import COMMANDS

    whole = argparse.ArgumentParser(prog="patchit", allow_abbrev=False)
    below = whole.add_subparsers()
    for command in COMMANDS:
        module = command.load()
        options: Any = {"without": getattr(module, "WITHOUT", ())}
        name = f"patchit {command.name}"
        parser = cli.build_parser(module.DESCRIPTION, *module.ARGUMENTS, prog=name, **options)
        fields = cli.fields_of(*module.ARGUMENTS, **options)
        for name, action in parser.by_field.items():
            item = fields.get(name, (None,))[0]
            if item is not None and choices_of(item):
                action.choices = choices_of(item)
            elif name in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        below.add_parser(command.name, help=command.summary, parents=[parser], add_help=False)
    return whole


def run(argv: list[str] | None = None) -> int:
    """Print the script.

    Returns:
        The exit code.

    Raises:
        InputError: for an unknown shell, or without shtab.
    """
    (what,) = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    if find_spec("shtab") is None:
        raise InputError("patchit completion: needs shtab; pip install shtab")
    import shtab

    sys.stdout.write(shtab.complete(whole_parser(), what.shell) + "\n")
    return 0


main = as_command(run)
