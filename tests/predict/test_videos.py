"""``patchit predict`` and ``patchit embed`` of a small real video, its frames and boxes in them."""

import json

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

av = pytest.importorskip("av")

from patchit_hf import FinetunedModel, PatchTaskModel  # noqa: E402
from patchit_hf.crops.cutting.videos import FrameReader  # noqa: E402
from patchit_hf.shell.main import main  # noqa: E402
from tests.crops.cutting.test_videos import make_video  # noqa: E402

BOX = [20.0, 10.0, 60.0, 90.0]
EVERY = [0, 4, 8]  # of nine frames, every fourth


@pytest.fixture
def video(tmp_path):
    """Nine frames whose left half tells their number by its grey."""
    return make_video(tmp_path / "cam.mp4", frames=9)


@pytest.fixture
def boxes(tmp_path):
    """The same box in the frames of the numbers 0, 3 and 8, which MOT counts from 1."""
    path = tmp_path / "boxes.txt"
    left, top, right, bottom = BOX
    size = f"{left + 1:g},{top + 1:g},{right - left:g},{bottom - top:g}"  # MOT counts pixels from 1
    path.write_text("".join(f"{frame + 1},5,{size},0.9,-1,-1,-1\n" for frame in (0, 3, 8)))
    return path


def frames(video, numbers):
    with FrameReader(video) as reader:
        return [reader.picture(number).pixels for number in numbers]


def answers(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_frames_of_a_video(video, finetuned, capsys, tmp_path):
    run, drawn = finetuned("action"), tmp_path / "drawn"
    capsys.readouterr()
    words = ["predict", str(run), str(video), "--every", "4"]
    assert main([*words, "--draw", str(drawn)]) == 0
    found = answers(capsys)
    assert [(one["file"], one["frame"]) for one in found] == [(str(video), n) for n in EVERY]
    wanted = FinetunedModel.from_pretrained(run).predict(frames(video, EVERY))
    for one, result in zip(found, wanted, strict=True):
        assert one["probabilities"] == pytest.approx(result.probabilities, abs=1e-5)
        assert not {"x0", "track"} & set(one)
    assert sorted(file.name for file in drawn.iterdir()) == [f"cam-{n:06d}.png" for n in EVERY]
    for number in EVERY:  # each picture shows its own frame: 20 + 3 x number
        with Image.open(drawn / f"cam-{number:06d}.png") as picture:
            grey = np.asarray(picture)[50:500, 50:300].mean()
        assert grey == pytest.approx(20 + 3 * number, abs=2)


def test_boxes_in_a_video(video, boxes, finetuned, capsys, tmp_path):
    run, output, drawn = finetuned("pose"), tmp_path / "found.parquet", tmp_path / "drawn"
    words = ["predict", str(run), str(video), "--detections", str(boxes), "--output", str(output)]
    capsys.readouterr()
    assert main([*words, "--draw", str(drawn)]) == 0
    assert f"{output}: 3 people\n{drawn}: 3 images\n" in capsys.readouterr().err
    rows = pyarrow.parquet.read_table(output).to_pylist()
    assert [row["frame"] for row in rows] == [0, 3, 8]
    model = FinetunedModel.from_pretrained(run)
    for row, frame in zip(rows, frames(video, [0, 3, 8]), strict=True):
        assert [row[corner] for corner in ("x0", "y0", "x1", "y1")] == BOX
        assert (row["file"], row["track"]) == (str(video), "boxes/5")
        point = model.predict(frame, boxes=BOX).keypoints["left knee"]
        assert row["left_knee_x"] == pytest.approx(point.x, abs=1e-2)
        assert row["left_knee_y"] == pytest.approx(point.y, abs=1e-2)
    assert sorted(file.name for file in drawn.iterdir()) == [
        f"cam-{number:06d}.png" for number in (0, 3, 8)
    ]
    assert (
        main([*words, "--every", "4"]) == 0
    )  # of the frames with boxes, every fourth of the video
    assert pyarrow.parquet.read_table(output)["frame"].to_pylist() == [0, 8]


def test_embeddings_of_a_video(video, boxes, export, tmp_path):
    output = tmp_path / "vectors.parquet"
    words = ["embed", str(export), str(video), "--output", str(output)]
    model = PatchTaskModel.from_pretrained(export)
    assert main([*words, "--every", "4"]) == 0
    table = pyarrow.parquet.read_table(output)
    assert table["frame"].to_pylist() == EVERY
    wanted = model.embed(frames(video, EVERY))
    np.testing.assert_allclose(table["embedding"].to_pylist(), wanted, atol=1e-5)
    assert np.abs(wanted[0] - wanted[2]).max() > 1e-3  # the frames are not alike
    assert main([*words, "--detections", str(boxes)]) == 0
    table = pyarrow.parquet.read_table(output)
    assert table["frame"].to_pylist() == [0, 3, 8]
    assert table["x1"].to_pylist() == [BOX[2]] * 3
    cut = [frame.crop(BOX) for frame in frames(video, [0, 3, 8])]
    np.testing.assert_allclose(table["embedding"].to_pylist(), model.embed(cut), atol=1e-4)


def test_a_folder_of_videos_and_images(video, finetuned, capsys):
    Image.new("RGB", (40, 80)).save(video.parent / "alone.png")
    capsys.readouterr()
    assert main(["predict", str(finetuned("action")), str(video.parent), "--every", "8"]) == 0
    assert [(one["file"], one.get("frame")) for one in answers(capsys)] == [
        (str(video.parent / "alone.png"), None), (str(video), 0), (str(video), 8),
    ]  # fmt: skip


def test_a_damaged_video_is_one_line(video, finetuned, capsys):
    video.write_bytes(video.read_bytes()[:300])
    capsys.readouterr()
    assert main(["predict", str(finetuned("action")), str(video)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert str(video) in err
    assert err.count("\n") == 1
