"""The figures of claim.py's records: gains by hand, and both figures of the project's records."""

import sys
from pathlib import Path

import pytest
from PIL import Image

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))
import claim_plots  # noqa: E402


def _record(start, draw, **precisions):
    asked = {"start": start, "seed": 42, "draw": draw}
    return {"kind": "finetune", "asked": asked, "ap": precisions}


def test_gains_by_hand():
    records = [
        _record("mine", 0, hat=0.5, bag=0.3), _record("mine", 1, hat=0.7, bag=0.3),
        _record("imagenet", 0, hat=0.4, bag=0.4), _record("imagenet", 1, hat=0.4, bag=0.3),
        _record("imagenet", 2, hat=0.0, bag=0.0),
    ]  # fmt: skip
    fewer = _record("mine", 0, hat=0.0, bag=0.0)  # after a finetuning on fewer labels
    fewer["asked"]["column"] = "attributes-800"
    records.append(fewer)
    gains = claim_plots.gains_by_attribute(records, "mine")
    assert gains["hat"].pairs == pytest.approx((10.0, 30.0))
    assert gains["hat"].mean == pytest.approx(20.0)
    assert gains["bag"].mean == pytest.approx(-5.0)


def test_the_figures_of_the_records(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["claim_plots.py", "--output", str(tmp_path)])
    monkeypatch.chdir(FOLDER.parent)
    assert claim_plots.main() == 0
    for name in ("adapt-cost.png", "adapt-attributes.png"):
        drawn = Image.open(tmp_path / name).convert("L")
        assert drawn.width == 1000
        dark = sum(drawn.histogram()[:100])
        assert dark > 3000, "marks, lines and letters"
