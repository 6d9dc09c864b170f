"""Open Images' tables of boxes."""

import math

import pytest

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections import read_detections
from tests.crops.detections.scenes import BOTH, CAR, GREEN, RED, cut, paint

HEAD = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
HEAD += "IsDepiction,IsInside\n"


def row(image, mid, box, more="0,0,0,0,0", score="1"):
    x0, y0, x1, y1 = box
    return (
        f"{image},xclick,{mid},{score},{x0 / 320:.6f},{x1 / 320:.6f},{y0 / 240:.6f},{y1 / 240:.6f},"
        f"{more}\n"
    )


def rows(image):
    return (
        row(image, "/m/01g317", RED) + row(image, "/m/03bt1vf", GREEN) + row(image, "/m/0k4j", CAR)
        + row(image, "/m/01g317", (0, 0, 60, 120), "0,0,1,0,0")
        + row(image, "/m/04yx4", (0, 0, 60, 120), "-1,-1,0,1,-1")
    )  # fmt: skip


def test_files_of_two_splits_with_and_without_class_names(tmp_path):
    names = {"oidv6-train": "000002b66c9c498e", "validation": "0003eeaf4aed83f9"}
    for start, name in names.items():
        paint(tmp_path / f"images/{name}.jpg")
        (tmp_path / f"{start}-annotations-bbox.csv").write_text("\ufeff" + HEAD + rows(name))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    found = read_detections(tmp_path)
    assert (found.kind, found.splits) == ("openimages", ["train", "validation"])
    assert [found.labels[i] for i in found.label[:5]] == [
        "Person", "Woman", "/m/0k4j", "group", "depiction",
    ]  # fmt: skip
    assert all(math.isnan(score) for score in found.score)
    (tmp_path / "oidv7-class-descriptions-boxable.csv").write_text(
        "LabelName,DisplayName\n/m/01g317,Person\n/m/03bt1vf,Woman\n/m/0k4j,Car\n/m/04yx4,Man\n"
    )
    found = read_detections(tmp_path)
    crops, report = cut(found, tmp_path / "images", tmp_path / "out")
    assert [(file, colour) for file, colour, _ in crops] == [
        (f"{name}.jpg", colour) for name in names.values() for colour, _ in BOTH
    ]
    assert [[round(v) for v in box] for *_, box in crops] == [list(RED), list(GREEN)] * 2
    assert report["boxes"]["classes"] == {"Car": 2, "group": 2, "depiction": 2}
    assert list(report["splits"]) == ["train", "validation"]


def test_confidence_is_a_score_unless_it_is_always_one(tmp_path):
    (tmp_path / "b.csv").write_text(
        HEAD + row("a", "/m/01g317", RED) + row("a", "/m/01g317", GREEN, score="0.5")
    )
    found = read_detections(tmp_path / "b.csv")
    assert (found.kind, found.score.tolist(), found.splits) == ("openimages", [1, 0.5], [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + row("a", "/m/01g317", RED).replace("0.125000", "left"),
            "cannot be read as Open",
        ),
        (HEAD + "a,b\n", "cannot be read as Open Images: CSV parse error"),
        ("ImageID,LabelName\na,b\n", "cannot be read as Open Images: "),
        (HEAD, "holds no box (read as openimages)"),
    ],
)
def test_damaged_files(tmp_path, text, message):
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(InputError) as error:
        read_detections(tmp_path / "b.csv", "openimages")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
