"""``patchit tasks``: what ``--task`` accepts, and the options of a task."""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchit_hf import downstream, patch_tasks
from patchit_hf.common import cli
from patchit_hf.common.arguments import Arguments, arg
from patchit_hf.common.console import as_command

DESCRIPTION = """\
List the tasks of pretraining and of finetuning, or the options of one of them.

  patchit tasks
  patchit tasks position"""
PROG = "patchit tasks"


def every_task() -> list[str]:
    """Return the names of all tasks and of their presets."""
    return [*patch_tasks.list_tasks(), *downstream.list_downstream()]


@dataclass(frozen=True, kw_only=True)
class TasksArguments(Arguments):
    """Which task is shown.

    Raises:
        InputError: for an unknown task.
    """

    task: str | None = arg(
        None, "[TASK]", "task", "show the options of this task", choices=every_task
    )


ARGUMENTS = (TasksArguments,)


def listed() -> list[str]:
    """Return a line for each task, under the command that takes it."""
    found = []
    for package, command in ((patch_tasks, "pretrain"), (downstream, "finetune")):
        names = [name for name in every_task() if _file(package, name).is_file()]
        width = max(map(len, names))
        found.append(f"patchit {command} --task")
        found += [f"  {name:{width}}  {_headline(package, name)}" for name in names]
    presets = [n for n in patch_tasks.list_tasks() if patch_tasks.canonical_name(n) != n]
    kinds = ", ".join(f"{name} ({patch_tasks.canonical_name(name)})" for name in presets)
    return [*found, f"presets: {kinds}", "options of one: patchit tasks position"]


def described(name: str) -> list[str]:
    """Return what a task does, and each of its options with its default."""
    if name in downstream.list_downstream():
        task: Any = downstream.task_class(name)
        lines, command = [_headline(downstream, name)], "finetune"
        known = inspect.signature(task.from_dataset).parameters
        options = {key: p.default for key, p in known.items() if p.kind == p.KEYWORD_ONLY}
    else:
        module = patch_tasks.canonical_name(name)
        lines, command = [_headline(patch_tasks, module)], "pretrain"
        options = patch_tasks.create_task(name).kwargs
    width = max(map(len, options), default=0)
    lines.append(f"patchit {command} --task {name} --task-kwargs KEY=VALUE ...")
    return lines + [f"  {key:{width}}  {value}" for key, value in sorted(options.items())]


def _file(package: Any, name: str) -> Path:
    return Path(package.__path__[0], f"{name}.py")


def _headline(package: Any, name: str) -> str:
    """Return the first line of a task's docstring without importing it, which imports torch."""
    text = ast.get_docstring(ast.parse(_file(package, name).read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ").replace("``", "")


def run(argv: list[str] | None = None) -> int:
    """List tasks, or the options of one.

    Returns:
        The exit code.

    Raises:
        InputError: for an unknown task.
    """
    (what,) = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    lines = described(what.task) if what.task else listed()
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


main = as_command(run)
