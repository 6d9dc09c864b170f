"""CrowdHuman's JSON lines: whole bodies; heads and what is to be ignored are left out."""

import json

import numpy as np
import pytest

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections import read_detections
from tests.crops.detections.scenes import BOTH, GREEN, RED, cut, paint


def xywh(box):
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def line(name):
    boxes = [
        {"tag": "person", "fbox": xywh(box), "vbox": [1, 2, 3, 4], "hbox": [box[0], box[1], 9, 9],
         "head_attr": {"ignore": i, "occ": 0, "unsure": 0}, "extra": {"box_id": i, "occ": 0}}
        for i, box in enumerate((RED, GREEN))
    ]  # fmt: skip
    boxes.append({"tag": "person", "fbox": [9, 9, 20, 60], "hbox": [9, 9, 5, 5],
                  "head_attr": {}, "extra": {"box_id": 2, "ignore": 1}})  # fmt: skip
    boxes.append({"tag": "mask", "fbox": [200, 5, 20, 60], "vbox": [1, 2, 3, 4],
                  "hbox": [1, 2, 3, 4], "head_attr": {}, "extra": {"ignore": 1}})  # fmt: skip
    return json.dumps({"ID": name, "gtboxes": boxes})


def test_two_files_are_two_splits(tmp_path):
    names = {"train": "273271,1a0d6000b9e1f5b7", "val": "284193,faa9000f2678b5e"}
    for split, name in names.items():
        paint(tmp_path / f"Images/{name}.jpg")
        (tmp_path / f"annotation_{split}.odgt").write_text(line(name) + "\n")
    found = read_detections(tmp_path)
    assert found.kind == "crowdhuman"
    assert dict(zip(found.images, found.splits, strict=True)) == {
        names["train"]: "train", names["val"]: "validation",
    }  # fmt: skip
    assert found.where(1) == "annotation_train.odgt:1, row 1"
    crops, report = cut(found, tmp_path / "Images", tmp_path / "out")
    assert crops == [(f"{n}.jpg", colour, box) for n in names.values() for colour, box in BOTH]
    assert report["boxes"]["classes"] == {"ignored": 6, "head": 2}
    assert {name: side["crops"] for name, side in report["splits"].items()} == {
        "train": 2, "validation": 2,
    }  # fmt: skip
    alone = read_detections(tmp_path / "annotation_val.odgt")
    assert alone.splits == []


def test_results_of_a_detector(tmp_path):
    boxes = [{"box": [1, 2, 3, 4], "score": 0.5, "tag": 1}]
    (tmp_path / "r.json").write_text(json.dumps({"ID": "a", "dtboxes": boxes}) + "\n")
    found = read_detections(tmp_path / "r.json")
    assert (found.labels, found.score.tolist()) == (["person"], [0.5])
    assert found.boxes.tolist() == [[1, 2, 4, 6]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"ID": "a", "gtboxes": [', "b.odgt, line 2: is damaged: "),
        ('{"ID": "a"}', "b.odgt, line 2: is not CrowdHuman; must be an object with 'ID' and 'gtb"),
        ("[1]", "b.odgt, line 2: is not CrowdHuman"),
    ],
)
def test_damaged_lines(tmp_path, text, message):
    (tmp_path / "b.odgt").write_text(f"{line('x')}\n{text}\n")
    with pytest.raises(InputError) as error:
        read_detections(tmp_path / "b.odgt")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("3", "b.odgt:2, box 1: must be an object with 'tag' and 'fbox'"),
        (
            '{"tag": "person", "fbox": [1, 2, 3]}',
            "b.odgt:2, box 1: the box has 3 numbers; must be 4",
        ),
        ('{"fbox": [1, 2, null, 4]}', "b.odgt:2, box 1: box None: must be a number"),
    ],
)
def test_a_damaged_box_is_left_out_and_reported(tmp_path, box, message):
    text = f'{line("x")}\n{{"ID": "a", "gtboxes": [{box}]}}\n'
    (tmp_path / "b.odgt").write_text(text)
    found = read_detections(tmp_path / "b.odgt")
    assert found.notes == (f"1 box cannot be read and is left out: {message}",)
    assert np.isnan(found.boxes).all(axis=1).sum() == 1
