"""Label Studio's JSON: tasks, annotations, predictions, and JSON-MIN."""

import json
import math

import numpy as np
import pytest

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections import read_detections
from tests.crops.detections.scenes import BOTH, CAR, GREEN, RED, cut, paint


def share(box):
    x0, y0, x1, y1 = box
    return {"x": x0 / 3.2, "y": y0 / 2.4, "width": (x1 - x0) / 3.2, "height": (y1 - y0) / 2.4}


def rectangle(box, label="person", **more):
    value = {**share(box), "rotation": 0, "rectanglelabels": [label]}
    return {"type": "rectanglelabels", "original_width": 320, "original_height": 240,
            "value": value, "id": f"{label} {box}", **more}  # fmt: skip


def task(image, *results, number=1, **more):
    return {"id": number, "annotations": [{"id": 1, "result": list(results), **more}],
            "file_upload": image, "data": {"image": image}, "predictions": []}  # fmt: skip


def in_pixels(found):
    return found.boxes_in(np.arange(len(found)), (320, 240)).round(6).tolist()


def write(path, value):
    path.write_text(json.dumps(value))
    return path


def test_an_export_with_uploaded_images(tmp_path):
    results = [rectangle(RED), rectangle(GREEN), rectangle(CAR, "car")]
    uploads = [f"/data/upload/3/{c * 8}-a {c}.jpg" for c in "bc"]
    tasks = [task(u, *results, number=i) for i, u in enumerate(uploads, 7)]
    file = write(tmp_path / "project-3.json", tasks)
    found = read_detections(file)
    assert found.kind == "labelstudio"
    assert found.images == ["bbbbbbbb-a b.jpg", "cccccccc-a c.jpg"]
    assert found.where(0) == "project-3.json, task 7, row 1"
    assert all(math.isnan(score) for score in found.score)
    paint(tmp_path / "exported/bbbbbbbb-a b.jpg")
    paint(tmp_path / "exported/cccccccc-a c.jpg")
    paint(tmp_path / "original/a b.jpg")
    paint(tmp_path / "original/a c.jpg")
    for folder in ("exported", "original"):
        crops, report = cut(found, tmp_path / folder, tmp_path / f"out-{folder}")
        files = sorted(path.name for path in (tmp_path / folder).iterdir())
        assert [crop[0] for crop in crops] == [file for file in files for _ in BOTH]
        assert [crop[1:] for crop in crops] == BOTH * 2
        assert report["boxes"]["classes"] == {"car": 2}


def test_two_uploads_of_one_name_are_not_confused(tmp_path):
    tasks = [task(f"/data/upload/3/{c * 8}-a.jpg", rectangle(RED)) for c in "bc"]
    found = read_detections(write(tmp_path / "p.json", tasks))
    paint(tmp_path / "images/a.jpg")
    paint(tmp_path / "images/z.jpg")
    with pytest.raises(InputError, match="holds none of the 2 images of the boxes"):
        cut(found, tmp_path / "images", tmp_path / "out")


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("/data/local-files/?d=day/a%201.jpg", "day/a 1.jpg"),
        ("https://example.org/bucket/day/a.jpg?sig=3", "bucket/day/a.jpg"),
        ("s3://bucket/day/a.jpg", "day/a.jpg"),
        ("day/a.jpg", "day/a.jpg"),
        ("C:\\day\\a.jpg", "C:/day/a.jpg"),
    ],
)
def test_where_the_image_is(tmp_path, stated, name):
    found = read_detections(write(tmp_path / "p.json", [task(stated, rectangle(RED))]))
    assert found.images == [name]


def test_json_min(tmp_path):
    shapes = [
        {**share(b), "rectanglelabels": ["person"], "original_width": 320, "original_height": 240}
        for b in (RED, GREEN)
    ]
    empty = {"id": 2, "image": "b.jpg", "annotator": 1}
    tasks = [{"id": 1, "image": "a.jpg", "label": shapes, "annotator": 1}, empty]
    paint(tmp_path / "images/a.jpg")
    found = read_detections(write(tmp_path / "p.json", tasks))
    assert found.kind == "labelstudio"
    crops, _ = cut(found, tmp_path / "images", tmp_path / "out")
    assert [crop[1] for crop in crops] == ["red", "green"]


def test_one_annotation_counts_and_the_others_are_reported(tmp_path):
    annotations = [
        {"result": [rectangle(CAR)], "was_cancelled": True},
        {"result": [rectangle(GREEN)]},
        {"result": [rectangle(RED)], "ground_truth": True},
    ]
    value = [{"id": 1, "data": {"image": "a.jpg"}, "annotations": annotations}]
    found = read_detections(write(tmp_path / "p.json", value))
    words = [found.labels[i] for i in found.label]
    assert sorted(zip(words, in_pixels(found), strict=True)) == [
        ("another annotation", list(GREEN)), ("person", list(RED)),
    ]  # fmt: skip


def test_predictions_only_where_nobody_annotated(tmp_path):
    predicted = {"id": 1, "data": {"image": "a.jpg"}, "annotations": [],
                 "predictions": [{"score": 0.75, "result": [rectangle(RED)]}]}  # fmt: skip
    found = read_detections(write(tmp_path / "p.json", [predicted]))
    assert found.score.tolist() == [0.75]
    found = read_detections(
        write(tmp_path / "q.json", [predicted, task("b.jpg", rectangle(GREEN))])
    )
    assert found.images == ["b.jpg"]


TURNED = {**share((100, 40, 140, 60)), "rotation": 90, "rectanglelabels": ["person"]}
SHAPES = [
    ({"value": TURNED}, (80, 40, 100, 80)),  # clockwise about its top left corner
    ({"value": {"points": [[10, 20], [30, 20], [20, 60]], "polygonlabels": ["person"]}},
     (32, 48, 96, 144)),
    ({"value": {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["person"]}},
     (128, 72, 192, 168)),
    ({"value": share(RED), "id": "y"}, RED),  # its label is a result of its own
]  # fmt: skip


@pytest.mark.parametrize(("shape", "expected"), SHAPES)
def test_every_shape_has_a_box(tmp_path, shape, expected):
    shape = {"original_width": 320, "original_height": 240, **shape}
    label = {"id": "y", "type": "labels", "value": {**share(RED), "labels": ["person"]}}
    label["value"] = {"labels": ["person"]}
    found = read_detections(write(tmp_path / "p.json", [task("a.jpg", shape, label)]))
    assert in_pixels(found) == [list(expected)]
    assert found.labels == ["person"]


def test_what_else_is_said_of_a_shape_is_no_other_person(tmp_path):
    first = rectangle(RED)
    choice = {**first, "type": "choices", "value": {**share(RED), "choices": ["running"]}}
    found = read_detections(write(tmp_path / "p.json", [task("a.jpg", choice, first)]))
    assert (len(found), found.labels) == (1, ["person"])


def test_one_task_a_file(tmp_path):
    paint(tmp_path / "images/a.jpg")
    paint(tmp_path / "images/b.jpg")
    (tmp_path / "tasks").mkdir()
    write(tmp_path / "tasks/1.json", task("a.jpg", rectangle(RED)))
    stored = {"id": 9, "result": [rectangle(GREEN)], "task": {"id": 2, "data": {"image": "b.jpg"}}}
    write(tmp_path / "tasks/2.json", stored)
    found = read_detections(tmp_path / "tasks")
    assert found.kind == "labelstudio"
    crops, _ = cut(found, tmp_path / "images", tmp_path / "out")
    assert crops == [("a.jpg", "red", RED), ("b.jpg", "green", GREEN)]


def test_a_turned_image_and_a_brush_are_reported(tmp_path):
    brush = {"value": {"format": "rle", "rle": [1, 2], "brushlabels": ["person"]}}
    results = [rectangle(RED), rectangle(GREEN, image_rotation=90), brush]
    found = read_detections(write(tmp_path / "p.json", [task("a.jpg", *results)]))
    paint(tmp_path / "images/a.jpg")
    crops, report = cut(found, tmp_path / "images", tmp_path / "out")
    assert [crop[1] for crop in crops] == ["red"]
    assert report["boxes"]["reasons"] == {"not finite": 1, "class": 1}
    assert report["boxes"]["classes"] == {"on a turned image": 1}


VIDEO = {"value": {"sequence": [{"frame": 1, "x": 1, "y": 2}], "labels": ["person"]}}
NO_SIZE = {"value": TURNED}
BAD = [
    ("[{", "p.json: is damaged: "),
    (json.dumps([{"id": 1, "data": 3}]), "p.json: entry 1: is not a task of Label Studio"),
    (json.dumps([task("", rectangle(RED))]), "p.json, task 1: 'data' holds no name of an image"),
    (json.dumps([task("data:image/png;base64,AA", rectangle(RED))]), "p.json, task 1: 'data' hold"),
    (
        json.dumps([task("a.jpg", VIDEO)]),
        "p.json, task 1, shape 1: is of a video; label its",
    ),
    (json.dumps([task("a.jpg", NO_SIZE)]), "p.json, task 1, shape 1: is turned, but original_wid"),
    (json.dumps([task("a.jpg", 3)]), "p.json, task 1: 'result' must be a list of objects"),
    (
        json.dumps([task("a.jpg", {"value": {"x": "left", "y": 1, "width": 2, "height": 3}})]),
        "p.json, task 1, shape 1: x 'left': must be a number",
    ),
    (
        json.dumps([task("a.jpg", {"value": {"points": [3]}})]),
        "p.json, task 1, shape 1: points must be a list of [x, y]",
    ),
    (json.dumps([task("a.jpg")]), "--detections 'p.json': holds no box (read as labelstudio)"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_damaged_files(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError) as error:
        read_detections("p.json", "labelstudio")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
