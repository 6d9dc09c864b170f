"""What LightlyTrain is asked for; the runs need its environment, which no test makes."""

import argparse
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import lightly


def _settings(**changes):
    given = {
        "method": "simclr", "backbone": "resnet10t", "canvas": "128x64", "max_steps": 190,
        "batch_size": 128, "learning_rate": None, "smallest": None, "mixed_precision": "bf16",
        "seed": 7,
    }  # fmt: skip
    return lightly.settings(argparse.Namespace(**given | changes), crops=8078)


def test_the_schedule_ends_where_the_budget_does():
    found = _settings()
    assert found["trainer_args"] == {"max_steps": 190}
    assert 190 <= found["epochs"] * (8078 // 128) < 190 + 8078 // 128
    assert _settings(max_steps=63)["epochs"] == 1


@pytest.mark.parametrize("method", ["simclr", "dino"])
def test_views_have_the_size_of_the_canvas_and_all_else_is_its_own(method):
    found = _settings(method=method)
    assert found["transform_args"]["image_size"] == [128, 64]
    assert ("local_view" in found["transform_args"]) == (method == "dino")
    assert "random_resize" not in found["transform_args"]
    assert found["optim_args"] is None
    assert (found["precision"], found["seed"]) == ("bf16-mixed", 7)
    found = _settings(method=method, learning_rate=0.1, smallest=0.4)
    assert found["optim_args"] == {"lr": 0.1}
    assert found["transform_args"]["random_resize"] == {"min_scale": 0.4, "max_scale": 1.0}
