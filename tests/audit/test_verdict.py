import dataclasses
import json
import logging
from pathlib import Path

import datasets
import pytest
import torch

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.audit import Audit, audit, report
from patchit_hf.audit.command import main
from patchit_hf.common.errors import InputError
from patchit_hf.data.source import load_crops
from tests.audit.planted import (
    CANVAS,
    GRID,
    TRAIN,
    crops,
    framed,
    padded,
    people,
    shapes,
    stamped,
    textures,
)

REAL = Path(__file__).parents[3] / "shared" / "data" / "peta"


def _audit(images, network=None, canvas=CANVAS, grid=GRID, **options):
    pictures = crops(images)
    task = create_task("position", canvas, **grid, **options)
    return audit(task, pictures[:TRAIN], pictures[TRAIN:], network_accuracy=network)


def _train(folder, images, steps, canvas=CANVAS, **grid):
    """Pretrain as users do; the trainer audits at the end. Return its record and accuracy."""
    data = datasets.Dataset.from_dict({"image": images}).cast_column("image", datasets.Image())
    args = TrainingArguments(
        output_dir=str(folder), max_steps=steps, train_batch_size=64, learning_rate=1e-2,
        eval_steps=0, save_steps=0, figures=False,
    )  # fmt: skip
    trainer = PatchTaskTrainer(
        "test_resnet",
        args,
        create_task("position", canvas, **(grid or GRID)),
        data.select(range(TRAIN)),
        data.select(range(TRAIN, len(data))),
    )
    accuracy = trainer.train()["eval_accuracy"]
    return json.loads((folder / "patchit.json").read_text())["audit"], accuracy


def _warnings(caplog):
    lines = [record.getMessage() for record in caplog.records]
    return [line for line in lines if line.startswith("WARNING shortcut: ")]


@pytest.mark.e2e
def test_a_network_that_learnt_the_frame_is_caught(tmp_path, caplog):
    found, accuracy = _train(tmp_path / "run", framed(textures()), 60)
    assert accuracy > 0.35  # six times chance, and it knows nothing but the frame
    assert found["shortcut"] == "border_pixels"
    assert found["network"] == pytest.approx(accuracy, abs=1e-4)
    assert found["baselines"]["border_pixels"] == pytest.approx(accuracy, abs=0.08)
    (line,) = _warnings(caplog)
    assert line.startswith("WARNING shortcut: border_pixels alone is right in ")
    assert line.endswith("--canvas 125x62, which leaves out the crop's edge, closes it")


@pytest.mark.e2e
def test_a_network_that_learnt_the_time_stamp_is_caught(tmp_path, caplog):
    found, accuracy = _train(tmp_path / "run", stamped(textures()), 60)
    assert accuracy > 0.09  # one cell of 18, and the others guessed
    assert found["shortcut"] == "edge_energy"
    assert len(_warnings(caplog)) == 1


@pytest.mark.e2e
def test_a_network_that_learnt_the_padding_is_caught(tmp_path, caplog):
    found, accuracy = _train(tmp_path / "run", padded(people()), 60)
    assert accuracy > 1 / 6  # that is to know the column and to guess the row
    assert found["shortcut"] in ("edge_energy", "border_pixels")
    assert found["remedy"].startswith("--canvas 125x62, ")
    assert len(_warnings(caplog)) == 1


@pytest.mark.e2e
def test_a_network_that_learnt_shapes_is_not_blamed(tmp_path, caplog):
    grid = {"rows": 1, "cols": 2, "patch_size": 20, "jitter": 2}
    found, accuracy = _train(tmp_path / "run", shapes(), 60, (24, 44), **grid)
    assert accuracy > 0.9
    assert found["shortcut"] is None
    assert max(found["baselines"].values()) < 0.7
    assert _warnings(caplog) == []


@pytest.mark.e2e
@pytest.mark.parametrize("network", [None, 0.45])
def test_people_are_no_shortcut(network):
    found = _audit(people(), network)
    assert found.warning() is None
    assert 0.1 < max(found.baselines.values()) < 0.35


def test_a_hardly_trained_network_is_told_to_train_longer():
    found = _audit(people(), 0.2)
    assert found.warning().startswith(f"WARNING shortcut: {found.shortcut} alone is right in ")
    assert found.warning().endswith("; train longer (--epochs)")


@pytest.mark.e2e
@pytest.mark.parametrize("mark", [framed, padded])
def test_a_mark_is_found_where_the_network_knows_more(mark):
    """Its accuracy is far above the classifiers', and the mark is there all the same."""
    found = _audit(mark(people()), 0.95)
    assert found.baselines["border_pixels"] < 0.6
    assert found.shortcut == "border_pixels"
    assert found.classes
    assert found.finding.startswith("alone tells classes ")
    assert found.finding.endswith(" of the canvas) from the others")


@pytest.mark.e2e
def test_a_marked_cell_is_named():
    found = _audit(stamped(textures()), 0.95)
    assert found.classes == (0,)
    assert found.finding == "alone tells class 0 (x 1-17, y 2-18 of the canvas) from the others"
    assert found.remedy == "--canvas 125x62, which leaves out the crop's edge, closes it"


@pytest.mark.realdata
@pytest.mark.parametrize("mark", [None, framed, padded, stamped])
def test_real_crops(mark):
    if not REAL.is_dir():
        pytest.skip(f"no real crops at {REAL}")
    data = load_crops(str(REAL))
    held_out, train = data.held_out.select(range(300)), data.train.shuffle(0).select(range(1000))
    images = [i.convert("RGB").resize((100, 200)) for i in [*train["image"], *held_out["image"]]]
    pictures = crops(mark(images, 8) if mark is framed else mark(images) if mark else images)
    task = create_task("position")
    task = task.with_statistics((0.43, 0.42, 0.42), (0.23, 0.23, 0.23))
    found = audit(
        task, pictures[:1000], pictures[1000:], network_accuracy=0.45 if not mark else 0.7
    )
    marked = {None: None, framed: "border_pixels", padded: "border_pixels", stamped: "edge_energy"}
    assert found.shortcut == marked[mark]


@pytest.mark.parametrize("seed", range(3))
def test_few_crops_of_nothing_are_no_shortcut(seed):
    pictures = crops(textures(40, seed))
    task = create_task("position", CANVAS, **GRID)
    assert audit(task, pictures[:30], pictures[30:], seed=seed).warning() is None


@pytest.mark.e2e
def test_uneven_light_is_closed_by_standardising():
    light = torch.linspace(0.6, 1, 100)[:, None] * torch.linspace(0.8, 1, 50)
    pictures = (crops(textures()) * light).byte()
    task = create_task("position", CANVAS, **GRID)
    found = audit(task, pictures[:TRAIN], pictures[TRAIN:])
    assert found.remedy == "--task-kwargs standardize=true closes it"
    task = create_task("position", CANVAS, **GRID, standardize=True)
    assert audit(task, pictures[:TRAIN], pictures[TRAIN:]).warning() is None


@pytest.mark.e2e
def test_it_is_repeatable_and_its_record_is_json():
    one, two = _audit(textures()), _audit(textures())
    assert one == two
    record = json.loads(json.dumps(one.to_json()))
    assert record["baselines"].keys() == one.baselines.keys()
    assert record["classes"] == []
    assert record["chance"] == pytest.approx(1 / 18, abs=1e-4)


def test_the_table_and_the_line(caplog):
    healthy = Audit(0.25, 0.9, {"mean_colour": 0.3}, 10, 20)
    assert healthy.lines() == [
        "held-out accuracy of 20 answers",
        "  chance              25.0%",
        "  mean_colour         30.0%",
        "  network             90.0%",
    ]
    with caplog.at_level(logging.WARNING):
        report(healthy)
        report(dataclasses.replace(healthy, shortcut="mean_colour", finding="is it", remedy="so"))
    assert [record.getMessage() for record in caplog.records] == [
        "WARNING shortcut: mean_colour is it; so"
    ]


def test_bad_input_is_one_line():
    task, good = create_task("position", CANVAS, **GRID), crops(textures(4))
    with pytest.raises(InputError, match=r"^network_accuracy=1.5: must be from 0 to 1$"):
        audit(task, good, good, network_accuracy=1.5)
    for bad in (good.float(), good[0], good[:0], good[..., :40]):
        with pytest.raises(InputError, match=r"^held_out_crops: .* must be torch.uint8 \[N, 3, "):
            audit(task, good, bad)
    with pytest.raises(InputError, match=r"^train_crops: "):
        audit(task, good.float(), good)


@pytest.mark.e2e
def test_the_command_audits_a_data_set_without_a_network(crop_folder, capsys):
    words = ["--dataset", crop_folder, "--canvas", "50x25", "--task-kwargs", "rows=3", "cols=2"]
    assert main([*words, "patch_size=8", "jitter=2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[1:]] == [
        "chance", "mean_colour", "colour_histogram", "edge_energy", "border_pixels",
    ]  # fmt: skip
    assert main(["--dataset", "/nowhere/crops"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: --dataset ")
