"""Every block of code of README, CONTRIBUTING and the documentation is right, and is run.

Commands are parsed by the parser that they meet on the command line, and Python is compiled and its
imports looked up, in every run. Blocks are executed by ``run_pages.py``, on a few small crops and
with two steps: the README's by default, the others' among the slow tests. What stands behind
``<!-- not run: ... -->`` is not executed, for the reason given there.
"""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

from patchit_hf.common import cli
from patchit_hf.shell.commands import BY_NAME, COMMANDS
from tests.docs.pages import APART, CODE, PAGES, ROOT, blocks, commands, patchit, spans
from tests.hub.server import Hub

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

HERE = Path(__file__).parent
OTHERS = {  # commands of the blocks that are not ours
    "pip", "python", "pytest", "source", "bash", "pre-commit", "accelerate",
    "#SBATCH", "srun", "if", "then", "fi", "trtexec", "mkdocs",
}  # fmt: skip
NAMES = [page.name for page in PAGES]


def parsed(words):
    """Parse the words of a command as it would."""
    module = BY_NAME[words[0]].load()
    without = getattr(module, "WITHOUT", ())
    return cli.parse(
        module.DESCRIPTION, words[1:], *module.ARGUMENTS, prog=module.PROG, without=without
    )


def flags():
    """Return all flags of all commands."""
    found = {"--help", "--version", "--config"}
    for command in COMMANDS:
        module = command.load()
        for item, _ in cli.fields_of(*module.ARGUMENTS).values():
            flag = item.metadata["flag"]
            found |= {flag, flag.replace("--", "--no-", 1)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_are_understood(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for block in blocks(page):
        assert block.language in (*CODE, "", "text", "yaml", "json", "csv"), (page, block.line)
        for words in commands(block.text) if block.language == "bash" else ():
            ours = patchit(words)
            if ours is not None:
                assert parsed(ours), (page, block.line)
            else:
                assert words[0] in OTHERS, (page, block.line, words)
            for file in (w for w in words if re.match(r"(examples|benchmarks)/", w)):
                assert (ROOT / file).exists(), file


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_names_in_the_text_exist(page):
    """Commands and flags in the text; a line of another program is known by its first word."""
    known = flags()
    for span in spans(page):
        words = span.split()
        if words[0] == "patchit" and len(words) > 1 and not words[1].startswith("-"):
            assert words[1] in {*BY_NAME, "X", "NAME", "COMMAND"}, span
        if words[0] == "patchit" or words[0].startswith("--"):
            unknown = {w.split("=")[0] for w in words if w.startswith("--")} - known
            foreign = {"--num_processes", "--quiet", "--multi_gpu", "--cpu"}  # accelerate's
            assert unknown <= foreign | {"--list", "--run", "--plan"}, span  # the benchmarks'


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_compiles_and_its_names_exist(page):
    for block in blocks(page):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("patchit_hf"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, name.name) for name in node.names), (page, block.line)


def test_extras_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for page in PAGES:
        for names in re.findall(r"(?:patchit_hf|\.)\[([a-z,]+)\]", page.read_text("utf-8")):
            assert set(names.split(",")) <= set(project["optional-dependencies"]), page


def execute(hub: Hub, folder: Path, pages: list[Path]) -> None:
    """Execute the blocks of pages in a process of its own, against the loopback Hub."""
    argv = [sys.executable, str(HERE / "run_pages.py"), str(folder), *map(str, pages)]
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    shown = hub.run(argv, folder, cwd=folder, env=env, timeout=900).stdout
    wanted = sum(b.language in CODE and b.why is None for page in pages for b in blocks(page))
    assert shown.count("\nran: ") + shown.startswith("ran: ") == wanted, shown


@pytest.mark.e2e
def test_the_blocks_of_the_readme_run(hub: Hub, tmp_path):
    execute(hub, tmp_path, [ROOT / "README.md"])


@pytest.mark.slow
def test_the_blocks_of_all_other_pages_run(hub: Hub, tmp_path):
    execute(hub, tmp_path, [page for page in PAGES[1:] if page.name not in APART])
