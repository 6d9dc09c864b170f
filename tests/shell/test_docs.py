"""The page of the commands names each of them, with an example that it would take."""

import re
import shlex
from pathlib import Path

from patchit_hf.common import cli
from patchit_hf.shell.commands import COMMANDS

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def test_each_command_has_a_line_and_an_example_that_parses():
    rows = re.findall(r"^\| `(\w+)` \| .* \| `(patchit .*)` \|$", PAGE.read_text(), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(command.name for command in COMMANDS)
    modules = {command.name: command.load() for command in COMMANDS}
    for name, example in rows:
        _, typed, *words = shlex.split(example)
        module = modules[name]
        assert typed == name
        cli.parse("", words, *module.ARGUMENTS, prog=name, without=getattr(module, "WITHOUT", ()))
