"""Full bodies by default; ``--preset all`` is what it was, and goes on with what was begun."""

import json

import pytest
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.crops import CropOptions, main

BOXES = {
    "full": "60,40,110,160", "small": "120,40,150,100", "cut": "0,40,48,150",
    "behind": "200,40,250,150", "before": "215,60,275,180", "beside": "280,40,328,150",
}  # fmt: skip


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    Image.effect_noise((400, 200), 60).convert("RGB").save("images/a.png")
    lines = "\n".join(f"a.png,{box},person" for box in BOXES.values())
    (tmp_path / "b.csv").write_text(f"image,x0,y0,x1,y1,label\n{lines}\na.png,1,1,9,99,dog\n")

    def run(*words, output="out"):
        return main(
            ["--detections", "b.csv", "--images", "images", "--output", output, "--workers", "0",
             "--validation", "0", *words]
        )  # fmt: skip

    return run


def report(folder):
    return json.loads((folder / "report.json").read_text())["boxes"]


def kept(folder):
    rows = [json.loads(line)["row"] for line in (folder / "dropped.jsonl").read_text().splitlines()]
    return [name for row, name in enumerate(BOXES, 1) if row not in rows]


def test_full_bodies_by_default(command, tmp_path, capsys):
    assert command() == 0
    assert kept(tmp_path / "out") == ["full", "before", "beside"]
    assert report(tmp_path / "out")["reasons"] == {
        "class": 1, "too short": 1, "covered": 1, "cut": 1,
    }  # fmt: skip
    lines = capsys.readouterr().err.splitlines()
    start = lines.index("out: 3 crops from 7 boxes")
    assert lines[start + 1 : start + 6] == [
        "  dropped, class: 1 (dog: 1)",
        "  dropped, too short: 1",
        "  dropped, covered: 1",
        "  dropped, cut: 1",
        "  full bodies are kept; --preset all keeps small, cut and overlapping people too",
    ]
    card = (tmp_path / "out/README.md").read_text()
    assert (
        "Boxes from 96 px high were kept. Those of which another person's box covers more" in card
    )
    assert "They changed: version 0.1\nkept boxes from 50 px, cut and overlapping ones too" in card
    assert "| dropped, class: its class is not a person (dog: 1) | 1 |" in card


def test_all_is_what_it_was(command, tmp_path, capsys):
    assert command("--preset", "all") == 0
    assert kept(tmp_path / "out") == list(BOXES)
    assert "full bodies are kept" not in capsys.readouterr().err
    card = (tmp_path / "out/README.md").read_text()
    assert "Boxes from 50 px high were kept. Overlapping ones were kept, and those that" in card
    assert "They changed" not in card
    assert command("--preset", "all", "--no-keep-cut", "--min-height", "70", output="two") == 0
    assert kept(tmp_path / "two") == ["full", "behind", "before", "beside"]
    assert command("--keep-cut", output="three") == 0
    assert kept(tmp_path / "three") == ["full", "cut", "before", "beside"]


def test_a_data_set_that_was_begun_with_the_old_defaults_goes_on(command, tmp_path, capsys):
    assert command("--preset", "all") == 0
    options = json.loads((tmp_path / "out/report.json").read_text())["options"]
    assert "preset" not in options
    old = {"min_height": 50.0, "max_overlap": 1.0, "keep_cut": True}
    assert {key: options[key] for key in old} == old
    before = (tmp_path / "out/report.json").read_bytes()
    assert command("--preset", "all") == 0
    assert (tmp_path / "out/report.json").read_bytes() == before
    assert command() == 2
    assert "holds a data set of other options" in capsys.readouterr().err


def test_nobody_left_says_how_to_keep_them(command, capsys):
    assert command("--min-height", "96", "--max-height", "100") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: none of the 7 boxes gave a crop; dropped: class 1, too short 1, too tall 5 (full "
        "bodies are kept; --preset all keeps small, cut and overlapping people too)"
    )


def test_a_preset_that_does_not_exist():
    with pytest.raises(InputError, match="--preset 'half': must be one of full-bodies, all"):
        CropOptions(preset="half")
