"""KITTI labels of images and of sequences."""

import math

import numpy as np
import pytest

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections import read_detections
from tests.crops.detections.scenes import BOTH, cut, paint

END = "1.89 0.48 1.20 1.84 1.47 8.41 0.01"
LINES = [
    f"Pedestrian 0.00 0 -0.20 40.00 40.00 80.00 140.00 {END}",
    f"Person_sitting 0.00 1 -0.20 160.00 60.00 200.00 180.00 {END}",
    f"Car 0.00 0 1.85 220.00 30.00 300.00 90.00 {END}",
    "DontCare -1 -1 -10 0.00 0.00 30.00 30.00 -1 -1 -1 -1000 -1000 -1000 -10",
]


def test_a_training_folder_with_its_calibration(tmp_path):
    root = tmp_path / "training"
    for name in ("000000", "000001"):
        paint(root / f"image_2/{name}.png")
        for folder, text in (("label_2", "\n".join(LINES)), ("calib", "P0: 7.2 0.0 1.0 2.0 0.1")):
            (root / folder).mkdir(exist_ok=True)
            (root / folder / f"{name}.txt").write_text(text + "\n")
    found = read_detections(root)
    assert found.kind == "kitti"
    assert found.images == ["image_2/000000", "image_2/000001"]
    assert found.labels == ["Pedestrian", "Person_sitting", "Car", "DontCare"]
    assert all(math.isnan(score) for score in found.score)
    crops, report = cut(found, root, tmp_path / "out")
    assert crops == [
        (f"image_2/{name}.png", colour, box) for name in ("000000", "000001")
        for colour, box in BOTH
    ]  # fmt: skip
    assert report["boxes"]["reasons"] == {"class": 4}
    assert report["boxes"]["classes"] == {"Car": 2, "DontCare": 2}


def test_labels_alone_and_one_file(tmp_path):
    paint(tmp_path / "pictures/000007.png")
    (tmp_path / "label_2").mkdir()
    file = tmp_path / "label_2/000007.txt"
    file.write_text("\n".join(f"{line} 0.75" for line in LINES[:2]) + "\n")
    for path in (tmp_path / "label_2", file):
        found = read_detections(path)
        assert (found.kind, found.score.tolist()) == ("kitti", [0.75, 0.75])
        crops, _ = cut(found, tmp_path / "pictures", tmp_path / f"out-{path.name}")
        assert crops == [("000007.png", colour, box) for colour, box in BOTH]


def test_sequences_of_the_tracking_benchmark(tmp_path):
    (tmp_path / "label_02").mkdir()
    for sequence, shift in (("0000", 0), ("0013", 60)):
        lines = []
        for frame in range(2):
            boxes = [(c, (x0 + shift, y0, x1 + shift, y1)) for c, (x0, y0, x1, y1) in BOTH]
            paint(tmp_path / f"image_02/{sequence}/{frame:06d}.png", boxes)
            for track, (_, box) in enumerate(boxes):
                box = " ".join(f"{v:.2f}" for v in box)
                lines.append(f"{frame} {track} Pedestrian 0 0 -1.5 {box} {END}")
            lines.append(f"{frame} -1 DontCare -1 -1 -10 5 5 9 9 -1 -1 -1 -1000 -1000 -1000 -10")
        (tmp_path / f"label_02/{sequence}.txt").write_text("\n".join(lines) + "\n")
    found = read_detections(tmp_path)
    assert found.kind == "kitti"
    assert found.sources == [f"image_02/{s}" for s in ("0000", "0000", "0013", "0013")]
    assert found.tracks == [f"image_02/{s}/{t}" for s in ("0000", "0013") for t in (0, 1)]
    assert sorted(found.track.tolist()) == [-1] * 4 + [0, 0, 1, 1, 2, 2, 3, 3]
    crops, _ = cut(found, tmp_path, tmp_path / "out")
    assert crops == [
        (f"image_02/{s}/{f:06d}.png", c, (x0 + d, y0, x1 + d, y1))
        for s, d in (("0000", 0), ("0013", 60)) for f in range(2) for c, (x0, y0, x1, y1) in BOTH
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Pedestrian 0 0 0 1 2 3", "b.txt, row 2: 7 values; must be the 15 of KITTI"),
        (LINES[0].replace("80.00", "eighty"), "b.txt, row 2: box 'eighty': must be a number"),
        (f"0.5 1 {LINES[0]}", "b.txt, row 2: frame '0.5': must be a whole number from 0"),
        (f"{LINES[0]} high", "b.txt, row 2: score 'high': must be a number"),
    ],
)
def test_damaged_lines(tmp_path, line, message):
    (tmp_path / "b.txt").write_text(f"{LINES[0]}\n{line}\n")
    with pytest.raises(InputError) as error:
        read_detections(tmp_path / "b.txt")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_damaged_line_is_left_out_and_reported(tmp_path):
    (tmp_path / "b.txt").write_text("\n".join([LINES[0], "Pedestrian 1 2", LINES[1]]))
    found = read_detections(tmp_path / "b.txt")
    (note,) = found.notes
    assert note.startswith("1 box cannot be read and is left out: b.txt, row 2: 3 values; must be")
    assert found.row.tolist() == [1, 2, 3]
    assert np.isnan(found.boxes).all(axis=1).tolist() == [False, True, False]
