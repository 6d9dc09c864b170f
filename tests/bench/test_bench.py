"""What ``patchit bench`` measures, and what it concludes from it."""

import json

import pytest

from patchit_hf.bench.arguments import BenchArguments
from patchit_hf.bench.bare import Turn
from patchit_hf.bench.command import main
from patchit_hf.bench.report import Report
from patchit_hf.common.errors import InputError


def report(**changed):
    """Two rounds of a network of 100 inputs a step: 1 s bare, 1.25 s in the trainer."""
    bare = Turn(100, 1.0, (0.3, 0.5, 0.2))
    values = {
        "backbone": "resnet18", "task": "position", "data": "people", "hardware": "CPU, 2 threads",
        "precision": "no", "optim": "muon", "inputs": 100, "crops": 100, "others": 0.0,
        "turns": {
            "trainer": [Turn(200, 2.5), Turn(200, 2.5)], "bare loop": [bare, bare],
            "cutting": [Turn(100, 0.05)] * 2, "loader": [Turn(100, 0.05)] * 2,
            "--mixed-precision bf16": [Turn(100, 0.6)] * 2, "--optimizer x": [Turn(100, 0.5)] * 2,
        },
        "waited": [0.3, 0.3], "steps": 1000, "asked": 5000, "threads": 2,
        "changes": {"--mixed-precision bf16": False, "--optimizer x": True}, **changed,
    }  # fmt: skip
    return Report(**values)


def test_the_parts_of_a_step_are_a_step():
    parts = report().parts()
    assert {name: round(seconds, 6) for name, seconds in parts.items()} == {
        "data": 0.1, "cutting": 0.05, "forward": 0.3, "backward": 0.5, "optimiser": 0.2,
        "the rest": 0.1,
    }  # fmt: skip
    assert sum(parts.values()) == pytest.approx(report().step) == pytest.approx(1.25)
    assert report().limit() == "the network"
    assert report(waited=[2.3, 2.3]).limit() == "data"


def test_the_gain_is_that_of_the_trainer_and_what_trains_alike_goes_first():
    found = report()
    assert found.ratio("trainer", "bare loop") == pytest.approx(0.8)
    assert found.gains() == pytest.approx(
        {"--mixed-precision bf16": 1.25 / 0.85, "--optimizer x": 1.25 / 0.75}
    )
    assert found.advice() == ("--mixed-precision bf16", pytest.approx(1.25 / 0.85))
    slow = {**found.turns, "--mixed-precision bf16": [Turn(100, 3.0)] * 2}
    assert report(turns=slow).advice()[0] == "--optimizer x"
    slow["--optimizer x"] = [Turn(100, 0.99)] * 2
    assert report(turns=slow).advice() is None
    assert report(turns=slow).lines()[-2].startswith("change nothing: no other setting is 5% fast")


def test_more_workers_save_what_the_data_take():
    found = report(waited=[2.1, 2.1])
    turns = {**found.turns, "loader with twice the workers": [Turn(100, 0.025)] * 2}
    gains = report(waited=[2.1, 2.1], turns=turns).gains()
    assert gains["--workers, twice as many"] == pytest.approx(1.25 / (1.25 - 0.5))


def test_the_planned_run_and_what_a_reader_sees():
    assert report().planned == pytest.approx((1250.0, 15.0))
    assert report(others=1.2).lines() == [
        "resnet18, position on people: 100 patches a step, CPU, 2 threads, float32, muon",
        "  bare loop        100 patches/s",
        "  trainer           80 patches/s, 0.80 of the bare loop",
        "  cutting        2,000 patches/s",
        "  loader         2,000 crops/s",
        "a step of 1.250 s: data 8%, cutting 4%, forward 24%, backward 40%, optimiser 16%, the "
        "rest 8%",
        "limit: the network",
        "change: --mixed-precision bf16, 1.47 times as fast as measured here (trains as before, "
        "but for rounding)",
        "planned run: 1,000 steps in 20 min 50 s, evaluations in 15 s; 0.70 core-hours",
        "other programs used 1.2 cores meanwhile: on a quiet machine it is faster",
    ]


@pytest.mark.e2e
@pytest.mark.parametrize("lazy", [False, True])
def test_the_command_measures_everything(lazy, crop_folder, capsys):
    words = [
        "--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "8", "--epochs", "10",
        "--task-kwargs", "rows=3", "cols=2", "patch_size=8", "jitter=2", "input_scale=4",
        "--dataset", crop_folder, "--seconds", "0.01", "--rounds", "1", "--json",
    ]  # fmt: skip
    assert main([*words, *(["--crop-cache-gb", "0", "--workers", "0"] if lazy else [])]) == 0
    found = json.loads(capsys.readouterr().out)
    rates = found["per_second"]
    assert {"bare loop", "trainer", "cutting", "loader", "decoder"} <= rates.keys()
    assert all(rate > 0 for rate in rates.values())
    assert {"--batch-size 16", "--task-kwargs input_scale=1"} <= rates.keys()
    assert ("loader with twice the workers" in rates) == lazy
    parts = found["parts_of_a_step"]
    assert min(parts.values()) >= 0 < min(parts["forward"], parts["backward"], parts["optimiser"])
    assert sum(parts.values()) > 0.99  # more, where a turn of the bare loop was a slow one
    assert found["planned"]["steps"] == 45  # 10 epochs of 36 crops, 8 a step
    assert found["inputs_per_step"] == 8


def test_bad_values_are_refused():
    with pytest.raises(InputError, match="--seconds 0: must be a finite number above 0"):
        BenchArguments(seconds=0)
    with pytest.raises(InputError, match="--rounds 0: must be a whole number of at least 1"):
        BenchArguments(rounds=0)
