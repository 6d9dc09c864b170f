"""The examples in docstrings run, and print what they say."""

import doctest
import importlib
import re
from pathlib import Path

import datasets
import pytest

import patchit_hf
from patchit_hf.downstream import list_downstream, task_class
from patchit_hf.patch_tasks import canonical_name, list_tasks
from tests.conftest import PEOPLE

ROOT = Path(patchit_hf.__file__).parent
PROMPT = re.compile(r"^\s*>>> ", re.MULTILINE)


def _with_examples():
    """Return the name of every module with an example, and the number of its statements."""
    found = {}
    for file in sorted(ROOT.rglob("*.py")):
        count = len(PROMPT.findall(file.read_text(encoding="utf-8")))
        if count:
            parts = file.relative_to(ROOT.parent).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = count
    return found


EXAMPLES = _with_examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", PEOPLE["cache"])
    module, report = importlib.import_module(name), []
    runner, ran = doctest.DocTestRunner(), 0
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(test, out=report.append)
        ran += len(test.examples)
    assert not report, "".join(report)
    assert ran == EXAMPLES[name], "an example stands where doctest does not look"


def test_every_task_has_an_example():
    tasks = [
        importlib.import_module(f"patchit_hf.patch_tasks.{name}").Task
        for name in sorted({canonical_name(name) for name in list_tasks()})
    ]
    tasks += [task_class(name) for name in list_downstream()]
    assert [task.__module__ for task in tasks if ">>>" not in (task.__doc__ or "")] == []
