"""The pages of commands and fields say what the dataclasses say, and no page is out of reach."""

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from patchit_hf.common.cli import fields_of
from patchit_hf.patch_tasks import list_tasks
from patchit_hf.shell.commands import COMMANDS

pytest.importorskip("mkdocs")
yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/tools/reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_commands_page_has_each_flag_once(command, reference):
    text, module = reference.command_page(command), command.load()
    assert text.startswith(f"# patchit {command.name}\n")
    fields = fields_of(*module.ARGUMENTS, without=getattr(module, "WITHOUT", ()))
    rows = re.findall(r"^\| `([^`]+)` \|", text, re.M)
    assert sorted(rows) == sorted(item.metadata["flag"] for item, _ in fields.values())


def test_rows_are_right(reference):
    pages = {command.name: reference.command_page(command) for command in COMMANDS}
    assert "| `--learning-rate` |  | peak learning rate; by default 4e-3" in pages["pretrain"]
    assert "| `--batch-size` | `256` | inputs of the backbone" in pages["pretrain"]
    assert "| `--figures` | `true` | draw figures/" in pages["pretrain"]
    assert "(`--no-figures` turns it off)" in pages["pretrain"]
    assert "(`raise`, `skip`) |" in pages["evaluate"]
    assert "| `--batch-size` | `train_batch_size` | whole number | `256` | yes |" in (
        reference.fields_page()
    )


def test_every_field_has_a_row(reference):
    text = reference.fields_page()
    for command in COMMANDS:
        for cls in command.load().ARGUMENTS:
            part = text.split(f"\n## {cls.__name__}\n")[1].split("\n## ")[0]
            for item in dataclasses.fields(cls):
                assert f"| `{item.metadata['flag']}` | `{item.name}` |" in part


def test_every_task_has_its_options(reference):
    text = reference.task_options()
    assert all(f"| `{name}` |" in text for name in list_tasks())
    assert re.search(r"\| `pt8` \| .*`cols=2`.*`rows=4`", text)


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(text)["nav"]
    for page in (ROOT / "docs").glob("*.md"):
        assert f": {page.name}\n" in yaml.safe_dump(nav) or f"'{page.name}'" in str(nav), page.name


def test_short_code_does_not_break_and_nothing_else_changes(reference):
    text = "With `a long command --flag path/to/crops`, where `--dry-run`\nsays `x`, `a\nb`."
    wanted = text.replace("`--dry-run`", "`--dry-run`{ .short }").replace("`x`", "`x`{ .short }")
    assert reference.SPAN.sub(reference._unbroken, text) == wanted


def test_the_navigation_leaves_out_pages_to_come(reference, monkeypatch):
    pages = {"How to": [{"Get": "here.md"}, {"Soon": "soon.md"}], "Reference": [{"Commands": []}]}
    config = SimpleNamespace(docs_dir=str(ROOT / "docs"), nav=[{"Home": "index.md"}, pages])
    monkeypatch.setattr(reference, "TO_COME", {"soon.md"})
    reference.on_config(config)
    assert pages["How to"] == [{"Get": "here.md"}]
    assert {"pretrain": "commands/pretrain.md"} in pages["Reference"][0]["Commands"]
