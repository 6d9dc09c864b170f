"""VisDrone's labels of images and of videos, and that they are told from MOTChallenge's."""

import math

import pytest

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections import read_detections
from tests.crops.detections.scenes import BOTH, cut, paint

LINES = [
    "40,40,40,100,1,1,0,0", "160,60,40,120,1,2,0,1,", "220,30,80,60,1,4,0,0", "0,0,30,30,0,0,0,0",
    "5,150,20,60,0,1,0,0",
]  # fmt: skip


def test_a_folder_of_images(tmp_path):
    root = tmp_path / "VisDrone2019-DET-train"
    (root / "annotations").mkdir(parents=True)
    for name in ("0000001_02999_d_0000005", "9999999_00000_d_0000120"):
        paint(root / f"images/{name}.jpg")
        (root / f"annotations/{name}.txt").write_text("\r\n".join(LINES) + "\r\n")
    found = read_detections(root)
    assert found.kind == "visdrone"
    assert [found.labels[i] for i in found.label[:5]] == [
        "pedestrian", "people", "car", "ignored", "ignored",
    ]  # fmt: skip
    assert all(math.isnan(score) for score in found.score)
    crops, report = cut(found, root, tmp_path / "out")
    assert [crop[1:] for crop in crops] == BOTH * 2
    assert report["boxes"]["classes"] == {"ignored": 4, "car": 2}
    crops, _ = cut(read_detections(root / "annotations"), root / "images", tmp_path / "out2")
    assert [crop[1:] for crop in crops] == BOTH * 2


def test_results_have_scores(tmp_path):
    (tmp_path / "a.txt").write_text("40,40,40,100,0.93,1,-1,-1\n160,60,40,120,0.5,4,-1,-1\n")
    found = read_detections(tmp_path)
    assert (found.kind, found.images) == ("visdrone", ["a"])
    assert (found.labels, found.score.tolist()) == (["pedestrian", "car"], [0.93, 0.5])


def test_a_folder_of_videos(tmp_path):
    (tmp_path / "annotations").mkdir()
    for video, colour in (("uav0000013_00000_v", "red"), ("uav0000020_00406_v", "green")):
        for frame in (1, 2):
            paint(tmp_path / f"sequences/{video}/{frame:07d}.jpg", [(colour, BOTH[0][1])])
        (tmp_path / f"annotations/{video}.txt").write_text(
            "1,3,40,40,40,100,1,1,0,0\n2,3,40,40,40,100,1,1,0,2\n2,4,0,0,9,9,0,0,0,0\n"
        )
    found = read_detections(tmp_path)
    assert found.kind == "visdrone"
    assert found.tracks[0] == "sequences/uav0000013_00000_v/3"
    assert set(found.sources) == {f"sequences/{v}" for v in
                                  ("uav0000013_00000_v", "uav0000020_00406_v")}  # fmt: skip
    crops, report = cut(found, tmp_path, tmp_path / "out")
    assert crops == [
        (f"sequences/{video}/000000{frame}.jpg", colour, BOTH[0][1])
        for video, colour in (("uav0000013_00000_v", "red"), ("uav0000020_00406_v", "green"))
        for frame in (1, 2)
    ]
    assert report["boxes"]["classes"] == {"ignored": 2}


@pytest.mark.parametrize(
    "line",
    ["1,2,41,41,40,100,1,1", "1,-1,41,41,40,100,37.5,-1,-1,-1", "1,1,41,41,40,100,1,1,0.8",
     "1,1,41,41,40,100,0.9,1.5,0.2,7.5"],
)  # fmt: skip
def test_motchallenge_is_not_taken_for_it(tmp_path, line):
    (tmp_path / "b.txt").write_text(f"{line}\n")
    assert read_detections(tmp_path / "b.txt").kind == "mot"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3", "b.txt, row 2: 3 values; must be the 8 of VisDrone"),
        ("40,40,40,100,1,17,0,0", "b.txt, row 2: category 17: must be 0 to 11"),
        ("40,40,x,100,1,1,0,0", "b.txt, row 2: value 'x': must be a number"),
        ("0,1,40,40,40,100,1,1,0,0", "b.txt, row 2: frame '0': must be a whole number from 1"),
    ],
)
def test_damaged_lines(tmp_path, line, message):
    (tmp_path / "b.txt").write_text(f"{LINES[0]}\n{line}\n")
    with pytest.raises(InputError) as error:
        read_detections(tmp_path / "b.txt", "visdrone")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_damaged_line_is_left_out_and_reported(tmp_path):
    (tmp_path / "b.txt").write_text(f"{LINES[0]}\n40,40,x,100,1,1,0,0\n{LINES[1]}\n")
    found = read_detections(tmp_path / "b.txt", "visdrone")
    why = "b.txt, row 2: value 'x': must be a number"
    assert found.notes == (f"1 box cannot be read and is left out: {why}",)
    assert found.row.tolist() == [1, 2, 3]
