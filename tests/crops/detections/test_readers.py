"""Each format, written as its authors define it, gives the same boxes."""

import json
import math
import sqlite3
from types import SimpleNamespace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from patchit_hf.common.errors import InputError
from patchit_hf.crops import choices
from patchit_hf.crops.detections import from_supervision, read_detections
from patchit_hf.crops.detections.detect import list_formats

SIZE = (320, 240)
BOXES = {  # image: boxes
    "a/frame_2.jpg": [(10.0, 20.0, 60.0, 140.0), (100.5, 30.25, 150.5, 180.25)],
    "a/frame_10.jpg": [(40.0, 50.0, 90.0, 170.0)],
}
IN_ORDER = [box for boxes in BOXES.values() for box in boxes]


def coco(path):
    images = [
        {"id": i, "file_name": name, "width": 320, "height": 240} for i, name in enumerate(BOXES)
    ]
    annotations = [
        {"image_id": i, "bbox": [x0, y0, x1 - x0, y1 - y0], "category_id": 1, "iscrowd": 0}
        for i, boxes in enumerate(BOXES.values())
        for x0, y0, x1, y1 in boxes
    ]
    categories = [{"id": 1, "name": "person"}]
    value = {"images": images, "annotations": annotations[::-1], "categories": categories}
    path.write_text(json.dumps(value))


def yolo(path):
    for name, boxes in BOXES.items():
        file = path / name.replace(".jpg", ".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            "".join(
                f"0 {(x0 + x1) / 640:.6f} {(y0 + y1) / 480:.6f} {(x1 - x0) / 320:.6f} "
                f"{(y1 - y0) / 240:.6f}\n"
                for x0, y0, x1, y1 in boxes
            )
        )


def voc(path):
    for name, boxes in BOXES.items():
        file = path / name.replace(".jpg", ".xml")
        file.parent.mkdir(parents=True, exist_ok=True)
        objects = "".join(
            f"<object><name>person</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for x0, y0, x1, y1 in boxes
        )
        file.write_text(
            f"<annotation><filename>{file.stem}.jpg</filename><size><width>320</width>"
            f"<height>240</height></size>{objects}</annotation>"
        )


def text(path):
    path.write_text(
        "".join(
            f"{name} {' '.join(f'{v:.2f}' for v in box)}\n"
            for name, boxes in BOXES.items()
            for box in boxes
        )
    )


def csv(path):
    rows = [
        f"{name},{x0},{y0},{x1 - x0},{y1 - y0},0.5"
        for name, boxes in BOXES.items()
        for x0, y0, x1, y1 in boxes
    ]
    path.write_text("\n".join(["filename,x,y,width,height,conf", *rows]))


def parquet(path):
    rows = [
        {"image": name, "x1": x0, "y1": y0, "x2": x1, "y2": y1, "track_id": 7}
        for name, boxes in BOXES.items()
        for x0, y0, x1, y1 in boxes
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


FORMATS = [
    (coco, "boxes.json", "coco"), (yolo, "labels", "yolo"), (voc, "xml", "voc"),
    (text, "boxes.txt", "text"), (csv, "boxes.csv", "table"), (parquet, "b.parquet", "table"),
]  # fmt: skip


@pytest.mark.parametrize(("write", "name", "kind"), FORMATS, ids=[f[0].__name__ for f in FORMATS])
def test_the_same_boxes_from_each_format(tmp_path, write, name, kind):
    write(tmp_path / name)
    found = read_detections(tmp_path / name)
    assert found.kind == kind
    assert [found.images[i].removesuffix(".jpg") for i in found.image] == [
        "a/frame_2", "a/frame_2", "a/frame_10",
    ]  # fmt: skip
    everything = np.arange(len(found))
    boxes = found.boxes_in(everything, SIZE)
    if write is coco:  # written in reverse; the boxes of an image keep the file's order
        boxes = boxes[[1, 0, 2]]
    np.testing.assert_allclose(boxes, IN_ORDER, atol=0.01)


def test_coco_crowds_tracks_and_videos(tmp_path):
    value = {
        "videos": [{"id": 3, "name": "square"}],
        "images": [{"id": 1, "file_name": "1.jpg", "video_id": 3}],
        "annotations": [
            {"image_id": 1, "bbox": [1, 2, 3, 4], "category_id": 1, "iscrowd": 1},
            {"image_id": 1, "bbox": [1, 2, 3, 4], "category_id": 1, "track_id": 9},
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "b.json").write_text(json.dumps(value))
    found = read_detections(tmp_path / "b.json")
    assert [found.labels[i] for i in found.label] == ["crowd", "person"]
    assert found.tracks == ["9"]
    assert found.track.tolist() == [-1, 0]
    assert found.sources == ["square"]


def test_coco_results_with_and_without_their_pictures(tmp_path):
    results = [{"image_id": 139, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.25}]
    (tmp_path / "r.json").write_text(json.dumps(results))
    found = read_detections(tmp_path / "r.json")
    assert (found.images, found.persons, found.score.tolist()) == (["139"], ("1",), [0.25])
    assert found.boxes.tolist() == [[1, 2, 4, 6]]
    truth = {
        "images": [{"id": 139, "file_name": "x/0139.jpg", "width": 9, "height": 8}],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    found = read_detections(tmp_path / "r.json", image_list=tmp_path / "gt.json")
    assert (found.images, found.labels) == (["x/0139.jpg"], ["person"])
    assert found.sizes.tolist() == [[9, 8]]


def test_yolo_scores_tracks_polygons_and_names(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("names: {0: person, 1: car}")
    (tmp_path / "labels/1.txt").write_text(
        "0 0.5 0.5 0.2 0.4 0.75\n1 0.5 0.5 0.2 0.4 0.5 12\n0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n"
    )
    (tmp_path / "labels/2.txt").write_text("")
    found = read_detections(tmp_path / "labels")
    np.testing.assert_allclose(found.boxes[0], [0.4, 0.3, 0.6, 0.7])
    np.testing.assert_allclose(found.boxes[2], [0.1, 0.2, 0.3, 0.6])
    assert [found.labels[i] for i in found.label] == ["person", "car", "person"]
    assert found.score[:2].tolist() == [0.75, 0.5]
    assert math.isnan(found.score[2])
    assert found.tracks == ["12"]
    assert found.images == ["1", "2"]
    assert found.where(1) == "1.txt, row 2"


def test_mot_files_and_folders(tmp_path):
    one = tmp_path / "train/MOT17-02"
    (one / "gt").mkdir(parents=True)
    (one / "gt/gt.txt").write_text(
        "2,1,11,21,50,120,1,1,0.9\n1,1,1,1,50,120,1,1,1\n1,2,5,5,9,9,0,1,1\n1,3,5,5,9,9,1,3,1\n"
    )
    (one / "seqinfo.ini").write_text("[Sequence]\nname=MOT17-02\nimDir=img1\nimExt=.png\n")
    two = tmp_path / "train/b"
    (two / "det").mkdir(parents=True)
    (two / "det/det.txt").write_text("1,-1,1,1,50,120,37.5,-1,-1,-1\n")
    found = read_detections(tmp_path / "train")
    assert found.kind == "mot"
    assert found.images == [
        "MOT17-02/img1/000001.png", "MOT17-02/img1/000002.png", "b/img1/000001",
    ]  # fmt: skip
    assert found.boxes[0].tolist() == [0, 0, 50, 120]
    assert found.boxes[3].tolist() == [10, 20, 60, 140]
    words = [found.labels[i] if i >= 0 else None for i in found.label]
    assert words == ["pedestrian", "ignored", "car", "pedestrian", None]
    assert found.score[4] == 37.5
    assert found.track[4] == -1
    assert found.tracks[found.track[0]] == "MOT17-02/1"
    assert set(found.sources) == {"MOT17-02", "b"}
    alone = read_detections(one / "gt/gt.txt")
    assert alone.images == ["000001.png", "000002.png"]
    assert set(alone.sources) == {"MOT17-02"}


def test_parse27k(tmp_path):
    base = sqlite3.connect(tmp_path / "annotations.sqlite3")
    base.executescript(
        """
        CREATE TABLE Sequence(sequenceID, directory);
        CREATE TABLE Image(imageID, filename, sequenceID);
        CREATE TABLE Pedestrian(pedestrianID, imageID, attributeSetID, box_min_x, box_min_y,
                                box_max_x, box_max_y);
        INSERT INTO Sequence VALUES (1, 's1'), (7, 's7'), (3, 's3');
        INSERT INTO Image VALUES (1, 'a.png', 1), (2, 'a.png', 7), (3, 'b.png', 3);
        INSERT INTO Pedestrian VALUES (5, 1, 0, 1, 2, 30, 90), (6, 2, 0, 1, 2, 31, 90),
                                      (8, 3, 0, 1, 2, 32, 90);
        """
    )
    base.commit()
    base.close()
    found = read_detections(tmp_path / "annotations.sqlite3")
    assert found.images == ["sequences/s1/a.png", "sequences/s3/b.png", "sequences/s7/a.png"]
    assert found.splits == ["train", "test", "validation"]
    assert found.sources == ["s1", "s3", "s7"]
    assert found.boxes[:, 2].tolist() == [30, 32, 31]
    assert found.row.tolist() == [5, 8, 6]


def test_supervision_objects():
    empty = SimpleNamespace(xyxy=np.zeros((0, 4), np.float32))
    some = SimpleNamespace(
        xyxy=np.array([[1, 2, 3, 4]], np.float32), confidence=np.array([0.5]),
        class_id=np.array([0]), tracker_id=np.array([4]), data={"class_name": ["person"]},
    )  # fmt: skip
    found = from_supervision({"a.jpg": some, "b.jpg": empty})
    assert found.images == ["a.jpg", "b.jpg"]
    assert found.boxes.tolist() == [[1, 2, 3, 4]]
    assert (found.labels, found.tracks, found.score.tolist()) == (["person"], ["4"], [0.5])
    assert found.notes == ()
    del some.data
    line = "nothing names the classes; class 0 is taken for a person (--classes takes another)"
    assert from_supervision({"a.jpg": some}).notes == (f"boxes in memory: {line}",)
    with pytest.raises(InputError, match=r"a.jpg: SimpleNamespace has no xyxy of shape \(N, 4\)"):
        from_supervision([("a.jpg", SimpleNamespace(xyxy=np.zeros(3)))])


def test_names_with_spaces_and_the_order_of_numbers(tmp_path):
    (tmp_path / "b.txt").write_text("a 10.jpg 1 2 3 4\n# no box\na 9.jpg 5 6 7 8\n")
    found = read_detections(tmp_path / "b.txt")
    assert found.images == ["a 9.jpg", "a 10.jpg"]
    assert found.row.tolist() == [3, 1]


def test_a_table_with_other_names_and_with_lists(tmp_path):
    (tmp_path / "b.csv").write_text("pic,l,t,r,b,p\nx.jpg,1,2,3,4,0.5\n")
    columns = {"image": "pic", "a": "l", "b": "t", "c": "r", "d": "b", "score": "p"}
    found = read_detections(tmp_path / "b.csv", "table", columns=columns, box_format="xyxy")
    assert found.boxes.tolist() == [[1, 2, 3, 4]]
    table = pyarrow.Table.from_pylist([{"image": "x.jpg", "bbox": [1.0, 2, 3, 4], "video": "v"}])
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    found = read_detections(tmp_path / "b.parquet", box_format="xywh")
    assert found.boxes.tolist() == [[1, 2, 4, 6]]
    assert found.sources == ["v"]
    with pytest.raises(InputError, match="the meaning of the four numbers of a box is unknown"):
        read_detections(tmp_path / "b.parquet")


def test_names_of_digits_stay_names(tmp_path):
    (tmp_path / "b.csv").write_text("image,x0,y0,x1,y1,label,track\n007,1,2,3,4,01,0002\n")
    found = read_detections(tmp_path / "b.csv")
    assert (found.images, found.labels, found.tracks) == (["007"], ["01"], ["0002"])


BAD = [
    ("b.txt", "", "is empty"),
    ("b.txt", "hello world\n", r"'hello world' is in no known format"),
    ("b.txt", "a.jpg 1 2 3 4\nb.jpg 1 2 x 4\n", r"b.txt, row 2: box 'x': must be a number"),
    ("b.txt", "a.jpg 1 2 3 4\nb.jpg 1\n", r"b.txt, row 2: .*must be filename minx miny"),
    ("b.json", "{", "b.json: is damaged"),
    ("b.json", '{"images": []}', "is not COCO"),
    ("b.json", '{"images": [], "annotations": []}', r"holds no box \(read as coco\)"),
    ("b.json", '[{"image_id": 1}]', "entry 1: must hold 'image_id' and 'bbox'"),
    ("b.json", '[{"image_id": 1, "bbox": [1, 2]}]', "the box has 2 numbers; must be 4"),
    (
        "b.json",
        '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 2, "bbox": []}]}',
        "image_id 2 is not among the images",
    ),
    ("b.xml", "<annotation>", "is damaged"),
    ("b.xml", "<html></html>", "XML with <html> is in no known format"),
    ("b.xml", "<annotation><object/></annotation>", "object 1: has no <bndbox>"),
    ("b.txt", "0 0.5 0.5 0.1 0.1\n0 0.5 0.5\n", "row 2: 3 values"),
    ("b.csv", "image,score\na.jpg,1\n", r"no four columns hold a box.*columns: image, score"),
    ("b.csv", "image,x,y,w,h\na.jpg,1,2,oops,4\n", "column 'w': must hold numbers"),
    ("b.csv", "1,2,3,4,5,6\n1,2,3\n", "row 2: 3 values; must be frame, track"),
    ("b.db", "SQLite format 3\0 no more", "is not the PARSE-27k database"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_bad_files_are_one_clear_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_detections(tmp_path / name)
    assert "\n" not in str(error.value)


def test_the_help_lists_every_format():
    assert tuple(form.name for form in list_formats()) == choices.FORMATS


def test_bad_questions(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        read_detections(tmp_path / "none")
    with pytest.raises(InputError, match="no file of the folder is in a known format"):
        read_detections(tmp_path)
    (tmp_path / "1.txt").write_text("0 100 100 20 20\n")
    with pytest.raises(InputError, match="look like pixels"):
        read_detections(tmp_path, "yolo")
    text(tmp_path / "b.txt")
    yolo(tmp_path / "labels")
    with pytest.raises(InputError, match="yolo defines its own"):
        read_detections(tmp_path / "labels", box_format="xywh")
    csv(tmp_path / "b.csv")
    with pytest.raises(InputError, match="--columns 'colour'"):
        read_detections(tmp_path / "b.csv", columns={"colour": "conf"})
    with pytest.raises(
        InputError, match=r"--columns score=sure: no such column in b.csv; columns:"
    ):
        read_detections(tmp_path / "b.csv", columns={"score": "sure"})


@pytest.mark.parametrize(
    "content",
    [
        rb'[{"image_id": 1, "bbox": [1, 2, 30, 40.5], "category_\d": 1}]',
        rb'{"images": [], "anno\tations\x": []}',
    ],
)
def test_a_damaged_json_key_is_one_line(content, tmp_path):
    file = tmp_path / "boxes.json"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_detections(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
