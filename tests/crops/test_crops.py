"""The crops command on generated scenes: its results, continuing, and one-line errors."""

import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet
import pytest
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from patchit_hf import load_crops, open_image
from patchit_hf.common.errors import InputError
from patchit_hf.crops import main
from patchit_hf.crops.cutting.cut import resize
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.detections import read_detections
from patchit_hf.crops.hub import push_crops
from patchit_hf.crops.make import make_crops
from tests.hub.server import Hub

REAL = Path(__file__).parents[3] / "shared" / "data" / "coco_scenes"
WIDTH, HEIGHT = 320, 240
BLUE = 128


def painted(width=WIDTH, height=HEIGHT):
    """Return a scene with red x, green y and a constant blue that padding would not have."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 / (width - 1), y * 255 / (height - 1), np.full_like(x, BLUE)]
    return Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8))


def make_scenes(folder, count, per_scene=3, seed=0):
    """Make scenes in two folders, and boxes that may leave them a little."""
    rng = np.random.default_rng(seed)
    boxes = {}
    for i in range(count):
        name = f"cam{i % 2}/frame_{i}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        painted().save(folder / name, compress_level=1)
        height = rng.uniform(60, 200, per_scene)
        width = height * rng.uniform(0.3, 0.7, per_scene)
        x, y = rng.uniform(-5, WIDTH - width), rng.uniform(-5, HEIGHT - height)
        boxes[name] = np.stack([x, y, x + width, y + height], axis=1).round(2)
    return boxes


def as_text(boxes, path):
    lines = [f"{n} {' '.join(map(str, b))}\n" for n, many in boxes.items() for b in many.tolist()]
    path.write_text("".join(lines))
    return path


def as_yolo(boxes, path):
    size = np.array([WIDTH, HEIGHT])
    for name, many in boxes.items():
        file = path / name.replace(".png", ".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        values = np.hstack(
            [(many[:, :2] + many[:, 2:]) / 2 / size, (many[:, 2:] - many[:, :2]) / size]
        )
        file.write_text("".join(f"0 {' '.join(f'{v:.6f}' for v in row)}\n" for row in values))
    return path


def as_coco(boxes, path):
    images = [
        {"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for i, name in enumerate(boxes)
    ]
    annotations = [
        {"image_id": i, "category_id": 1, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
        for i, many in enumerate(boxes.values())
        for b in many.tolist()
    ]
    about = {"images": images, "categories": [{"id": 1, "name": "person"}]}
    path.write_text(json.dumps({**about, "annotations": annotations}))
    return path


@pytest.fixture
def scenes(tmp_path):
    folder = tmp_path / "images"
    return folder, make_scenes(folder, 12)


def run(capsys, *argv):
    capsys.readouterr()
    code = main([str(word) for word in argv])
    return code, capsys.readouterr().err


def rows_of(folder):
    """Return all rows in order, without decoding the crops."""
    files = sorted(Path(folder, "data").glob("*.parquet"))
    return [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]


def pixels(row):
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")).astype(float)


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def accounted(folder, boxes):
    """Check that every box is kept or dropped exactly once, and return the report."""
    report = json.loads(Path(folder, "report.json").read_text())
    dropped = [json.loads(line) for line in Path(folder, "dropped.jsonl").read_text().splitlines()]
    kept = rows_of(folder)
    assert (
        len(kept) == report["boxes"]["kept"] == sum(s["crops"] for s in report["splits"].values())
    )
    assert len(dropped) == report["boxes"]["dropped"] == sum(report["boxes"]["reasons"].values())
    assert len(kept) + len(dropped) == boxes == report["boxes"]["in_all"]
    assert all(entry["reason"] in report["boxes"]["reasons"] for entry in dropped)
    return report


# Results.


def test_a_data_set_that_loads_at_once(tmp_path, scenes, capsys):
    images, boxes = scenes
    out = tmp_path / "out"
    command = [
        "--detections", as_coco(boxes, tmp_path / "b.json"), "--images", images, "--output", out,
        "--license", "cc-by-4.0", "--workers", 0,
        "--preset", "all", "--source", "image", "--shard-size", 10,
        "--test", "0.2", "--pictures-from", "painted",
    ]  # fmt: skip
    code, text = run(capsys, *command)
    assert code == 0, text
    assert f"{out}: 36 crops from 36 boxes" in text
    report = accounted(out, 36)
    assert set(report["splits"]) == {"train", "validation", "test"}
    assert {p.name for p in out.iterdir()} == {
        "data", "README.md", "contact_sheet.png", "report.json", "dropped.jsonl",
        "bad_pictures.jsonl", "args.yaml",
    }  # fmt: skip
    crops = load_crops(str(out))
    assert (crops.image_column, crops.held_out_from) == ("image", "validation split")
    assert crops.train[0]["image"].size == (100, 200)
    streamed = load_crops(str(out), streaming=True)
    image = next(iter(streamed.train))["image"]
    assert open_image(io.BytesIO(image["bytes"])).size == (100, 200)
    sides = datasets.load_dataset(str(out))
    sources = [set(side["source"]) for side in sides.values()]
    assert not any(a & b for a, b in itertools.combinations(sources, 2))
    assert len(list((out / "data").glob("train-*"))) == 2
    card = DatasetCard.load(out / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.configs[0]["data_files"][0] == {"split": "train", "path": "data/train-*"}
    assert "personal data" in card.text
    assert "| kept | 36 |" in card.text
    assert Image.open(out / "contact_sheet.png").width > 1000
    assert str(tmp_path) not in (out / "README.md").read_text() + (out / "report.json").read_text()
    before = tree(out)
    code, text = run(capsys, *command)
    assert code == 0, text
    assert tree(out) == before


def test_three_formats_give_the_same_crops(tmp_path, scenes):
    images, boxes = scenes
    made = []
    for write, name in ((as_coco, "b.json"), (as_yolo, "labels"), (as_text, "b.txt")):
        found = read_detections(write(boxes, tmp_path / name))
        options = CropOptions(preset="all", image_format="png")
        made.append(tmp_path / f"out-{name}")
        make_crops(found, images, made[-1], options)
        accounted(made[-1], 36)
    first, *others = [rows_of(out) for out in made]
    for rows in others:
        assert [row["file"] for row in rows] == [row["file"] for row in first]
        for row, same in zip(rows, first, strict=True):
            np.testing.assert_allclose(row["window"], same["window"], atol=0.01)
            assert np.abs(pixels(row) - pixels(same)).max() <= 1


def check_inside(crop, window, width=WIDTH, height=HEIGHT):
    """Check that a crop of a scene shows its window and nothing but the scene."""
    assert (np.abs(crop[..., 2] - BLUE) <= 1).all()
    rows, cols = crop.shape[:2]
    x = window[0] + (np.arange(cols) + 0.5) * (window[2] - window[0]) / cols - 0.5
    y = window[1] + (np.arange(rows) + 0.5) * (window[3] - window[1]) / rows - 0.5
    found_x, found_y = crop[..., 0] * (width - 1) / 255, crop[..., 1] * (height - 1) / 255
    assert np.abs(found_x - x).max() <= 1.5 * max(1, (width - 1) / 255)
    assert np.abs(found_y - y[:, None]).max() <= 1.5 * max(1, (height - 1) / 255)


coordinate = st.floats(-60, 340)


@given(
    st.lists(
        st.tuples(coordinate, coordinate, st.floats(8, 260), st.floats(0.15, 1)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["shift", "shrink", "drop"]),
    st.floats(0, 0.5),
)
@settings(max_examples=40, deadline=None)
def test_no_pixel_comes_from_outside_the_frame(scene, boxes, outside, context):
    from patchit_hf.crops.cutting.select import before_decoding, in_picture

    options = CropOptions(
        preset="all", outside=outside, context=context, min_height=8.0, min_visible=0.0
    )
    xyxy = np.array([[x, y, x + h * a, y + h] for x, y, h, a in boxes])
    nothing = np.full(len(xyxy), np.nan)
    reasons = before_decoding(xyxy, np.ones(len(xyxy), bool), nothing, options)
    reasons, windows = in_picture(xyxy, reasons, scene.size, options)
    for window in windows[reasons == ""].tolist():
        check_inside(np.asarray(resize(scene, window, (200, 100))).astype(float), window)


@pytest.fixture(scope="module")
def scene():
    return painted()


@pytest.mark.parametrize("outside", ["shift", "shrink", "drop"])
def test_the_command_never_pads(tmp_path, scenes, outside):
    images, boxes = scenes
    found = read_detections(as_text(boxes, tmp_path / "b.txt"))
    options = CropOptions(preset="all", image_format="png", outside=outside, context=0.1)
    make_crops(found, images, tmp_path / "out", options)
    report = accounted(tmp_path / "out", 36)
    rows = rows_of(tmp_path / "out")
    assert len(rows) > 5
    for row in rows:
        check_inside(pixels(row), row["window"])
    assert (report["boxes"]["reasons"].get("leaves the frame", 0) > 0) == (outside == "drop")


@pytest.mark.parametrize("exif", ["shown", "stored"])
def test_boxes_of_turned_pictures(tmp_path, exif):
    (tmp_path / "images").mkdir()
    shown = painted(240, 320)
    tag = Image.Exif()
    tag[0x0112] = 6  # stored lying on its left side
    shown.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "images/a.png", exif=tag)
    upright = [60.0, 80.0, 120.0, 220.0]
    x0, y0, x1, y1 = upright
    box = upright if exif == "shown" else [y0, 240 - x1, y1, 240 - x0]
    (tmp_path / "b.txt").write_text(f"a.png {' '.join(map(str, box))}\n")
    found = read_detections(tmp_path / "b.txt")
    options = CropOptions(preset="all", image_format="png", exif=exif, max_aspect=4.0)
    make_crops(found, tmp_path / "images", tmp_path / "out", options)
    (row,) = rows_of(tmp_path / "out")
    assert row["box"] == upright
    check_inside(pixels(row), row["window"], 240, 320)


def test_videos_stay_on_one_side_and_tracks_are_thinned(tmp_path):
    images = tmp_path / "images"
    lines = {}
    for i in range(8):
        sequence = f"seq{i}"
        (images / sequence / "img1").mkdir(parents=True)
        for frame in range(1, 6):
            painted().save(images / sequence / f"img1/{frame:06d}.jpg")
            lines.setdefault(sequence, []).append(f"{frame},1,{20 + frame},31,50,120,1,1,1\n")
        (images / sequence / "gt").mkdir()
        (images / sequence / "gt/gt.txt").write_text("".join(lines[sequence]))
    found = read_detections(images)
    make_crops(
        found, images, tmp_path / "out", CropOptions(preset="all", keep_every=2, validation=0.25)
    )
    report = accounted(tmp_path / "out", 40)
    assert report["boxes"]["reasons"] == {"thinned": 16}
    assert report["splits"] == {
        "train": {"crops": 18, "sources": 6}, "validation": {"crops": 6, "sources": 2},
    }  # fmt: skip
    rows = rows_of(tmp_path / "out")
    assert {row["file"][-5:] for row in rows} == {"1.jpg", "3.jpg", "5.jpg"}
    assert {row["track_id"] for row in rows if row["source"] == "seq3"} == {"seq3/1"}


@pytest.mark.e2e
def test_workers_make_the_same_data_set(tmp_path, scenes):
    images, boxes = scenes
    found = read_detections(as_text(boxes, tmp_path / "b.txt"))
    for workers in (0, 2):
        folder = tmp_path / str(workers) / "out"
        make_crops(found, images, folder, CropOptions(preset="all", shard_size=7), workers=workers)
    assert tree(tmp_path / "0/out") == tree(tmp_path / "2/out")


# Continuing.


@pytest.mark.e2e
def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    images, options = tmp_path / "images", CropOptions(preset="all", shard_size=10)
    boxes = as_text(make_scenes(images, 70), tmp_path / "b.txt")
    out = tmp_path / "run" / "out"
    command = [
        sys.executable, "-m", "patchit_hf.crops", "--detections", boxes, "--images", images,
        "--output", out, "--shard-size", 10, "--workers", 0, "--preset", "all",
    ]  # fmt: skip
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL)
    while not (out / ".work/part-00001.json").exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "data").exists()
    with pytest.raises(InputError, match="contain any data files"):
        load_crops(str(out))
    found = read_detections(boxes)
    with pytest.raises(InputError, match="unfinished data set of other options"):
        make_crops(found, images, out, CropOptions(preset="all", shard_size=30))
    safe = (out / ".work/part-00000.parquet").stat().st_mtime_ns
    make_crops(found, images, out, options, name="b.txt")
    assert (out / "data/train-00000-of-00009.parquet").stat().st_mtime_ns == safe
    make_crops(found, images, tmp_path / "whole" / "out", options, name="b.txt")
    assert tree(out) == tree(tmp_path / "whole" / "out")
    with pytest.raises(InputError, match="holds a data set of other "):
        make_crops(found, images, out, CropOptions(preset="all", shard_size=30))


@pytest.mark.e2e
@pytest.mark.parametrize("obstacle", ["README.md", "data", "report.json"])
def test_a_run_that_stops_at_the_very_end_goes_on(tmp_path, scenes, obstacle):
    images, boxes = scenes
    found = read_detections(as_text(boxes, tmp_path / "b.txt"))
    options, out = CropOptions(preset="all", shard_size=5), tmp_path / "a/out"
    good = (images / "cam1/frame_11.png").read_bytes()
    (images / "cam1/frame_11.png").write_bytes(b"")
    with pytest.raises(InputError, match="the file is empty"):
        make_crops(found, images, out, options)
    (images / "cam1/frame_11.png").write_bytes(good)
    (out / obstacle).mkdir()
    (out / obstacle / "in the way").write_text("-")
    with pytest.raises((OSError, InputError)):
        make_crops(found, images, out, options)
    assert not (out / "report.json").is_file()
    shutil.rmtree(out / obstacle)
    make_crops(found, images, out, options)
    make_crops(found, images, tmp_path / "b/out", options)
    assert tree(out) == tree(tmp_path / "b/out")


# Bad data.


def spoil(images):
    """Make four of twelve images bad."""
    (images / "cam0/frame_2.png").write_bytes(b"")
    whole = (images / "cam1/frame_3.png").read_bytes()
    (images / "cam1/frame_3.png").write_bytes(whole[: len(whole) // 2])
    (images / "cam0/frame_4.png").unlink()
    painted(100, 100).save(images / "cam1/frame_5.png")


def test_bad_pictures_stop_or_are_skipped_and_named(tmp_path, scenes, capsys):
    images, boxes = scenes
    command = [
        "--detections", as_coco(boxes, tmp_path / "b.json"), "--images", images,
        "--output", tmp_path / "out", "--workers", 0, "--preset", "all", "--shard-size", 5,
    ]  # fmt: skip
    spoil(images)
    code, text = run(capsys, *command)
    assert code == 2
    assert text.splitlines()[-1] == (
        "error: b.json, row 10: image cam1/frame_3.png: damaged: image file is truncated "
        "(--on-bad-image skip leaves it out, replace takes later boxes of its tracks)"
    )
    code, text = run(capsys, *command, "--on-bad-image", "skip")
    assert code == 0, text
    assert "bad images: 4" in text
    report = accounted(tmp_path / "out", 36)
    assert report["boxes"]["reasons"] == {"bad picture": 12}
    bad = [
        json.loads(line) for line in (tmp_path / "out/bad_pictures.jsonl").read_text().splitlines()
    ]
    assert {entry["picture"]: entry["reason"] for entry in bad} == {
        "cam0/frame_2.png": "the file is empty",
        "cam0/frame_4.png": "no such file",
        "cam1/frame_3.png": "damaged: image file is truncated",
        "cam1/frame_5.png": "is 100x100, but the boxes are for 320x240",
    }
    assert bad[-1]["first_box"] == "b.json, row 13"
    card = (tmp_path / "out/README.md").read_text()
    assert "4 of the images could not be used; `bad_pictures.jsonl` lists them" in card


def test_a_repaired_picture_lets_the_run_go_on(tmp_path, scenes):
    images, boxes = scenes
    found = read_detections(as_text(boxes, tmp_path / "b.txt"))
    options = CropOptions(preset="all", shard_size=5)
    good = (images / "cam1/frame_11.png").read_bytes()
    (images / "cam1/frame_11.png").write_bytes(good[:99])
    with pytest.raises(InputError, match=r"b.txt, row 34: image cam1/frame_11.png: damaged"):
        make_crops(found, images, tmp_path / "a/out", options)
    (images / "cam1/frame_11.png").write_bytes(good)
    make_crops(found, images, tmp_path / "a/out", options)
    make_crops(found, images, tmp_path / "b/out", options)
    assert tree(tmp_path / "a/out") == tree(tmp_path / "b/out")


def test_a_transparent_part_is_in_no_crop(tmp_path):
    (tmp_path / "images").mkdir()
    scene = painted()
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, :80] = 0
    scene.putalpha(Image.fromarray(alpha))
    scene.save(tmp_path / "images/a.png")
    (tmp_path / "b.txt").write_text("a.png 60 50 110 150\na.png 200 50 250 150\n")
    options = CropOptions(preset="all")
    make_crops(read_detections(tmp_path / "b.txt"), tmp_path / "images", tmp_path / "out", options)
    report = accounted(tmp_path / "out", 2)
    assert report["boxes"]["reasons"] == {"transparent": 1}
    assert report["pictures"]["notes"] == {"alpha channel dropped": 1}


WRONG = {
    "xywh": "look like xywh read as xyxy: .*give --box-format xywh",
    "shares": "look like fractions of the image size",
    "larger": "do not fit the images: .* lie mostly outside",
}


@pytest.mark.parametrize("kind", WRONG)
def test_boxes_in_another_format_are_suspected(tmp_path, scenes, capsys, kind):
    images, boxes = scenes
    wrong = {}
    for name, many in boxes.items():
        wrong[name] = {
            "xywh": np.hstack([many[:, :2], many[:, 2:] - many[:, :2]]),
            "shares": many / np.array([WIDTH, HEIGHT] * 2),
            "larger": many * (3 if len(wrong) > 1 else 1),
        }[kind]
    command = [
        "--detections", as_text(wrong, tmp_path / "b.txt"), "--images", images, "--workers", 0,
        "--preset", "all",
        "--output", tmp_path / "out",
    ]  # fmt: skip
    assert run(capsys, *command)[0] == 2
    with pytest.raises(InputError, match=WRONG[kind]):
        make_crops(read_detections(tmp_path / "b.txt"), images, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    if kind == "xywh":
        assert run(capsys, *command, "--box-format", "xywh")[0] == 0
        assert accounted(tmp_path / "out", 36)["boxes"]["kept"] == 36
    if kind == "larger":
        assert run(capsys, *command, "--no-check-boxes")[0] == 0
        assert accounted(tmp_path / "out", 36)["boxes"]["reasons"]["outside"] > 10


def test_corners_in_a_coco_file_are_suspected(tmp_path, scenes):
    images, boxes = scenes
    path = as_coco(boxes, tmp_path / "b.json")
    value = json.loads(path.read_text())
    for entry in value["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x, y, x + w, y + h]
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match="look like xyxy read as xywh"):
        make_crops(read_detections(path), images, tmp_path / "out")


def test_nothing_left_says_why(tmp_path, scenes):
    images, boxes = scenes
    found = read_detections(as_text(boxes, tmp_path / "b.txt"))
    with pytest.raises(InputError, match=r"none of the 36 boxes gave a crop.*: too short 36"):
        make_crops(found, images, tmp_path / "out", CropOptions(preset="all", min_height=300.0))
    make_crops(found, images, tmp_path / "out", CropOptions(preset="all"))


ERRORS = [
    ([], "give either --detections or --detector"),
    (["--detections", "b.txt"], "--images is needed"),
    (["--detections", "b.txt", "--images", "images"], "--output or --push-to-hub is needed"),
    (["--detections", "b.txt", "--images", "none", "--output", "o"], "--images 'none': no such"),
    (["--detections", "none", "--images", "images", "--output", "o"], "--detections 'none': no"),
    (["--detections", "b.txt", "--images", "other", "--output", "o"], "holds none of the 12 imag"),
    (
        ["--detections", "b.txt", "--images", "images", "--output", "."],
        "--output '.': is not empty",
    ),
    (["--detections", "b.txt", "--images", "images", "--output", "o", "--format", "x"], "--format"),
    (["--detections", "b.txt", "--images", "images", "--output", "o", "--source", "("], "--source"),
    (["--detections", "b.txt", "--images", "images", "--output", "o", "--source", "x"], "--source"),
    (
        ["--detections", "b.txt", "--images", "images", "--output", "o", "--source", "zz(.)"],
        "--source 'zz(.)': does not match the image 'cam0/frame_0.png'",
    ),
    (
        ["--detections", "b.txt", "--images", "images", "--output", "o", "--classes", "dog"],
        "--classes 'dog': no box has the class dog",
    ),
    (["--detections", "b.txt", "--images", "images", "--push-to-hub", "x"], "must be org/name"),
    (["--detections", "b.txt", "--images", "images", "--output", "o", "--workers", "-2"], "--work"),
]


@pytest.mark.parametrize(("words", "message"), ERRORS)
def test_bad_words_are_one_line(tmp_path, scenes, capsys, monkeypatch, words, message):
    as_text(scenes[1], tmp_path / "b.txt")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    code, text = run(capsys, *words)
    assert code == 2
    (line,) = [line for line in text.splitlines() if line.startswith("error:")]
    assert message in line
    assert not (tmp_path / "o").exists()


def test_unknown_classes_are_asked_for(tmp_path, scenes):
    images, boxes = scenes
    path = as_coco(boxes, tmp_path / "b.json")
    path.write_text(path.read_text().replace('"person"', '"someone"'))
    found = read_detections(path)
    with pytest.raises(
        InputError, match=r"no class .* \(classes: someone\); name it with --classes"
    ):
        make_crops(found, images, tmp_path / "out")
    make_crops(found, images, tmp_path / "out", CropOptions(preset="all", classes="Someone"))
    assert accounted(tmp_path / "out", 36)["boxes"]["kept"] == 36


def test_splits_of_the_file_are_kept_and_checked(tmp_path, scenes):
    images, boxes = scenes

    def write(side):
        rows = [
            f"{name},{','.join(map(str, box))},{name[:4]},{side(name)}"
            for name, many in boxes.items()
            for box in many.tolist()
        ]  # fmt: skip
        (tmp_path / "b.csv").write_text("\n".join(["image,x0,y0,x1,y1,camera,split", *rows]))
        return read_detections(tmp_path / "b.csv")

    found = write(lambda name: "test" if name.startswith("cam1") else "train")
    make_crops(found, images, tmp_path / "out", CropOptions(preset="all"))
    assert accounted(tmp_path / "out", 36)["splits"] == {
        "train": {"crops": 18, "sources": 1}, "test": {"crops": 18, "sources": 1},
    }  # fmt: skip
    found = write(lambda name: "test" if name.endswith("_5.png") else "train")
    with pytest.raises(InputError, match=r"the source 'cam1' into two splits \(train, test\)"):
        make_crops(found, images, tmp_path / "out2")


# The Hub.


@pytest.mark.e2e
def test_push_and_stream(tmp_path, scenes, hub: Hub, capsys, monkeypatch):
    images, boxes = scenes
    monkeypatch.chdir(tmp_path)
    command = [
        "--detections", as_text(boxes, tmp_path / "b.txt"), "--images", images, "--workers", 0,
        "--preset", "all",
        "--source", "image", "--push-to-hub", "org/crops", "--hub-private",
    ]  # fmt: skip
    code, text = run(capsys, *command)
    assert code == 0, text
    assert f"pushed: {hub.endpoint}/datasets/org/crops/commit/" in text
    assert hub.repo("datasets/org/crops").private
    names = set(hub.files("datasets/org/crops"))
    assert "contact_sheet.png" not in names
    assert names >= {"README.md", "report.json", "data/train-00000-of-00001.parquet"}
    files = [row["file"] for row in rows_of(tmp_path / "crops/crops")]
    code = """
        import io
        from patchit_hf import load_crops, open_image
        crops = load_crops("org/crops", streaming=True)
        print(crops.held_out_from)
        for side in (crops.train, crops.held_out):
            for row in side:
                assert open_image(io.BytesIO(row["image"]["bytes"])).size == (100, 200)
                print(row["file"])
    """
    words, *streamed = hub.run(code).stdout.splitlines()
    assert words == "validation split"
    assert streamed == files


@pytest.mark.slow
def test_the_hub_gives_back_the_same_crops_to_train_on(tmp_path, scenes, hub: Hub, capsys):
    images, boxes = scenes
    command = [
        "--detections", as_text(boxes, tmp_path / "b.txt"), "--images", images, "--workers", 0,
        "--preset", "all",
        "--source", "image", "--output", tmp_path / "out", "--push-to-hub", "org/crops",
    ]  # fmt: skip
    code, text = run(capsys, *command)
    assert code == 0, text
    cut = {"train": {}, "validation": {}}
    for file in sorted((tmp_path / "out/data").glob("*.parquet")):
        for row in pyarrow.parquet.read_table(file).to_pylist():
            cut[file.name.split("-")[0]][row["image"]["path"]] = row
    code = """
        import datasets, json, hashlib
        from patchit_hf import load_crops
        crops = load_crops("org/crops", streaming=True)
        for name, side in (("train", crops.train), ("validation", crops.held_out)):
            for row in side.cast_column("image", datasets.Image(decode=False)):
                image = row.pop("image")
                row["digest"] = hashlib.sha256(image["bytes"]).hexdigest()
                print(json.dumps([name, image["path"], row]))
        from patchit_hf.pretrain import main
        words = "--backbone test_resnet --dataset org/crops --streaming --max-steps 3 " \\
            "--batch-size 8 --workers 0 --no-figures --no-audit --output-dir"
        print(main([*words.split(), FOLDER]))
    """
    *streamed, ended = map(
        json.loads, hub.run(code.replace("FOLDER", repr(str(tmp_path / "run")))).stdout.splitlines()
    )
    assert (len(streamed), ended) == (36, 0)
    for split, path, row in streamed:
        there = cut[split].pop(path)
        assert row.pop("digest") == hashlib.sha256(there.pop("image")["bytes"]).hexdigest()
        assert row == there
    assert cut == {"train": {}, "validation": {}}
    record = json.loads((tmp_path / "run/patchit.json").read_text())
    assert (record["data"]["hub"], record["results"]["step"]) == (True, 3)


def test_pushes_that_cannot_work_are_refused_before(tmp_path, scenes, hub: Hub, capsys):
    with pytest.raises(InputError, match="no finished data set"):
        push_crops(tmp_path, "org/crops")
    images, boxes = scenes
    command = [
        "--detections", as_text(boxes, tmp_path / "b.txt"), "--images", images, "--workers", 0,
        "--preset", "all",
        "--output", tmp_path / "out", "--push-to-hub", "other/crops",
    ]  # fmt: skip
    code, text = run(capsys, *command)
    assert code == 2
    assert text.endswith(
        "--push-to-hub 'other/crops': the token may not write to 'other', only to: tester, org\n"
    )
    assert not (tmp_path / "out").exists()


# Real images.


@pytest.mark.realdata
def test_real_scenes(tmp_path):
    if not REAL.is_dir():
        pytest.skip(f"no real pictures at {REAL}")
    made = []
    for name in ("instances_person.json", "labels", "detections.txt"):
        found = read_detections(REAL / name)
        made.append(tmp_path / f"out-{name}")
        report = make_crops(
            found, REAL / "images", made[-1], CropOptions(preset="all", image_format="png")
        )
        accounted(made[-1], 660 if name == "labels" else 350)
        reasons = report["boxes"]["reasons"]
        assert reasons.pop("class", 0) == (310 if name == "labels" else 0)
        assert report["boxes"]["kept"] + sum(reasons.values()) == 350
    first, *others = [rows_of(out) for out in made]
    assert len(first) > 150
    for rows in others:
        assert [row["file"] for row in rows] == [row["file"] for row in first]
        for row, same in zip(rows, first, strict=True):
            np.testing.assert_allclose(row["window"], same["window"], atol=1)
            assert np.abs(pixels(row) - pixels(same)).mean() < 1


def test_an_engine_that_is_not_there(tmp_path, scenes, monkeypatch):
    images, boxes = scenes
    monkeypatch.setitem(sys.modules, "ray", None)
    found = read_detections(as_text(boxes, tmp_path / "b.txt"))
    with pytest.raises(InputError, match=r"Ray is not installed; pip install 'patchit_hf\[ray\]'"):
        make_crops(found, images, tmp_path / "out", engine="ray")
    with pytest.raises(InputError, match=r"engine 'spark': must be one of processes, ray"):
        make_crops(found, images, tmp_path / "out", engine="spark")


@pytest.mark.slow
def test_a_cluster_makes_the_same_data_set(tmp_path, scenes, monkeypatch):
    """A local Ray with two workers; stopped by a bad image, and continued."""
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    images, boxes = scenes
    found = read_detections(as_text(boxes, tmp_path / "b.txt"))
    options = CropOptions(preset="all", shard_size=7)
    make_crops(found, images, tmp_path / "one" / "out", options)

    good, last = tmp_path / "good", sorted(boxes)[-1]
    (images / last).rename(good)
    (images / last).write_bytes(b"no image")
    folder = tmp_path / "ray" / "out"
    with pytest.raises(InputError, match=f"image {last}: not an image"):
        make_crops(found, images, folder, options, workers=2, engine="ray")
    good.replace(images / last)
    make_crops(found, images, folder, options, workers=2, engine="ray")
    assert tree(folder) == tree(tmp_path / "one" / "out")
