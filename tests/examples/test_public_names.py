"""Examples use public names alone: those that ``patchit_hf`` and its packages offer."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import patchit_hf

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.rglob("*.py"))
COMMANDS = {"main", "run"}  # which take arguments as a list of strings


def offered(module: str) -> set[str]:
    """Return the public names of a package, without its modules; none of a module inside one."""
    package = importlib.import_module(module)
    if not hasattr(package, "__path__"):
        return set()
    modules = {found.name for found in pkgutil.iter_modules(package.__path__)}
    return {name for name in dir(package) if not name.startswith("_")} - modules - COMMANDS


def private_imports(source: str) -> list[str]:
    """Return what a file imports of this package and is not public."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
            found += [name for name, _ in names if name.startswith("patchit_hf.")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "patchit_hf":
            module = str(node.module)
            known = offered(module)
            found += [f"{module}.{a.name}" for a in node.names if a.name not in known]
    return found


def test_there_are_examples():
    assert {"action.py", "app.py", "pose_picture.py"} <= {file.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_examples_import_public_names_alone(file):
    assert private_imports(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("line", "private"),
    [
        ("from patchit_hf import load_crops", []),
        ("from patchit_hf.evaluate import evaluate", []),
        ("import patchit_hf", []),
        ("import patchit_hf.evaluate.command", ["patchit_hf.evaluate.command"]),
        ("from patchit_hf.data.canvas import to_canvas", ["patchit_hf.data.canvas.to_canvas"]),
        ("from patchit_hf.finetune import command", ["patchit_hf.finetune.command"]),
        ("from patchit_hf.finetune import main", ["patchit_hf.finetune.main"]),
        ("from patchit_hf import nothing", ["patchit_hf.nothing"]),
    ],
)
def test_what_counts_as_private(line, private):
    assert private_imports(line) == private


def test_every_public_name_is_there():
    packages = ["patchit_hf"]
    packages += [
        f"patchit_hf.{m.name}" for m in pkgutil.iter_modules(patchit_hf.__path__) if m.ispkg
    ]
    for package in packages:
        module = importlib.import_module(package)
        missing = [name for name in dir(module) if getattr(module, name, None) is None]
        assert [name for name in missing if not name.startswith("__")] == [], package
