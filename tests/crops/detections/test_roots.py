"""The root folder of an export is read as it is: labels, names, images and splits."""

import json

import pytest

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections import read_detections
from tests.crops.detections.scenes import BOTH, CAR, GREEN, RED, SIZE, cut, paint


def shares(*boxes):
    """Return boxes of people (class 1) and one of something else (class 0) as lines of YOLO."""
    lines = []
    for label, (x0, y0, x1, y1) in [*((1, box) for box in boxes), (0, CAR)]:
        values = ((x0 + x1) / 2 / 320, (y0 + y1) / 2 / 240, (x1 - x0) / 320, (y1 - y0) / 240)
        lines.append(" ".join(map(str, (label, *(round(v, 6) for v in values)))))
    return "\n".join(lines) + "\n"


def coco(name, *boxes):
    annotations = [
        {"image_id": 0, "category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
        for label, (x0, y0, x1, y1) in [*((1, box) for box in boxes), (2, CAR)]
    ]
    images = [{"id": 0, "file_name": name, "width": SIZE[0], "height": SIZE[1]}]
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def voc(name, *boxes):
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for label, (x0, y0, x1, y1) in [*(("person", box) for box in boxes), ("car", CAR)]
    )
    return f"<annotation><filename>{name}</filename>{objects}</annotation>"


def write(root, files):
    """Write text files, and paint the images; a name may say which people an image shows."""
    for name, content in files.items():
        if name.endswith(".jpg"):
            paint(root / name, content)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)


ONE, TWO = [("red", RED)], [("green", GREEN)]
YAML = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['car', 'person']\n"
ROOTS = {
    "Roboflow, YOLO": (
        "yolo",
        {
            "README.dataset.txt": "# people > 2026-01-01\nhttps://example.org\n",
            "README.roboflow.txt": "\npeople - v1\n==============\n",
            "data.yaml": YAML,
            "train/labels/a_jpg.rf.1.txt": shares(RED), "train/images/a_jpg.rf.1.jpg": ONE,
            "valid/labels/a_jpg.rf.1.txt": shares(GREEN), "valid/images/a_jpg.rf.1.jpg": TWO,
        },
        ("train/images/a_jpg.rf.1.jpg", "valid/images/a_jpg.rf.1.jpg"),
    ),
    "Ultralytics": (
        "yolo",
        {
            "people.yaml": YAML,
            "train.txt": "./images/train/a.jpg\n", "val.txt": "./images/val/a.jpg\n",
            "labels/train.cache": "\0\0",
            "labels/train/a.txt": shares(RED), "images/train/a.jpg": ONE,
            "labels/val/a.txt": shares(GREEN), "images/val/a.jpg": TWO,
        },
        ("images/train/a.jpg", "images/val/a.jpg"),
    ),
    "CVAT, YOLO 1.1": (
        "yolo",
        {
            "obj.data": "classes = 2\nnames = data/obj.names\n", "obj.names": "car\nperson\n",
            "train.txt": "data/obj_Train_data/a.jpg\n", "valid.txt": "data/obj_Valid_data/a.jpg\n",
            "obj_Train_data/a.txt": shares(RED), "obj_Train_data/a.jpg": ONE,
            "obj_Valid_data/a.txt": shares(GREEN), "obj_Valid_data/a.jpg": TWO,
        },
        ("obj_Train_data/a.jpg", "obj_Valid_data/a.jpg"),
    ),
    "Roboflow, COCO": (
        "coco",
        {
            "README.roboflow.txt": "\npeople - v1\n==============\n",
            "train/_annotations.coco.json": coco("a.jpg", RED), "train/a.jpg": ONE,
            "valid/_annotations.coco.json": coco("a.jpg", GREEN), "valid/a.jpg": TWO,
        },
        ("train/a.jpg", "valid/a.jpg"),
    ),
    "COCO": (
        "coco",
        {
            "annotations/captions_train2017.json": json.dumps(
                {"images": [], "annotations": [{"image_id": 0, "caption": "two"}]}
            ),
            "annotations/person_keypoints_train2017.json": coco("a.jpg", CAR),
            "annotations/instances_train2017.json": coco("a.jpg", RED), "train2017/a.jpg": ONE,
            "annotations/instances_val2017.json": coco("a.jpg", GREEN), "val2017/a.jpg": TWO,
        },
        ("train2017/a.jpg", "val2017/a.jpg"),
    ),
    "CVAT, COCO 1.0": (
        "coco",
        {
            "annotations/instances_Train.json": coco("a.jpg", RED), "images/Train/a.jpg": ONE,
            "annotations/instances_Validation.json": coco("a.jpg", GREEN),
            "images/Validation/a.jpg": TWO,
        },
        ("images/Train/a.jpg", "images/Validation/a.jpg"),
    ),
    "Roboflow, VOC": (
        "voc",
        {
            "train/a.xml": voc("a.jpg", RED), "train/a.jpg": ONE,
            "valid/a.xml": voc("a.jpg", GREEN), "valid/a.jpg": TWO,
        },
        ("train/a.jpg", "valid/a.jpg"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROOTS)
def test_the_root_of_an_export(tmp_path, name):
    kind, files, images = ROOTS[name]
    write(tmp_path / "export", files)
    found = read_detections(tmp_path / "export")
    assert found.kind == kind
    assert found.splits == ["train", "validation"]
    crops, report = cut(found, tmp_path / "export", tmp_path / "out")
    assert crops == [(images[0], *ONE[0]), (images[1], *TWO[0])]
    assert report["boxes"]["classes"] == {"car": 2}
    assert {split: side["crops"] for split, side in report["splits"].items()} == {
        "train": 1, "validation": 1,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["Roboflow, YOLO", "Ultralytics", "Roboflow, COCO"])
def test_one_split_of_an_export_has_no_splits(tmp_path, name):
    _, files, images = ROOTS[name]
    second = [file for file in files if file not in images and "val" in file]
    write(tmp_path / "export", {n: text for n, text in files.items() if n not in second})
    found = read_detections(tmp_path / "export")
    assert found.splits == []
    crops, _ = cut(found, tmp_path / "export", tmp_path / "out")
    assert crops == [(images[0], *ONE[0])]


def test_pascal_voc_itself(tmp_path):
    root = tmp_path / "VOCdevkit"
    files = {
        "VOC2012/Annotations/a.xml": voc("a.jpg", RED, GREEN), "VOC2012/JPEGImages/a.jpg": BOTH,
        "VOC2012/ImageSets/Main/person_train.txt": "a  1\nb -1\n",
        "VOC2012/ImageSets/Layout/train.txt": "a 1\n",
    }  # fmt: skip
    write(root, files)
    crops, _ = cut(read_detections(root), root, tmp_path / "out")
    assert crops == [("VOC2012/JPEGImages/a.jpg", *both) for both in BOTH]


def test_frames_that_cvat_exports_with_a_video(tmp_path):
    boxes = "".join(
        f'<box frame="{frame}" outside="0" occluded="0" keyframe="1" xtl="40" ytl="40" xbr="80" '
        'ybr="140"></box>'
        for frame in (0, 1)
    )
    text = (
        "<annotations><meta><source>cam.mp4</source></meta>"
        f'<track id="0" label="person">{boxes}</track></annotations>'
    )
    write(tmp_path / "export", {
        "annotations.xml": text, "images/frame_000000.jpg": TWO, "images/frame_000001.jpg": ONE,
    })  # fmt: skip
    found = read_detections(tmp_path / "export")
    paint(tmp_path / "export/images/frame_000000.jpg", ONE)
    crops, _ = cut(found, tmp_path / "export", tmp_path / "out")
    assert crops == [(f"images/frame_00000{n}.jpg", *ONE[0]) for n in (0, 1)]


BOTH_KINDS = [
    (
        {"_annotations.coco.json": coco("a.jpg", RED), "labels/a.txt": shares(RED),
         "data.yaml": YAML},
        "may be coco (_annotations.coco.json) or yolo (labels/a.txt); choose with --format coco or "
        "--format yolo",
    ),
    (
        {"labels/a.txt": shares(RED), "Annotations/a.xml": voc("a.jpg", RED), "data.yaml": YAML},
        "may be voc (Annotations/a.xml) or yolo (labels/a.txt); choose with --format voc or "
        "--format yolo",
    ),
    (
        {"a.xml": voc("a.jpg", RED), "annotations.xml": "<annotations></annotations>"},
        "may be cvat (annotations.xml) or voc (a.xml); choose with --format cvat or --format voc",
    ),
    (
        {"gt/gt.txt": "1,1,1,1,50,120,1,1,1\n", "labels/a.txt": "Car 0 0 0" + " 1" * 11},
        "may be kitti (labels/a.txt) or mot (gt/gt.txt); choose with --format kitti or --format "
        "mot",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("files", "message"), BOTH_KINDS)
def test_two_formats_in_one_folder_are_named_and_refused(tmp_path, monkeypatch, files, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "both", files)
    with pytest.raises(InputError) as error:
        read_detections("both")
    assert str(error.value) == f"--detections 'both': {message}"
    kinds = {name.partition(" ")[0] for name in message.split("--format ")[1:]}
    for kind in kinds - {"cvat", "kitti", "mot"}:
        assert read_detections("both", kind).labels == ["person", "car"]


def test_two_files_about_one_image_are_named_and_refused(tmp_path):
    write(tmp_path, {"a/truth.json": coco("x.jpg", RED), "a/found.json": coco("x.jpg", GREEN)})
    with pytest.raises(InputError) as error:
        read_detections(tmp_path)
    assert str(error.value).startswith("a/truth.json and a/found.json: both hold boxes of ")


UNKNOWN = [
    ("a.json", '{"people": []}', "JSON with people is in no known format; choose one with --fo"),
    ("a.json", '["person"]', "JSON with no keys is in no known format; choose"),
    ("a.xml", "<!-- <annotation> --><svg/>", "XML with <svg> is in no known format; choose one"),
    ("a.txt", "who knows\n", "'who knows' is in no known format; choose one with --format (coco,"),
]


@pytest.mark.parametrize(("name", "text", "message"), UNKNOWN)
def test_what_is_in_no_known_format_is_shown(tmp_path, monkeypatch, name, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        read_detections(name)
    assert str(error.value).startswith(f"--detections '{name}': {message}")
    (tmp_path / "folder").mkdir()
    (tmp_path / name).rename(tmp_path / "folder" / name)
    with pytest.raises(InputError, match="no file of the folder is in a known format"):
        read_detections("folder")
