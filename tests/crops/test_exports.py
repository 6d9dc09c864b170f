"""Boxes as people bring them: the right pixels are cut, or one line says what is wrong."""

import json
import math
import shutil
import unicodedata

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image, ImageDraw

from patchit_hf.common.errors import InputError
from patchit_hf.crops import main
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.detections import read_detections
from patchit_hf.crops.make import make_crops
from tests.crops.test_crops import pixels, rows_of

SIZE = (160, 120)
RED, GREEN = (220, 30, 30), (30, 200, 30)
LEFT, RIGHT = (20, 10, 60, 110), (90, 10, 130, 110)  # the red person and the green one


def photo(path, people=((LEFT, RED), (RIGHT, GREEN)), size=SIZE):
    """Save a grey image of people of one colour each."""
    image = Image.new("RGB", size, (90, 90, 90))
    for box, colour in people:
        ImageDraw.Draw(image).rectangle([box[0], box[1], box[2] - 1, box[3] - 1], fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)
    return path


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def shares(box, label="0", more=""):
    """Return a box as a line of YOLO."""
    x0, y0, x1, y1 = box
    width, height = SIZE
    values = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
    return " ".join([label, *(f"{value:.6f}" for value in values)]) + more + "\n"


def coco(boxes, **more):
    """Return ground truth of one image, ``a.jpg``; each box with the keys that are given."""
    annotations = [{"image_id": 1, "category_id": 1, "bbox": box} for box in boxes]
    about = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": SIZE[0], "height": SIZE[1]}],
        "categories": [{"id": 1, "name": "person"}],
    }
    return {**about, "annotations": annotations, **more}


def xywh(box):
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def name_of(colour):
    return {RED: "red", GREEN: "green"}.get(tuple(10 * round(c / 10) for c in colour), str(colour))


def cut(detections, images, out, *, on_bad_image="raise", columns=None, box_format=None, **options):
    """Cut crops; return (file, row, colour of the crop's middle) of each, and the report."""
    found = read_detections(detections, columns=columns, box_format=box_format)
    how = CropOptions(image_format="png", validation=0.0, **options)
    report = make_crops(found, images, out, how, on_bad_image=on_bad_image)
    rows = rows_of(out)
    seen = [(r["file"], r["row"], name_of(pixels(r)[90:110, 45:55].mean((0, 1)))) for r in rows]
    return seen, report


BOTH = [("a.jpg", 1, "red"), ("a.jpg", 2, "green")]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    photo(folder / "a.jpg")
    return folder


# Names.


def test_boxes_of_a_missing_camera_are_not_cut_out_of_another(tmp_path):
    """Both cameras have 1.jpg and 2.jpg; camera 2's folder is absent, and its people elsewhere."""
    for number in (1, 2):
        photo(tmp_path / f"images/cam1/{number}.jpg", [(LEFT, RED)])
    boxes = coco([])
    boxes["images"] = [
        {"id": 10 * cam + i, "file_name": f"cam{cam}/{i}.jpg"} for cam in (1, 2) for i in (1, 2)
    ]
    boxes["annotations"] = [
        {"image_id": 10 * cam + i, "category_id": 1, "bbox": xywh(LEFT if cam == 1 else RIGHT)}
        for cam in (1, 2)
        for i in (1, 2)
    ]
    write(tmp_path / "b.json", json.dumps(boxes))
    with pytest.raises(InputError) as error:
        cut(tmp_path / "b.json", tmp_path / "images", tmp_path / "out")
    assert str(error.value) == (
        "b.json, row 3: image cam2/1.jpg: no such file; cam1/1.jpg is another image's, "
        "cam1/1.jpg (--on-bad-image skip leaves it out, replace takes later boxes of its tracks)"
    )
    seen, report = cut(
        tmp_path / "b.json", tmp_path / "images", tmp_path / "skipped", on_bad_image="skip"
    )
    assert seen == [("cam1/1.jpg", 1, "red"), ("cam1/2.jpg", 2, "red")]
    assert report["boxes"]["reasons"] == {"bad picture": 2}


@pytest.mark.parametrize("images_in", ["s2/img1", "img1", "."])
def test_frames_of_one_sequence_are_not_those_of_two(tmp_path, images_in):
    for sequence in ("s2", "s4"):
        lines = "".join(f"{i},1,21,11,40,100,1,1,1\n" for i in (1, 2, 3))
        write(tmp_path / f"labels/{sequence}/gt/gt.txt", lines)
    for number in (1, 2, 3):
        photo(tmp_path / f"images/{images_in}/{number:06d}.jpg", [(LEFT, RED)])
    if images_in == "s2/img1":
        seen, report = cut(
            tmp_path / "labels", tmp_path / "images", tmp_path / "out", on_bad_image="skip"
        )
        assert seen == [(f"s2/img1/{i:06d}.jpg", i, "red") for i in (1, 2, 3)]
        assert report["pictures"]["bad"] == 3
    else:
        prefix = "" if images_in == "." else f"{images_in}/"
        with pytest.raises(InputError) as error:
            cut(tmp_path / "labels", tmp_path / "images", tmp_path / "out", on_bad_image="skip")
        assert str(error.value) == (
            f"--images '{tmp_path}/images': holds none of the 6 images of the boxes, such as "
            f"'s2/img1/000001' (no such file; {prefix}000001.jpg could be s2/img1/000001 or "
            "s4/img1/000001)"
        )


def test_what_was_found_in_another_folder_is_said(tmp_path, images, caplog):
    write(tmp_path / "b.txt", "/home/old/photos/a.jpg 20 10 60 110\n")
    photo(tmp_path / "new/deep/a.jpg")
    seen, report = cut(tmp_path / "b.txt", tmp_path / "new", tmp_path / "out")
    assert seen == [("deep/a.jpg", 1, "red")]
    note = "1 image is found in another folder: /home/old/photos/a.jpg is deep/a.jpg"
    assert report["notes"] == [note]
    assert note in caplog.messages
    assert f"- {note}" in (tmp_path / "out/README.md").read_text()


def test_names_with_percent_codes_and_accents(tmp_path):
    composed = unicodedata.normalize("NFC", "Zoé 1.jpg")
    photo(tmp_path / "images" / composed, [(LEFT, RED)])
    photo(tmp_path / "images/b c.jpg", [(LEFT, GREEN)])
    boxes = "image,x0,y0,x1,y1\n" + "".join(
        f"{name},20,10,60,110\n" for name in (unicodedata.normalize("NFD", composed), "b%20c.jpg")
    )
    write(tmp_path / "b.csv", boxes)
    seen, _ = cut(tmp_path / "b.csv", tmp_path / "images", tmp_path / "out")
    assert sorted(seen) == [(composed, 1, "red"), ("b c.jpg", 2, "green")]


def test_a_path_with_brackets(tmp_path):
    folder = tmp_path / "shots [1] {a}"
    photo(folder / "images/x [2]/a.jpg")
    write(folder / "labels/x [2]/a.txt", shares(LEFT) + shares(RIGHT))
    seen, _ = cut(folder / "labels", folder / "images", folder / "out [3]")
    assert seen == [("x [2]/a.jpg", 1, "red"), ("x [2]/a.jpg", 2, "green")]
    write(folder / "mot/{s} [4]/gt/gt.txt", "1,1,21,11,40,100,1,1,1\n")
    photo(folder / "mot/{s} [4]/img1/000001.jpg")
    seen, _ = cut(folder / "mot", folder / "mot", folder / "out [5]")
    assert seen == [("{s} [4]/img1/000001.jpg", 1, "red")]


def test_copies_that_systems_make(tmp_path, images):
    """macOS' ._ files, hidden folders and Thumbs.db beside labels and images."""
    junk = b"\0\5\26\7\0\2\0\0Mac OS X        \0\2\xb0\xff"
    write(tmp_path / "yolo/a.txt", shares(LEFT) + shares(RIGHT))
    write(tmp_path / "yolo/.cache/a.txt", shares(LEFT))
    write(tmp_path / "voc/a.xml", voc("a.jpg", LEFT, RIGHT))
    write(tmp_path / "voc/.old/a.xml", voc("a.jpg", LEFT))
    write(tmp_path / "mot/s/gt/gt.txt", "1,1,21,11,40,100,1,1,1\n")
    write(tmp_path / "mot/.s/gt/gt.txt", "1,1,21,11,40,100,1,1,1\n")
    for name in ("yolo/._a.txt", "yolo/Thumbs.db", "voc/._a.xml", "voc/desktop.ini",
                 "__MACOSX/._a.jpg"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(junk)
    assert cut(tmp_path / "yolo", images, tmp_path / "o1")[0] == BOTH
    assert cut(tmp_path / "voc", images, tmp_path / "o2")[0] == BOTH
    found = read_detections(tmp_path / "mot")
    assert (found.images, found.sources) == (["s/img1/000001"], ["s"])


# YOLO.


@pytest.mark.parametrize(
    ("labels", "names", "text"),
    [
        (
            "train/labels",
            "data.yaml",
            "train: ../train/images\nnc: 2\nnames: ['bicycle', 'person']",
        ),
        ("labels/train", "data.yaml", "names:\n  0: bicycle\n  1: person\n"),
        ("labels/train", "my set.yaml", "path: .\nnames: {0: bicycle, 1: person}"),
        ("labels/train/2024", "cycling.yml", "names: [bicycle, person]"),
        ("labels", "labels/data.yaml", "names:\n\t- bicycle\n\t- person\n"),
        ("obj_train_data", "obj.names", "bicycle\r\nperson\r\n"),
        ("labels", "labels/_darknet.labels", "bicycle\nperson"),
        ("labels", "labels/classes.txt", "\ufeffbicycle\r\nperson\r\n"),
    ],
)
def test_class_names_beside_and_above_the_labels(tmp_path, images, labels, names, text):
    """Class 0 is a bicycle, on the left; a person, class 1, is on the right."""
    write(tmp_path / labels / "a.txt", shares(LEFT, "0") + shares(RIGHT, "1"))
    write(tmp_path / names, text)
    write(tmp_path / "other.yaml", "lr: 0.1\n")
    seen, report = cut(tmp_path / labels, images, tmp_path / "out")
    assert seen == [("a.jpg", 2, "green")]
    assert report["boxes"]["reasons"] == {"class": 1}
    assert report["notes"] == []
    assert rows_of(tmp_path / "out")[0]["label"] == "person"


def test_without_class_names_it_is_said_who_is_a_person(tmp_path, images, caplog):
    write(tmp_path / "labels/a.txt", shares(LEFT, "0") + shares(RIGHT, "1"))
    command = ["--detections", tmp_path / "labels", "--images", images, "--workers", 0]
    assert main([str(w) for w in (*command, "--output", tmp_path / "out")]) == 0
    line = (
        "labels: nothing names the classes; class 0 is taken for a person (--classes takes another)"
    )
    assert caplog.messages == [line]
    assert json.loads((tmp_path / "out/report.json").read_text())["notes"] == [line]
    seen, _ = cut(tmp_path / "labels", images, tmp_path / "other", classes="1")
    assert seen == [("a.jpg", 2, "green")]


def test_where_no_class_is_a_person_nothing_is_cut(tmp_path, images):
    write(tmp_path / "train/labels/a.txt", shares(LEFT, "0") + shares(RIGHT, "1"))
    with_names = write(tmp_path / "data.yaml", "names: [bicycle, car]")
    line = "no class of the boxes is known to mean a person (classes: {}); name it with --classes"
    with pytest.raises(InputError) as error:
        cut(tmp_path / "train/labels", images, tmp_path / "out")
    assert str(error.value) == line.format("bicycle, car")
    with_names.unlink()
    write(tmp_path / "train/labels/a.txt", shares(LEFT, "3") + shares(RIGHT, "5"))
    with pytest.raises(InputError) as error:
        cut(tmp_path / "train/labels", images, tmp_path / "out")
    assert str(error.value) == line.format("3, 5")


def test_names_that_contradict_each_other_are_refused(tmp_path, images):
    write(tmp_path / "labels/a.txt", shares(LEFT))
    write(tmp_path / "a.yaml", "names: [person]")
    write(tmp_path / "b.yaml", "names: [bicycle, person]")
    with pytest.raises(InputError) as error:
        read_detections(tmp_path / "labels")
    assert str(error.value) == (
        f"{tmp_path}/labels: the classes have other names in {tmp_path}/a.yaml than in "
        f"{tmp_path}/b.yaml; remove the one that does not belong to these labels"
    )
    write(tmp_path / "set/labels/train/a.txt", shares(LEFT))
    write(tmp_path / "b.yaml", "path: ../datasets/set\nnames: [car, person]")
    assert read_detections(tmp_path / "set/labels/train").labels == ["car"]
    write(tmp_path / "set.yaml", "names: [car, person]")
    assert read_detections(tmp_path / "set/labels/train").labels == ["car"]
    write(tmp_path / "labels/data.yaml", "names: [person]")  # nearer
    assert cut(tmp_path / "labels", images, tmp_path / "out")[0] == [("a.jpg", 1, "red")]


def joints(box, count, each):
    """Return keypoints that lie in a box, the first of them unseen."""
    x = np.linspace(box[0] + 2, box[2] - 2, count) / SIZE[0]
    y = np.linspace(box[1] + 2, box[3] - 2, count) / SIZE[1]
    points = [[0, 0, 0][:each]]
    points += [[x[i], y[i], 1 + i % 2][:each] for i in range(1, count)]
    return " " + " ".join(f"{value:.6f}" for point in points for value in point)


SHAPES = [(17, 2), (17, 3), (5, 2), (4, 3)]


@pytest.mark.parametrize(  # one keypoint is told from a polygon by kpt_shape only
    ("shape", "named"),
    [*((s, True) for s in (*SHAPES, (1, 2), (1, 3))), *((s, False) for s in SHAPES)],
)
def test_the_box_of_a_pose_label_is_its_first_four_numbers(tmp_path, images, shape, named):
    lines = [shares(box, "0", joints(box, *shape)) for box in (LEFT, RIGHT)]
    if named:
        write(tmp_path / "data.yaml", f"kpt_shape: {list(shape)}\nnames: [person]\n")
    write(tmp_path / "labels/a.txt", "".join(lines))
    found = read_detections(tmp_path / "labels")
    np.testing.assert_allclose(found.boxes_in(np.arange(2), SIZE), [LEFT, RIGHT], atol=0.001)
    assert cut(tmp_path / "labels", images, tmp_path / "out")[0] == BOTH
    count, each = shape
    assert found.notes[:1] == (
        () if named else (
            f"lines of {5 + count * each} values are read as a box and {count} keypoints of {each} "
            f"numbers; a data.yaml with kpt_shape: [{count}, {each}] would say so",
        )
    )  # fmt: skip


def test_predicted_poses_have_a_confidence_and_a_track(tmp_path):
    write(tmp_path / "data.yaml", "kpt_shape: [17, 3]\nnames: [person]\n")
    lines = [
        shares(LEFT, "0", joints(LEFT, 17, 3) + " 0.75 12"),
        shares(RIGHT, "0", joints(RIGHT, 17, 3) + " 0.5 3"),
    ]
    write(tmp_path / "labels/a.txt", "".join(lines))
    found = read_detections(tmp_path / "labels")
    assert found.score.tolist() == [0.75, 0.5]
    assert [found.tracks[i] for i in found.track] == ["12", "3"]
    write(tmp_path / "labels/b.txt", shares(LEFT, "0", joints(LEFT, 13, 3)))
    found = read_detections(tmp_path / "labels")
    assert found.notes == (
        "1 box cannot be read and is left out: b.txt, row 1: 44 values; with kpt_shape [17, 3] "
        "there must be 56, or 5 for a box alone",
    )


@pytest.mark.parametrize("corners", [6, 20, 19])
def test_polygons_stay_polygons(tmp_path, corners):
    """All have as many corners as poses may have joints; the box is around all of them."""

    turn = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    circle, expected, lines = np.stack([np.cos(turn), np.sin(turn)], 1), [], []
    for box in (LEFT, RIGHT):
        low, high = np.array(box).reshape(2, 2)
        points = (low + high) / 2 + (high - low) / 2 * circle
        expected.append([*points.min(0), *points.max(0)])
        lines.append("0 " + " ".join(f"{v:.6f}" for v in (points / SIZE).ravel()) + "\n")
    write(tmp_path / "labels/a.txt", "".join(lines))
    found = read_detections(tmp_path / "labels")
    np.testing.assert_allclose(found.boxes_in(np.arange(2), SIZE), expected, atol=0.001)
    assert len(found.notes) == 1  # who is a person; nothing about keypoints
    assert found.notes[0].startswith("labels: nothing names the classes")


def test_a_whole_number_above_one_is_a_track_not_a_score(tmp_path):
    write(tmp_path / "t/1.txt", shares(LEFT, "0", " 1") + shares(RIGHT, "0", " 27"))
    write(tmp_path / "t/2.txt", shares(LEFT, "0", " 1"))
    found = read_detections(tmp_path / "t")
    assert [found.tracks[i] for i in found.track] == ["1", "27", "1"]
    assert np.isnan(found.score).all()
    write(tmp_path / "s/1.txt", shares(LEFT, "0", " 1") + shares(RIGHT, "0", " 0.27"))
    found = read_detections(tmp_path / "s")
    assert (found.score.tolist(), found.tracks) == ([1.0, 0.27], [])
    write(tmp_path / "s/1.txt", shares(LEFT, "0", " 4") + shares(RIGHT, "0", " 0.27"))
    found = read_detections(tmp_path / "s")
    assert [found.tracks[i] if i >= 0 else None for i in found.track] == ["4", None]
    assert found.score.tolist()[1] == 0.27
    assert math.isnan(found.score[0])


def test_a_class_that_is_written_as_a_fraction(tmp_path, images):
    write(tmp_path / "labels/a.txt", shares(LEFT, "0.0") + shares(RIGHT, "1.0"))
    write(tmp_path / "data.yaml", "names: [bicycle, person]")
    assert cut(tmp_path / "labels", images, tmp_path / "out")[0] == [("a.jpg", 2, "green")]


# Encodings.


def voc(filename, *boxes, size=f"<width>{SIZE[0]}</width><height>{SIZE[1]}</height>", head=""):
    objects = "".join(
        f"<object><name>person</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for x0, y0, x1, y1 in boxes
    )
    return (
        f"{head}<annotation><filename>{filename}</filename><size>{size}</size>{objects}"
        "</annotation>"
    )


TEXTS = {
    "labels/a.txt": shares(LEFT) + shares(RIGHT),
    "b.json": json.dumps(coco([xywh(LEFT), xywh(RIGHT)])),
    "voc/a.xml": voc("a.jpg", LEFT, RIGHT),
    "b.csv": "image,x0,y0,x1,y1\na.jpg,20,10,60,110\na.jpg,90,10,130,110\n",
    "b.tsv": "image\tx0\ty0\tx1\ty1\na.jpg\t20\t10\t60\t110\na.jpg\t90\t10\t130\t110\n",
    "b.txt": "a.jpg\t20 10 60 110\na.jpg 90 10 130\t110\n",
    "mot/a/gt/gt.txt": "1,1,21,11,40,100,1,1,1\n1,2,91,11,40,100,1,1,1\n",
    "mot2/a/gt/gt.txt": "1\t1\t21\t11\t40\t100\t1\t1\t1\n1 2 91 11 40 100 1 1 1\n",
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_and_line_ends(tmp_path, name, encoding):
    top = tmp_path / name.partition("/")[0]
    write(tmp_path / name, TEXTS[name].replace("\n", "\r\n"), encoding)
    file = "a.jpg"
    if name.startswith("mot"):
        info = "[Sequence]\r\nimDir=frames 100%\r\nimExt=.jpg\r\n"
        write(top / "a/seqinfo.ini", info, encoding)
        file = "a/frames 100%/000001.jpg"
    photo(tmp_path / "images" / file)
    seen, report = cut(top, tmp_path / "images", tmp_path / "out")
    assert seen == [(file, 1, "red"), (file, 2, "green")]
    assert report["boxes"]["reasons"] == {}


def test_xml_in_another_encoding(tmp_path):
    head = '<?xml version="1.0" encoding="{}"?>\n'
    photo(tmp_path / "images/Zoé.jpg", [(LEFT, RED)])
    photo(tmp_path / "images/b.jpg", [(LEFT, GREEN)])
    write(tmp_path / "voc/Zoé.xml", voc("Zoé.jpg", LEFT, head=head.format("latin-1")), "latin-1")
    write(tmp_path / "voc/b.xml", voc("b.jpg", LEFT, head=head.format("gb2312")), "utf-8-sig")
    seen, _ = cut(tmp_path / "voc", tmp_path / "images", tmp_path / "out")
    assert seen == [("Zoé.jpg", 1, "red"), ("b.jpg", 1, "green")]


def test_text_that_is_not_utf8_is_one_line(tmp_path):
    for name in ("labels/a.txt", "b.csv", "b.txt"):
        write(tmp_path / name, TEXTS[name].replace("a.jpg", "é.jpg") + "é\n", "latin-1")
        path = tmp_path / name.partition("/")[0]
        with pytest.raises(InputError) as error:
            read_detections(path)
        assert str(error.value).startswith(str(tmp_path / name))
        assert "UTF" in str(error.value)
        assert "\n" not in str(error.value)


# COCO.

TRIANGLE = [20, 10, 60, 10, 40, 110]
ODD = {
    "box null, with a polygon": {
        "bbox": None, "segmentation": [[20, 10, 60, 10, 20, 50], [20, 50, 60, 50, 40, 110]]
    },
    "box empty, with a flat polygon": {"bbox": [], "segmentation": TRIANGLE},
    "box as text": {"bbox": "[20, 10, 40, 100]"},
    "ids as lists": {"image_id": [1], "category_id": [1]},
    "ids as text": {"image_id": "1", "category_id": "1"},
    "ids as fractions": {"image_id": 1.0, "category_id": "1.0"},
    "iscrowd as text": {"iscrowd": "0"},
    "iscrowd as a word": {"iscrowd": "false"},
    "numbers as text": {"bbox": ["20", "10.0", "40", "1e2"], "score": "0.5"},
    "no score": {"score": None},
}  # fmt: skip


@pytest.mark.parametrize("entry", ODD.values(), ids=ODD)
def test_odd_coco_entries_are_understood(tmp_path, images, entry):
    boxes = coco([xywh(LEFT), xywh(RIGHT)])
    boxes["annotations"][0].update(entry)
    write(tmp_path / "b.json", json.dumps(boxes))
    seen, report = cut(tmp_path / "b.json", images, tmp_path / "out")
    assert seen == BOTH
    assert [row["label"] for row in rows_of(tmp_path / "out")] == ["person", "person"]
    assert rows_of(tmp_path / "out")[0]["box"] == list(LEFT)
    assert report["notes"] == []


def test_a_polygon_instead_of_a_box_that_is_missing(tmp_path, images):
    boxes = coco([xywh(LEFT), xywh(RIGHT)])
    del boxes["annotations"][0]["bbox"]
    boxes["annotations"][0]["segmentation"] = [TRIANGLE]
    write(tmp_path / "b.json", json.dumps(boxes))
    assert cut(tmp_path / "b.json", images, tmp_path / "out")[0] == BOTH


def test_a_crowd_as_text_is_a_crowd(tmp_path, images):
    boxes = coco([xywh(LEFT), xywh(RIGHT)])
    boxes["annotations"][0]["iscrowd"] = "1"
    write(tmp_path / "b.json", json.dumps(boxes))
    assert cut(tmp_path / "b.json", images, tmp_path / "out")[0] == BOTH[1:]


@pytest.mark.parametrize("size", [("160.0", "120"), ("160", 120.0), (None, ""), ("?", "?")])
def test_the_size_of_a_coco_image_may_be_text(tmp_path, images, size):
    boxes = coco([xywh(LEFT), xywh(RIGHT)])
    boxes["images"][0].update(width=size[0], height=size[1])
    write(tmp_path / "b.json", json.dumps(boxes))
    assert cut(tmp_path / "b.json", images, tmp_path / "out")[0] == BOTH


ONE_IS_A_PERSON = "b.json: nothing names the classes; class 1 is taken for a person"


@pytest.mark.parametrize(
    ("categories", "notes"),
    [
        (None, [f"{ONE_IS_A_PERSON} (--classes takes another)"]),
        ([], [f"{ONE_IS_A_PERSON} (--classes takes another)"]),
        ([{"name": "person"}], []),
        ([{"id": "1", "name": " Person "}, None, {"id": 2}], []),
    ],
)
def test_odd_coco_categories(tmp_path, images, categories, notes):
    boxes = coco([xywh(LEFT), xywh(RIGHT)], categories=categories)
    boxes["annotations"][1]["category_id"] = 1.0
    write(tmp_path / "b.json", json.dumps(boxes))
    seen, report = cut(tmp_path / "b.json", images, tmp_path / "out")
    assert (seen, report["notes"]) == (BOTH, notes)


def test_several_classes_without_ids_have_to_be_named(tmp_path, images):
    categories = [{"name": "car"}, {"name": "person"}]
    boxes = coco([xywh(LEFT), xywh(RIGHT)], categories=categories)
    boxes["annotations"][1]["category_id"] = 2
    write(tmp_path / "b.json", json.dumps(boxes))
    with pytest.raises(InputError) as error:
        cut(tmp_path / "b.json", images, tmp_path / "out")
    assert str(error.value) == (
        "no class of the boxes is known to mean a person (classes: 1, 2); name it with --classes"
    )
    assert cut(tmp_path / "b.json", images, tmp_path / "out", classes="2")[0] == BOTH[1:]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": "1", "file_name": "b.jpg"}]},
            "image 2: two images have the id 1, a.jpg and b.jpg; it would be unclear whose boxes "
            "are whose; give each an id of its own",
        ),
        (
            {"categories": [{"id": 1, "name": "person"}, {"id": 1, "name": "dog"}]},
            "two classes have the id 1, 'person' and 'dog'; give each an id of its own",
        ),
        ({"images": [{"id": 1}]}, "image 1: must hold 'id' and 'file_name'"),
        ({"images": ["a.jpg"]}, "image 1: must hold 'id' and 'file_name'"),
        ({"images": {"a": 1}}, "'images' must be a list"),
        ({"categories": "person"}, "'categories' must be a list"),
    ],
)
def test_coco_that_cannot_be_understood_is_one_line(tmp_path, change, line):
    write(tmp_path / "b.json", json.dumps(coco([xywh(LEFT)], **change)))
    with pytest.raises(InputError) as error:
        read_detections(tmp_path / "b.json")
    assert str(error.value) == f"{tmp_path}/b.json: {line}"


# One bad box.

GOOD = [LEFT, RIGHT]
BAD_BOX = {
    "b.json": (
        json.dumps(coco([xywh(LEFT), xywh(RIGHT), None])),
        "b.json, entry 3: must hold 'image_id' and 'bbox'; it has no box and no polygon",
    ),
    "short.json": (
        json.dumps(coco([xywh(LEFT), xywh(RIGHT), [1, 2]])),
        "short.json, entry 3: the box has 2 numbers; must be 4",
    ),
    "huge.json": (
        json.dumps(coco([xywh(LEFT), xywh(RIGHT), [1, 2, 3, 10**400]])),
        f"huge.json, entry 3: box 1{'0' * 59}: must be a number",
    ),
    "b.csv": (
        "image,x0,y0,x1,y1\na.jpg,20,10,60,110\na.jpg,90,10,130,110\na.jpg,20,oops,60,110\n",
        "b.csv, row 3: column 'y0': must hold numbers, not 'oops'",
    ),
    "blank.csv": (
        "image,x0,y0,x1,y1\na.jpg,20,10,60,110\na.jpg,90,10,130,110\na.jpg,20,,60,110\n",
        "blank.csv, row 3: column 'y0': must hold numbers, not ''",
    ),
    "short.csv": (
        "image,x0,y0,x1,y1\na.jpg,20,10,60,110\na.jpg,90,10,130,110\na.jpg,20,10\n",
        "short.csv, row 3: column 'x1': must hold numbers, not ''",
    ),
    "long.csv": (
        "image,x0,y0,x1,y1\na.jpg,20,10,60,110\na.jpg,90,10,130,110\na.jpg,20,5,10,5,60,1\n",
        "long.csv, row 3: has 7 values, the header 5",
    ),
    "score.csv": (
        "image,x0,y0,x1,y1,conf\na.jpg,20,10,60,110,\na.jpg,90,10,130,110,1\na.jpg,1,2,3,4,high\n",
        "score.csv, row 3: column 'conf': must hold numbers, not 'high'",
    ),
    "b.txt": (
        "a.jpg 20 10 60 110\na.jpg 90 10 130 110\na.jpg 20 10 x 110\n",
        "b.txt, row 3: box 'x': must be a number",
    ),
    "yolo/a.txt": (shares(LEFT) + shares(RIGHT) + "0 0.5 0.5\n", "a.txt, row 3: 3 values; must be "
                   "class cx cy width height, optionally with confidence and track id, or a "
                   "polygon"),
    "pixels/a.txt": (
        shares(LEFT) + shares(RIGHT) + "0 50 60 20 100\n",
        "a.txt, row 3: ['50', '60', '20', '100'] look like pixels; must be fractions of the image "
        "size",
    ),
    "voc/a.xml": (
        voc("a.jpg", LEFT, RIGHT).replace("</annotation>", "<object/></annotation>"),
        "a.xml, object 3: has no <bndbox>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BOX)
def test_a_row_with_a_bad_box_is_skipped_and_reported(tmp_path, images, name):
    text, why = BAD_BOX[name]
    write(tmp_path / name, text)
    seen, report = cut(tmp_path / name.partition("/")[0], images, tmp_path / "out")
    assert seen == BOTH
    assert report["boxes"]["reasons"] == {"not finite": 1}
    assert f"1 box cannot be read and is left out: {why}" in report["notes"]
    (dropped,) = [
        json.loads(line) for line in (tmp_path / "out/dropped.jsonl").read_text().splitlines()
    ]
    assert (dropped["row"], dropped["reason"]) == (3, "not finite")
    assert dropped["box"] == [None] * 4


def test_a_row_with_a_bad_box_of_a_sequence(tmp_path):
    rows = "1,1,21,11,40,100,1,1,1\n2,1,21,11,40,100,1,1,1\n3,1,21,,40,100,1,1,1\n4,nan,1,2,3\n"
    write(tmp_path / "s/gt/gt.txt", rows + "5,inf,21,11,40,100,1,inf,1\n")
    for i in range(1, 6):
        photo(tmp_path / f"s/img1/{i:06d}.jpg", [(LEFT, RED)])
    seen, report = cut(tmp_path, tmp_path, tmp_path / "out")
    assert [(row, colour) for _, row, colour in seen] == [(1, "red"), (2, "red"), (5, "red")]
    assert report["notes"] == [
        "2 boxes cannot be read and are left out, the first: s/gt/gt.txt, row 3: value '': must be "
        "a number"
    ]


def test_where_half_of_the_boxes_are_bad_the_first_is_the_error(tmp_path, images):
    write(tmp_path / "b.json", json.dumps(coco([None, xywh(LEFT)])))
    with pytest.raises(InputError) as error:
        cut(tmp_path / "b.json", images, tmp_path / "out")
    assert str(error.value) == (
        "b.json, entry 1: must hold 'image_id' and 'bbox'; it has no box and no polygon"
    )


# VOC.


def test_voc_sizes_may_be_fractions(tmp_path, images):
    size = "<width>160.0</width><height> 120.00 </height>"
    write(tmp_path / "voc/a.xml", voc("a.jpg", LEFT, RIGHT, size=size))
    assert cut(tmp_path / "voc", images, tmp_path / "out")[0] == BOTH


def test_voc_whose_filename_is_not_its_own(tmp_path):
    """All state one name, as a tool's template does: each means the image called like the XML."""
    photo(tmp_path / "images/a.jpg", [(LEFT, RED)])
    photo(tmp_path / "images/b.jpg", [(LEFT, GREEN)])
    for name in "ab":
        write(tmp_path / f"voc/{name}.xml", voc("frame.png", LEFT))
    seen, _ = cut(tmp_path / "voc", tmp_path / "images", tmp_path / "o1")
    assert seen == [("a.jpg", 1, "red"), ("b.jpg", 1, "green")]
    # The stated name counts where no image is called like the XML.
    write(tmp_path / "more/7.xml", voc("C:\\photos\\a.jpg", LEFT))
    seen, _ = cut(tmp_path / "more", tmp_path / "images", tmp_path / "o2")
    assert seen == [("a.jpg", 1, "red")]
    # Where both are there, the one that is taken is said.
    write(tmp_path / "both/a.xml", voc("b.jpg", LEFT))
    seen, report = cut(tmp_path / "both", tmp_path / "images", tmp_path / "o3")
    assert seen == [("a.jpg", 1, "red")]
    assert report["notes"] == [
        "1 image is taken by the name of the annotation, though the annotation states another file "
        "that is there, too: a states b.jpg"
    ]
    # Two that state one image are not both of it.
    for name in "78":
        write(tmp_path / f"two/{name}.xml", voc("a.jpg", LEFT))
    with pytest.raises(InputError, match=r"no such file; a\.jpg is the image of other boxes, too"):
        cut(tmp_path / "two", tmp_path / "images", tmp_path / "o4", on_bad_image="skip")


# Parquet that holds the images, too.


def jpeg(path):
    return (path / "a.jpg").read_bytes()


def held(images, kind):
    """Return a value of an image column as tools write it, for ``a.jpg``."""
    return {
        "struct": {"bytes": jpeg(images), "path": "a.jpg"},
        "struct without a path": {"bytes": jpeg(images), "path": None},
        "bytes": jpeg(images),
        "path": str(images / "a.jpg"),
        "struct of a path": {"bytes": None, "path": str(images / "a.jpg")},
    }[kind]


@pytest.mark.parametrize(
    "kind", ["struct", "struct without a path", "bytes", "path", "struct of a path"]
)
@pytest.mark.parametrize("folder", [False, True])
def test_images_in_parquet_without_the_schema_of_datasets(tmp_path, images, kind, folder):
    named_files = kind in ("path", "struct of a path")
    if named_files:  # which have to lie below the folder of the table, given as a file
        folder, inside = False, tmp_path / "set" / "images"
        inside.mkdir(parents=True)
        shutil.copy(images / "a.jpg", inside)
        images = inside
    other = photo((images if named_files else tmp_path) / "b.jpg", [(LEFT, GREEN)])
    second = held(images, kind)
    if isinstance(second, bytes):
        second = other.read_bytes()
    elif isinstance(second, str):
        second = str(other)
    elif second["bytes"] is None:
        second = {"bytes": None, "path": str(other)}
    else:
        second = {"bytes": other.read_bytes(), "path": second["path"] and "b.jpg"}
    rows = [{"img": held(images, kind), "xyxy": list(LEFT)}, {"img": second, "xyxy": list(LEFT)}]
    data = tmp_path / "set/b.parquet"
    data.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), data, row_group_size=1)
    seen, report = cut(data, data.parent if folder else data, tmp_path / "out")
    assert sorted((row, colour) for _, row, colour in seen) == [(1, "red"), (2, "green")]
    assert report["notes"] == []
    named = {"bytes", "struct without a path"}
    assert {file for file, _, _ in seen} == (
        {"b.parquet#1", "b.parquet#2"} if kind in named
        else {str(images / "a.jpg"), str(other)} if "path" in kind else {"a.jpg", "b.jpg"}
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["path", "struct of a path"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_row_of_parquet_names_no_image_elsewhere(tmp_path, images, kind, absolute):
    path = str(images / "a.jpg") if absolute else "../images/a.jpg"
    value = path if kind == "path" else {"bytes": None, "path": path}
    (tmp_path / "set").mkdir()
    data = tmp_path / "set" / "b.parquet"
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"img": value, "xyxy": list(LEFT)}]), data
    )
    with pytest.raises(InputError) as error:
        cut(data, data, tmp_path / "out")
    words = f"the row names {path!r}, which lies outside of the data set's folder"
    assert words in str(error.value)
    assert not (tmp_path / "out" / "data").exists()


def test_rows_with_the_boxes_of_a_whole_image(tmp_path, images):
    """As data sets of detection on the Hub are: structs of lists, and classes with names."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "objects": {
                "bbox": datasets.Sequence(datasets.Sequence(datasets.Value("float32"))),
                "category": datasets.Sequence(datasets.ClassLabel(names=["bicycle", "person"])),
            },
        }
    )
    objects = {"bbox": [xywh(LEFT), xywh(RIGHT)], "category": [0, 1]}
    rows = {"image": [{"bytes": jpeg(images), "path": None}], "objects": [objects]}
    data = datasets.Dataset.from_dict(rows, features=features)
    data.to_parquet(str(tmp_path / "train.parquet"))
    seen, report = cut(
        tmp_path / "train.parquet", tmp_path / "train.parquet", tmp_path / "out", box_format="xywh"
    )
    assert seen == [("train.parquet#1", 1, "green")]
    assert report["boxes"]["reasons"] == {"class": 1}


def test_a_person_found_in_another_shard_of_the_same_name_is_not_cut(tmp_path, images):
    for name in ("train/x.parquet", "test/y.parquet"):
        (tmp_path / name).parent.mkdir()
        rows = [{"image": held(images, "struct"), "xyxy": list(LEFT)}]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
    with pytest.raises(InputError) as error:
        cut(tmp_path / "train/x.parquet", tmp_path, tmp_path / "out")
    assert str(error.value) == (
        f"--images '{tmp_path}': holds none of the 1 images of the boxes, such as 'a.jpg' (several "
        "files could be it: test/y.parquet/a.jpg, train/x.parquet/a.jpg)"
    )


def test_parquet_without_images_is_one_line(tmp_path, images):
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "b.parquet")
    write(tmp_path / "b.txt", "a.jpg 20 10 60 110\n")
    with pytest.raises(InputError) as error:
        cut(tmp_path / "b.txt", tmp_path / "b.parquet", tmp_path / "out")
    assert str(error.value) == (
        f"--images '{tmp_path}/b.parquet': no column of b.parquet holds images (bytes, structs of "
        "bytes and path, or paths)"
    )
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match=r"c\.parquet: cannot be read: "):
        cut(tmp_path / "b.txt", tmp_path / "c.parquet", tmp_path / "out")


# Tables.

HEAD = "image;x0;y0;x1;y1"
TABLES = {
    "semicolons": f"{HEAD}\na.jpg;20;10;60;110\na.jpg;90;10;130;110\n",
    "decimal commas": f"{HEAD}\na.jpg;20,0;10,0;60,0;110\na.jpg;90;9,5;130;110,5\n",
    "Excel says so": f"sep=;\r\n{HEAD}\r\na.jpg;20;10;60;110\r\na.jpg;90;10;130;110\r\n",
    "bars": f"{HEAD}\na.jpg;20;10;60;110\na.jpg;90;10;130;110\n".replace(";", "|"),
    "spaces": "image, x0, y0 , x1, y1\n a.jpg, 20, 10, 60, 110\na.jpg , 90,10 ,130, 110\n",
    "quotes": 'image, "x0", y0, x1, y1, who\na.jpg, 20, 10, "60", 110, "A, B"\n'
    'a.jpg, 90, 10, 130, 110, "C"\n',
    "boxes as lists": 'image,xyxy\na.jpg,"[20, 10, 60, 110]"\na.jpg,"[90.0, 10, 130, 1.1e2]"\n',
    "boxes as tuples": "image;xywh\na.jpg;(20, 10, 40, 100)\na.jpg;(90, 10, 40, 100)\n",
    "boxes as words": "image,xyxy\na.jpg,20 10 60 110\na.jpg,90 10 130 110\n",
    "shares": "image_id,XMin,XMax,YMin,YMax\na,0.125,0.375,0.083333,0.916667\n"
    "a,0.5625,0.8125,0.083333,0.916667\n",
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_tables_as_spreadsheets_and_scripts_write_them(tmp_path, images, text):
    write(tmp_path / "b.csv", text)
    seen, report = cut(tmp_path / "b.csv", images, tmp_path / "out")
    assert seen == BOTH
    boxes = [row["box"] for row in rows_of(tmp_path / "out")]
    np.testing.assert_allclose(boxes, GOOD, atol=0.51)
    shown = "b.csv: its boxes are read as fractions of the image size"
    assert report["notes"] == ([shown] if "XMin" in text else [])


def test_a_table_without_a_header_is_one_line(tmp_path):
    write(tmp_path / "b.csv", "\na.jpg,1,2,3,4\n")
    with pytest.raises(InputError) as error:
        read_detections(tmp_path / "b.csv", "table")
    assert str(error.value) == (
        f"{tmp_path}/b.csv: the first line is empty; it must name the columns"
    )


def test_numbers_that_pandas_made_fractions_of(tmp_path, images):
    """A column of whole numbers with a blank is one of floats: 7.0 is 7, and NaN is nothing."""
    rows = [
        {"frame": math.nan, "xyxy": list(LEFT), "class_id": 0.0, "track_id": 7.0},
        {"frame": math.nan, "xyxy": list(RIGHT), "class_id": 1.0, "track_id": -1.0},
        {"frame": None, "xyxy": None, "class_id": None, "track_id": None},
    ]
    rows = [{"image": "a.jpg", **row} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "b.parquet")
    found = read_detections(tmp_path / "b.parquet")
    assert found.labels == ["0", "1"]
    assert [found.tracks[i] if i >= 0 else None for i in found.track] == ["7", None, None]
    seen, report = cut(tmp_path / "b.parquet", images, tmp_path / "out", classes="0,1")
    assert seen == BOTH
    assert report["notes"] == [
        "1 box cannot be read and is left out: b.parquet, row 3: column 'xyxy': must hold lists of "
        "four numbers, not None"
    ]


@pytest.mark.parametrize("head", ["frame", "video,frame"])
def test_a_column_of_frames_with_a_folder_of_frames(tmp_path, head):
    for number, colour in ((7, RED), (8, GREEN)):
        photo(tmp_path / f"frames/cam/frame_{number:05d}.jpg", [(LEFT, colour)])
    video = "cam.mp4," * (head != "frame")
    lines = [f"{video}{number},20,10,60,110" for number in (8, 7)]
    write(tmp_path / "b.csv", f"{head},x0,y0,x1,y1\n" + "\n".join(lines))
    seen, _ = cut(tmp_path / "b.csv", tmp_path / "frames", tmp_path / "out")
    assert seen == [("cam/frame_00007.jpg", 2, "red"), ("cam/frame_00008.jpg", 1, "green")]
    # The boxes count from 0: the file's numbers do not help.
    write(tmp_path / "z.csv", "frame,x0,y0,x1,y1\n0,20,10,60,110\n1,20,10,60,110\n")
    with pytest.raises(InputError) as error:
        cut(tmp_path / "z.csv", tmp_path / "frames", tmp_path / "o2", on_bad_image="skip")
    assert str(error.value) == (
        f"--images '{tmp_path}/frames': holds none of the 2 images of the boxes, such as '#0' (no "
        "frame 0; the frames of cam are 7 to 8; if the boxes count from 0, give --first-frame 0)"
    )
    seen, _ = cut(tmp_path / "z.csv", tmp_path / "frames", tmp_path / "o3", first_frame=0)
    assert seen == [("cam/frame_00007.jpg", 1, "red"), ("cam/frame_00008.jpg", 2, "green")]
