"""``patchit predict`` says of files, folders, rows and boxes what the model says of images."""

import csv
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from patchit_hf import FinetunedModel
from patchit_hf.downstream.results import AttributesResult, Keypoint, PoseResult
from patchit_hf.predict import predict
from patchit_hf.predict.drawing import picture_of
from patchit_hf.predict.given import Given, Person
from patchit_hf.shell.main import main


@pytest.fixture
def photos(tmp_path, labelled_people):
    """Six people as files: four in a folder and two in one below it."""
    rows = datasets.load_dataset(labelled_people, split="test").select(range(6))
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number, row in enumerate(rows):
        where = folder / "more" if number > 3 else folder
        row["image"].save(where / f"p{number}.png")
    return folder


def paths(photos):
    return sorted(map(str, photos.rglob("*.png")))


def test_attributes_of_a_folder_as_parquet(photos, finetuned, tmp_path, capsys):
    run, output = finetuned("attributes"), tmp_path / "found.parquet"
    capsys.readouterr()
    assert main(["predict", str(run), str(photos), "--output", str(output)]) == 0
    assert capsys.readouterr().err == f"{output}: 6 people\n"
    rows = pyarrow.parquet.read_table(output).to_pylist()
    model = FinetunedModel.from_pretrained(run)
    assert [row["file"] for row in rows] == paths(photos)
    for row in rows:
        result = model.predict(row["file"])
        for name, label in result.labels.items():
            assert row[name] == label
        for name, chance in result.probabilities.items():
            column = name if "=" in name else f"{name}_probability"
            assert row[column] == pytest.approx(chance, abs=1e-5)
    assert "frame" not in rows[0]  # nor what no person has


def test_lines_of_json_on_the_screen(photos, finetuned, capsys):
    run = finetuned("action")
    assert main(["predict", str(run), f"{photos}/p[01].png"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == [f"{photos}/p0.png", f"{photos}/p1.png"]
    result = FinetunedModel.from_pretrained(run).predict(f"{photos}/p1.png")
    assert lines[1]["label"] == result.label
    assert lines[1]["probabilities"] == pytest.approx(result.probabilities, abs=1e-5)


@pytest.mark.e2e
def test_joints_are_in_pixels_of_the_image_and_of_frames(photos, finetuned, tmp_path):
    run = finetuned("pose")
    with Image.open(photos / "p0.png") as person:
        frame = Image.new("RGB", (300, 260), (90, 90, 90))
        frame.paste(person, (150, 40))
        width, height = person.size
    frames = tmp_path / "frames"
    frames.mkdir()
    frame.save(frames / "f.png")
    (tmp_path / "boxes.csv").write_text(
        f"image,x0,y0,x1,y1,score,track\nf.png,150,40,{150 + width},{40 + height},0.9,7\n"
        f"f.png,10,10,60,110,0.3,8\n"
    )
    output = tmp_path / "found.csv"
    words = ["predict", str(run), str(frames), "--detections", str(tmp_path / "boxes.csv")]
    assert main([*words, "--min-score", "0.5", "--output", str(output)]) == 0
    with output.open() as file:
        (row,) = csv.DictReader(file)
    box = [150.0, 40.0, 150.0 + width, 40.0 + height]
    assert [float(row[c]) for c in ("x0", "y0", "x1", "y1", "box_score")] == [*box, 0.9]
    assert row["track"] == "7"
    found = FinetunedModel.from_pretrained(run).predict(frame, boxes=box)
    for joint, point in found.keypoints.items():
        column = joint.replace(" ", "_")
        assert float(row[f"{column}_x"]) == pytest.approx(point.x, abs=1e-2)
        assert float(row[f"{column}_y"]) == pytest.approx(point.y, abs=1e-2)


def test_embeddings_of_identities(photos, finetuned, tmp_path):
    run = finetuned("reid")
    found = predict(run, [photos / "p0.png", photos / "more"])
    assert [answer.about["file"] for answer in found] == [
        f"{photos}/p0.png", f"{photos}/more/p4.png", f"{photos}/more/p5.png",
    ]  # fmt: skip
    found.save(tmp_path / "found.parquet")
    (first, *_) = pyarrow.parquet.read_table(tmp_path / "found.parquet")["embedding"].to_pylist()
    wanted = FinetunedModel.from_pretrained(run).predict(photos / "p0.png").embedding
    np.testing.assert_allclose(first, wanted, atol=1e-5)


def test_rows_of_a_data_set(finetuned, labelled_people):
    found = predict(finetuned("action"), labelled_people, split="test", batch_size=16)
    assert [answer.about["row"] for answer in found] == list(range(60))
    assert {answer.about["split"] for answer in found} == {"test"}
    every = Given([labelled_people])
    assert sum(1 for _ in every) == 200 + 60 + 20 + 60


@pytest.mark.e2e
def test_pictures_of_what_was_found(photos, finetuned, tmp_path):
    for task in ("attributes", "pose"):
        drawn = tmp_path / task
        found = predict(finetuned(task), photos, draw=drawn)
        assert found.drawn == 6
        assert sorted(file.name for file in drawn.iterdir()) == [f"p{i}.png" for i in range(6)]
        with Image.open(drawn / "p0.png") as picture:
            assert picture.height >= 560


def test_there_is_nothing_to_draw_of_an_embedding(photos, finetuned, tmp_path, capsys):
    words = ["predict", str(finetuned("reid")), str(photos), "--draw", str(tmp_path / "drawn")]
    assert main(words) == 2
    assert "\nerror: --draw: this model finds no labels" in "\n" + capsys.readouterr().err


def test_a_picture_shows_the_joints_where_they_are():
    image = Image.new("RGB", (100, 600), (0, 0, 0))
    result = PoseResult({"left knee": Keypoint(20, 30, 0.9), "right knee": Keypoint(70, 400, 0.1)})
    picture = picture_of(image, [(Person("a", image), result)])
    assert picture.size == (100, 600)
    assert picture.getpixel((20, 30)) == (0, 170, 255)
    assert picture.getpixel((70, 400)) == (0, 0, 0)  # not sure: hollow
    assert picture.getpixel((73, 400)) == (255, 165, 0)


def test_a_panel_names_the_labels_beside_a_whole_image():
    image = Image.new("RGB", (100, 600), (0, 0, 0))
    result = AttributesResult({"hat": True}, {"hat": 0.5})
    picture = picture_of(image, [(Person("a", image), result)])
    assert picture.width == 100 + 320 + 12
    assert picture.getpixel((100 + 12 + 20, 12 + 9)) == (68, 119, 180)
    assert picture.getpixel((100 + 12 + 50, 12 + 9)) == (255, 255, 255)


def test_bad_images_stop_or_are_left_out(photos, finetuned, tmp_path, capsys):
    (photos / "p1.png").write_bytes(b"no picture")
    words = ["predict", str(finetuned("action")), str(photos), "--output"]
    output = str(tmp_path / "found.json")
    assert main([*words, output]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {photos}/p1.png: ")
    assert line.endswith("(--on-bad-image skip leaves it out)\n")
    assert not Path(output).exists()
    assert main([*words, output, "--on-bad-image", "skip"]) == 0
    assert "left out: 1 images or boxes" in capsys.readouterr().err
    assert len(json.loads(Path(output).read_text())) == 5


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nothing.jpg"], "IMAGES 'nothing.jpg': no such file or folder"),
        (["*.nothing"], "IMAGES '*.nothing': matches no file"),
        (["x.jpg", "--output", "a.txt"], "--output 'a.txt': must end in .parquet, .csv or .json"),
        ([], "IMAGES is needed: "),
    ],
)
def test_wrong_words(words, line, finetuned, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(finetuned("action")), *words]) == 2
    assert capsys.readouterr().err.startswith(f"error: {line}")


def test_a_file_that_is_nearly_there(photos, finetuned, capsys):
    assert main(["predict", str(finetuned("action")), f"{photos}/p0.pgn"]) == 2
    assert capsys.readouterr().err.endswith(f"did you mean {photos}/p0.png?\n")
