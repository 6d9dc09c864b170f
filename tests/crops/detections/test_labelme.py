"""LabelMe's JSON files, one an image."""

import json

import pytest

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections import read_detections
from tests.crops.detections.scenes import BOTH, CAR, GREEN, RED, cut, paint


def shape(points, label="person", kind="rectangle", group=None):
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}}


def document(shapes, image):
    return json.dumps(
        {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image,
         "imageData": "A" * 99, "imageHeight": 240, "imageWidth": 320}
    )  # fmt: skip


def corners(box):
    return [[box[2], box[1]], [box[0], box[3]]]  # LabelMe keeps the order in which they were set


def test_labels_beside_images_and_in_a_folder_of_their_own(tmp_path):
    shapes = [shape(corners(RED)), shape(corners(GREEN)), shape(corners(CAR), "car")]
    for name in ("day/a.jpg", "night/a.jpg"):
        paint(tmp_path / name)
        (tmp_path / name).with_suffix(".json").write_text(document(shapes, "a.jpg"))
    (tmp_path / "notes.json").write_text('{"info": 3}')
    found = read_detections(tmp_path)
    assert (found.kind, found.images) == ("labelme", ["day/a.jpg", "night/a.jpg"])
    assert found.sizes.tolist() == [[320, 240]] * 2
    crops, report = cut(found, tmp_path, tmp_path / "out")
    assert crops == [(f, *both) for f in ("day/a.jpg", "night/a.jpg") for both in BOTH]
    assert report["boxes"]["classes"] == {"car": 2}
    apart = tmp_path / "day/labels"
    apart.mkdir()
    (apart / "a.json").write_text(document(shapes, "..\\a.jpg"))
    assert read_detections(apart / "a.json").images == ["a.jpg"]
    (tmp_path / "day/a.json").unlink()
    (tmp_path / "night/a.json").unlink()
    assert read_detections(tmp_path).images == ["day/a.jpg"]


def test_a_path_of_another_machine(tmp_path):
    (tmp_path / "a.json").write_text(document([shape(corners(RED))], "C:\\Users\\me\\day\\a.jpg"))
    assert read_detections(tmp_path / "a.json").images == ["a.jpg"]


@pytest.mark.parametrize("name", ["new.png", "old.jpg"])
def test_a_file_that_was_renamed(tmp_path, name):
    paint(tmp_path / "images" / name)
    (tmp_path / "new.json").write_text(document([shape(corners(RED))], "old.jpg"))
    crops, _ = cut(read_detections(tmp_path / "new.json"), tmp_path / "images", tmp_path / "out")
    assert crops == [(name, "red", RED)]


def test_a_damaged_shape_is_left_out_and_reported(tmp_path):
    shapes = [shape(corners(RED)), shape([[1, "x"]]), shape(corners(GREEN))]
    paint(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(document(shapes, "a.jpg"))
    found = read_detections(tmp_path / "a.json")
    why = "a.json, shape 2: point 'x': must be a number"
    assert found.notes == (f"1 box cannot be read and is left out: {why}",)
    crops, report = cut(found, tmp_path, tmp_path / "out")
    assert crops == [("a.jpg", "red", RED), ("a.jpg", "green", GREEN)]
    assert report["boxes"]["reasons"] == {"not finite": 1}


SHAPES = [
    ([shape([[40, 140], [80, 90], [60, 40]], kind="polygon")], [RED]),
    ([shape([[60, 90], [60, 140]], kind="circle")], [(10, 40, 110, 140)]),
    ([shape([[40, 40], [80, 40], [80, 140], [40, 140]])], [RED]),
    ([shape([[40, 40], [60, 90]], group=1), shape([[50, 80], [80, 140]], group=1)], [RED]),
    ([shape([[40, 40], [60, 90]], group=1), shape([[50, 80], [80, 140]], "bag", group=1)],
     [(40, 40, 60, 90), (50, 80, 80, 140)]),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "expected"), SHAPES)
def test_every_shape_has_a_box(tmp_path, shapes, expected):
    (tmp_path / "a.json").write_text(document(shapes, "a.jpg"))
    assert read_detections(tmp_path).boxes.tolist() == [list(box) for box in expected]


def test_points_and_empty_shapes_are_counted(tmp_path):
    shapes = [shape(corners(RED)), shape([[5, 5]], kind="point"), shape([], kind="polygon")]
    paint(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(document(shapes, "a.jpg"))
    crops, report = cut(read_detections(tmp_path), tmp_path, tmp_path / "out")
    assert crops == [("a.jpg", "red", RED)]
    assert report["boxes"]["reasons"] == {"not finite": 1, "no area": 1}


BAD = [
    ('{"version": "5", "shapes": [', "a.json: is damaged: "),
    (document([3], "a.jpg"), "a.json, shape 1: must be an object with 'label' and 'points'"),
    (document([shape([[1, 2, 3]])], "a"), "a.json, shape 1: point [1, 2, 3]: must be two numbers"),
    (document([shape([["l", 2]])], "a"), "a.json, shape 1: point 'l': must be a number"),
    (document([], "a.jpg"), "--detections 'a.json': holds no box (read as labelme)"),
    ('{"version": "5", "shapes": {}}', "a.json: is not LabelMe; must be an object with 'shapes'"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_damaged_files(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError) as error:
        read_detections("a.json", "labelme")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
