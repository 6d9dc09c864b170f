"""docs/formats.md: every example is read by the package and gives what the page says."""

import re
import runpy
from pathlib import Path

import pytest

from patchit_hf import load_crops
from patchit_hf.common.errors import InputError
from patchit_hf.crops.choices import FORMATS
from patchit_hf.crops.detections import read_detections
from patchit_hf.crops.detections.detect import list_formats
from tests.crops.detections.scenes import RED, cut, paint

PAGE = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(text|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^==> (.*) <==$")
LINES = 6  # of an example, but for the names of its files


def sections(title):
    """Return the parts of a chapter by their headings."""
    chapter = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    first, *parts = re.split(r"^### ", chapter, flags=re.MULTILINE)
    return first, {part.partition("\n")[0]: part for part in parts}


def examples(title):
    """Return (heading, number, language, text) of every example of a chapter."""
    return [
        pytest.param(heading, language, text, id=f"{heading} {number}")
        for heading, part in sections(title)[1].items()
        for number, (language, text) in enumerate(BLOCK.findall(part), 1)
    ]


def files_in(text):
    """Return the files of an example: their text by name, None for an image."""
    files, name = {}, ""
    for line in text.splitlines(keepends=True):
        match = FILE.match(line.strip())
        if match:
            name = match[1]
            files[name] = None if name.endswith(".jpg") else ""
        else:
            files[name] += line
    return files


def length(text):
    """Return the number of lines, without blank ones and the comment that names a file."""
    return sum(
        bool(line.strip()) and not re.match(r"# \S+\.\w+", line) for line in text.splitlines()
    )


def rows_of_table(title):
    table = re.findall(r"^\| (.*?) \|$", sections(title)[0], re.MULTILINE)
    return [re.split(r"\s*\|\s*", row) for row in table[1:]]


def anchor(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_the_table_of_boxes_has_every_format_and_links_to_its_examples():
    kinds = {row[1].strip("` "): row for row in rows_of_table("Boxes") if row[1].strip("` ")}
    assert sorted(kinds) == sorted(FORMATS) == sorted(form.name for form in list_formats())
    headings = {anchor(heading): part for heading, part in sections("Boxes")[1].items()}
    for row in rows_of_table("Boxes"):
        for link in re.findall(r"\(#(.*?)\)", row[-1]):
            assert BLOCK.search(headings[link]), f"{link} has no example"
    assert len(re.findall(r"\(#", sections("Boxes")[0])) == len(headings)


@pytest.mark.parametrize(("heading", "language", "text"), examples("Boxes"))
def test_an_example_of_boxes(tmp_path, monkeypatch, heading, language, text):
    monkeypatch.chdir(tmp_path)
    kinds = {row[0].lower(): row[1].strip("` ") for row in rows_of_table("Boxes")}
    found = written(text, tmp_path) if language == "text" else made(text, tmp_path)
    images = tmp_path / "train.parquet" if "holds the images" in text else tmp_path
    assert found.kind == (kinds[heading.lower()] or "supervision")
    crops, report = cut(found, images, tmp_path / "out")
    assert [crop[1:] for crop in crops] == [("red", RED)]
    assert report["boxes"]["in_all"] == 1


def written(text, folder):
    files = files_in(text)
    labels = {name: content for name, content in files.items() if content is not None}
    assert sum(map(length, labels.values())) <= LINES
    for name, content in labels.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    images = [name for name, content in files.items() if content is None] or ["a.jpg"]
    for name in images:
        paint(folder / name, [("red", RED)])
    alone = len(labels) == 1 and "/" not in next(iter(labels))
    return read_detections(folder / next(iter(labels)) if alone else folder)


def made(text, folder):
    """Run a program that writes the file which its first line names, or that makes boxes."""
    assert length(text) <= LINES
    paint(folder / "a.jpg", [("red", RED)])
    (folder / "example.py").write_text(text, encoding="utf-8")
    names = runpy.run_path(str(folder / "example.py"))
    (folder / "example.py").unlink()
    return names.get("found") or read_detections(folder / text.split()[1])


def test_the_table_of_data_sets_links_to_its_examples():
    headings = {
        anchor(heading): part for heading, part in sections("Data sets of crops")[1].items()
    }
    links = re.findall(r"\(#(.*?)\)", sections("Data sets of crops")[0])
    assert sorted(links) == sorted(headings)
    assert all(BLOCK.search(part) for part in headings.values())


@pytest.mark.parametrize(("heading", "language", "text"), examples("Data sets of crops"))
def test_an_example_of_a_data_set(tmp_path, monkeypatch, heading, language, text):
    monkeypatch.chdir(tmp_path)
    part = sections("Data sets of crops")[1][heading]
    said = part[: part.index(text)].rpartition("```\n\n")[2]
    columns = re.findall(r"`(\w+)`", re.search(r"Columns: (.*?)\.", said)[1])
    if language == "text":
        count = laid_out(text)
    else:
        assert length(text) <= LINES
        for number in range(12):
            paint(f"images/{number:02d}.jpg", [("red", RED)])
        Path("crops").mkdir()
        exec(compile(text, "example", "exec"), {})
        count = 12
    crops = load_crops("crops", people_in_names="--task reid" in said)
    assert sorted(crops.train.column_names) == sorted(columns)
    sides = [side for side in (crops.train, crops.held_out) if side is not None]
    assert sum(map(len, sides)) == count
    if language == "text" and "val/" in text:
        assert (len(crops.held_out), crops.held_out_from) == (4, "validation split")
    size = (100, 200) if "patchit crops" in heading else (320, 240)
    assert {row[crops.image_column].size for side in sides for row in side} == {size}


def laid_out(text):
    """Write the files of an example, and return the number of images."""
    count = 0
    for name, content in files_in(text).items():
        start, numbers, end = re.fullmatch(r"(.*?)(?:\{(\d+\.\.\d+)\})?([^{}]*)", name).groups()
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            Path(name).write_text(content, encoding="utf-8")
            continue
        first, last = numbers.split("..")
        for number in range(int(first), int(last) + 1):
            paint(f"{start}{number:0{len(first)}d}{end}", [("red", RED)])
            count += 1
    return count


@pytest.mark.parametrize(("heading", "language", "text"), examples("Boxes"))
def test_a_damaged_example_of_boxes_is_one_line_or_is_read(tmp_path, heading, language, text):
    """Each file is cut off at many places, and each of its values replaced by others."""
    if language == "python":
        pytest.skip("a program")
    labels = {name: text for name, text in files_in(text).items() if text is not None}
    name, whole = max(labels.items(), key=lambda item: len(item[1]))
    values = list(re.finditer(r"-?\d+(?:\.\d+)?|\"[^\"]*\"|>[^<>]+<", whole))[::3]
    damaged = [whole[: len(whole) * part // 5] for part in range(1, 5)] + [
        whole[: value.start()] + other + whole[value.end() :]
        for value in values for other in ("null", "x", "[]")
    ]  # fmt: skip
    for other, content in labels.items():
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_text(content, encoding="utf-8")
    alone = len(labels) == 1 and "/" not in name
    for content in damaged:
        (tmp_path / name).write_text(content, encoding="utf-8")
        try:
            said = str(len(read_detections(tmp_path / name if alone else tmp_path)))
        except InputError as error:
            said = str(error)
        assert said.count("\n") == 0
        assert said != "0"
