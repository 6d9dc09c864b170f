"""The layouts that docs/data-sets.md shows are read as it says."""

import re
from pathlib import Path

import pytest

from patchit_hf.data.source import open_splits
from tests.data.test_folders import fill

PAGE = Path(__file__).parents[2] / "docs" / "data-sets.md"
LAYOUT = re.compile(
    r"^### (?P<title>[^\n]+)\n.*?^```text\n(?P<files>.*?)^```\n\nRead as: (?P<splits>[^;]+); "
    r"columns (?P<columns>[^.]+)\.$",
    re.MULTILINE | re.DOTALL,
)
LAYOUTS = {match["title"]: match for match in LAYOUT.finditer(PAGE.read_text(encoding="utf-8"))}


def test_every_layout_is_found():
    assert len(LAYOUTS) == PAGE.read_text(encoding="utf-8").count("\n### ")


@pytest.mark.parametrize("title", LAYOUTS)
def test_a_layout_is_read_as_the_page_says(title, tmp_path):
    lines = LAYOUTS[title]["files"].splitlines()
    fill(tmp_path / "d", *(line for line in lines if ":" not in line and "txt" not in line))
    for line in lines:
        if ":" in line or line.endswith(".txt"):
            name, _, text = line.partition(": ")
            with (tmp_path / "d" / name).open("a") as file:
                file.write(f"{text}\n")
    splits = open_splits(str(tmp_path / "d"), people_in_names="Market" in title)
    said = (part.rsplit(" ", 1) for part in LAYOUTS[title]["splits"].split(", "))
    assert {name: len(rows) for name, rows in splits.items()} == {k: int(v) for k, v in said}
    columns = LAYOUTS[title]["columns"].split(", ")
    assert all(rows.column_names == columns for rows in splits.values())
