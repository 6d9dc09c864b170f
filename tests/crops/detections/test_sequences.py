"""Sequences of frames: MOTChallenge, DanceTrack, CVAT's MOT, and what trackers write."""

import numpy as np
import pytest

from patchit_hf.crops import CropOptions, make_crops
from patchit_hf.crops.detections import read_detections
from tests.crops.detections.scenes import BOTH, GREEN, RED, cut, paint


def line(frame, track, box, rest="1,1,1"):
    x0, y0, x1, y1 = box
    return f"{frame},{track},{x0 + 1},{y0 + 1},{x1 - x0},{y1 - y0},{rest}\n"


def sequence(root, colour, *, digits=6, frames=2):
    """Paint the frames of a sequence with one person, and return the lines about it."""
    box = RED if colour == "red" else GREEN
    for frame in range(1, frames + 1):
        paint(root / f"{frame:0{digits}d}.jpg", [(colour, box)])
    return box


def test_dancetrack_has_eight_digits_and_several_sequences(tmp_path):
    for name, colour in (("dancetrack0001", "red"), ("dancetrack0004", "green")):
        box = sequence(tmp_path / f"frames/{name}/img1", colour, digits=8)
        (tmp_path / f"train/{name}/gt").mkdir(parents=True)
        (tmp_path / f"train/{name}/gt/gt.txt").write_text(
            "".join(line(frame, 7, box) for frame in (1, 2))
        )
        (tmp_path / f"train/{name}/seqinfo.ini").write_text(
            f"[Sequence]\nname={name}\nimDir=img1\nimExt=.jpg\n"
        )
    found = read_detections(tmp_path / "train")
    assert (found.kind, len(set(found.sources))) == ("mot", 2)
    crops, _ = cut(found, tmp_path / "frames", tmp_path / "out")
    assert crops == [
        (f"{name}/img1/0000000{frame}.jpg", colour, box)
        for name, colour, box in (
            ("dancetrack0001", "red", RED),
            ("dancetrack0004", "green", GREEN),
        )
        for frame in (1, 2)
    ]


COMMAS = "0.9,-1,-1,-1"
SPACES = "-1 -1 -1 -1"


@pytest.mark.parametrize("frames", ["{}/img1", "{}", "train/{}/img1"])
@pytest.mark.parametrize("rest", [COMMAS, SPACES])
def test_results_of_a_tracker_one_file_a_sequence(tmp_path, frames, rest):
    (tmp_path / "results").mkdir()
    for name, colour in (("MOT17-02", "red"), ("MOT17-04", "green")):
        box = sequence(tmp_path / "images" / frames.format(name), colour)
        lines = "".join(line(frame, 3, box, rest) for frame in (1, 2))
        lines = lines.replace(",", " ") if rest == SPACES else lines
        (tmp_path / f"results/{name}.txt").write_text(lines)
    (tmp_path / "results/empty.txt").write_text("")
    (tmp_path / "results/pedestrian_summary.txt").write_text("HOTA DetA AssA LocA a b c\n1 2 3 4\n")
    found = read_detections(tmp_path / "results")
    assert found.kind == "mot"
    assert sorted(set(found.sources)) == ["MOT17-02", "MOT17-04"]
    assert found.tracks == ["MOT17-02/3", "MOT17-04/3"]
    np.testing.assert_array_equal(found.score, [0.9 if rest == COMMAS else np.nan] * 4)
    assert found.notes == (
        "pedestrian_summary.txt: is passed over; its first line is no frame, track and box",
    )
    crops, _ = cut(found, tmp_path / "images", tmp_path / "out")
    where = frames.format("MOT17-0{}")
    assert crops == [
        (f"{where.format(n)}/00000{frame}.jpg", colour, box)
        for n, (colour, box) in zip((2, 4), BOTH, strict=True) for frame in (1, 2)
    ]  # fmt: skip


def test_results_of_a_sequence_whose_frames_are_missing_are_not_cut_from_another(tmp_path):
    (tmp_path / "results").mkdir()
    for name in ("MOT17-02", "MOT17-04"):
        (tmp_path / f"results/{name}.txt").write_text(line(1, 3, RED, COMMAS))
    sequence(tmp_path / "images/MOT17-02/img1", "red")
    found = read_detections(tmp_path / "results")
    options = CropOptions(validation=0)
    report = make_crops(found, tmp_path / "images", tmp_path / "out", options, on_bad_image="skip")
    assert report["boxes"]["kept"] == 1
    assert report["boxes"]["reasons"] == {"bad picture": 1}


def test_labels_of_yolo_with_one_stray_file_of_a_tracker_stay_yolo(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.2\n" * 3)
    (tmp_path / "b.txt").write_text(line(1, 3, RED, COMMAS).replace(",", " "))
    assert read_detections(tmp_path).kind == "yolo"


def test_the_classes_that_cvat_lists_beside_the_ground_truth(tmp_path):
    (tmp_path / "gt").mkdir()
    sequence(tmp_path / "img1", "green", frames=1)
    (tmp_path / "gt/labels.txt").write_text("bicycle\nperson\n")
    (tmp_path / "gt/gt.txt").write_text(
        line(1, 1, (10, 10, 60, 110), "1,1,1.0") + line(1, 2, GREEN, "1,2,1.0")
    )
    found = read_detections(tmp_path)
    crops, report = cut(found, tmp_path, tmp_path / "out")
    assert crops == [("img1/000001.jpg", "green", GREEN)]
    assert report["boxes"]["classes"] == {"bicycle": 1}
