"""Boxes of bad images are replaced by later ones of their tracks: ``--on-bad-image replace``."""

import json

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.cutting.shards import Shards
from patchit_hf.crops.detections import read_detections
from patchit_hf.crops.make import make_crops
from tests.crops.test_crops import accounted, painted, pixels, rows_of, run, tree


def make_tracks(folder, tracks, frames, *, low=()):
    """Make the frames and boxes of one sequence; some boxes are too low to keep.

    Returns:
        ``(track, frame)`` of each row of the table.
    """
    (folder / "seq").mkdir(parents=True)
    for frame in range(frames):
        painted(160, 120).save(folder / f"seq/{frame:04d}.png", compress_level=1)
    rows, lines = [], ["image,x0,y0,x1,y1,track"]
    for frame in range(frames):
        for track, seen in tracks.items():
            if frame in seen:
                height = 20 if (track, frame) in low else 80
                x = 10 + 30 * list(tracks).index(track) + frame % 7
                lines.append(f"seq/{frame:04d}.png,{x},20,{x + height / 2},{20 + height},{track}")
                rows.append((track, frame))
    (folder.parent / "boxes.csv").write_text("\n".join(lines) + "\n")
    return rows


def naive(tracks, every, bad, low=()):
    """Return which boxes are kept, and which boxes replace which."""
    kept, instead = set(), {}
    for track, seen in tracks.items():
        frames = sorted(seen)
        for start in range(0, len(frames), every):
            group = frames[start : start + every]
            if group[0] not in bad:
                kept |= {(track, group[0])} if (track, group[0]) not in low else set()
                continue
            good = [f for f in group[1:] if f not in bad and (track, f) not in low]
            if good:
                kept.add((track, good[0]))
                instead[track, group[0]] = (track, good[0])
    return kept, instead


def spoil(folder, frames):
    for frame in frames:
        (folder / f"seq/{frame:04d}.png").write_bytes(b"no picture")


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


FRAMES = st.sets(st.integers(0, 11))


@pytest.mark.e2e
@settings(max_examples=15, deadline=None, phases=[Phase.generate])
@given(
    tracks=st.dictionaries(st.sampled_from("abc"), FRAMES.filter(bool), min_size=1),
    bad=FRAMES,
    low=st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 11)), max_size=6),
    every=st.integers(1, 4),
)
def test_the_next_box_of_the_track_that_was_left_out(tmp_path_factory, tracks, bad, low, every):
    folder = tmp_path_factory.mktemp("case")
    images = folder / "images"
    everyone = {*"abc"}
    tracks = {**tracks, "z": set(range(12))} | {name: set() for name in everyone - {*tracks}}
    rows = make_tracks(images, tracks, 12, low=low)
    spoil(images, bad)
    kept, instead = naive(tracks, every, bad, low)
    if not kept:
        return
    found = read_detections(folder / "boxes.csv")
    options = CropOptions(preset="all", keep_every=every, validation=0)
    make_crops(found, images, folder / "out", options, on_bad_image="replace")
    report = accounted(folder / "out", len(rows))
    made = [(row["track_id"], int(row["file"][4:8])) for row in rows_of(folder / "out")]
    assert len(made) == len(set(made))
    assert set(made) == kept
    assert report["boxes"]["stand_ins"] == len(instead)
    where = {f"boxes.csv, row {n}": one for n, one in enumerate(rows, 1)}
    dropped = lines_of(folder / "out/dropped.jsonl")
    said = {
        rows[line["row"] - 1]: where[line["replaced_by"]]
        for line in dropped
        if "replaced_by" in line
    }
    assert said == instead
    named = lines_of(folder / "out/bad_pictures.jsonl")
    assert sum(line["replaced"] for line in named) == len(instead)


TRACKS = {"a": set(range(24)), "b": set(range(3, 20)), "c": {0, 1, 5, 6, 7, 22}}
BAD = (0, 4, 8, 9, 12, 20)


@pytest.fixture
def sequence(tmp_path):
    images = tmp_path / "images"
    make_tracks(images, TRACKS, 24)
    spoil(images, BAD)
    return images, read_detections(tmp_path / "boxes.csv")


@pytest.mark.e2e
def test_workers_make_the_same_of_bad_pictures(tmp_path, sequence):
    images, found = sequence
    options = CropOptions(preset="all", keep_every=4, validation=0, shard_size=3)
    for workers in (0, 2):
        make_crops(
            found, images, tmp_path / f"{workers}/out", options, workers=workers,
            on_bad_image="replace",
        )  # fmt: skip
    assert tree(tmp_path / "0/out") == tree(tmp_path / "2/out")
    assert accounted(tmp_path / "0/out", 47)["boxes"]["stand_ins"] > 3


@pytest.mark.e2e
def test_a_run_that_stops_anywhere_counts_no_stand_in_twice(tmp_path, sequence, monkeypatch):
    images, found = sequence
    options = CropOptions(preset="all", keep_every=4, validation=0, shard_size=2)
    make_crops(found, images, tmp_path / "whole/out", options, on_bad_image="replace")
    add = Shards.add
    for stop in (1, 5, 6, 9, 10, 13, 21):

        def interrupted(self, place, job, result, stop=stop):
            if place == stop:
                raise KeyboardInterrupt
            add(self, place, job, result)

        out = tmp_path / f"{stop}/out"
        with monkeypatch.context() as patch:
            patch.setattr(Shards, "add", interrupted)
            with pytest.raises(KeyboardInterrupt):
                make_crops(found, images, out, options, on_bad_image="replace")
        make_crops(found, images, out, options, on_bad_image="replace")
        assert tree(out) == tree(tmp_path / "whole/out")


def test_it_is_said(tmp_path, sequence, capsys):
    images, _ = sequence
    command = [
        "--detections", tmp_path / "boxes.csv", "--images", images, "--workers", 0,
        "--preset", "all",
        "--validation", 0, "--on-bad-image", "replace",
    ]  # fmt: skip
    code, text = run(capsys, *command, "--keep-every", 4, "--output", tmp_path / "out")
    assert code == 0, text
    _, instead = naive(TRACKS, 4, BAD)
    said = f"bad images: 5, see {tmp_path}/out/bad_pictures.jsonl; {len(instead)} of "
    assert said in text
    card = (tmp_path / "out/README.md").read_text()
    assert f"{len(instead)} of the crops replace boxes of these images" in card
    code, text = run(capsys, *command, "--output", tmp_path / "every")
    assert code == 0, text
    assert "; 0 of 11 boxes replaced: none of those that --keep-every" in text
    assert "replace boxes" not in (tmp_path / "every/README.md").read_text()


def test_frames_of_a_video_that_every_left_out(tmp_path):
    """A damaged frame is replaced by the next one of the video that shows the person."""
    av = pytest.importorskip("av")
    (tmp_path / "videos").mkdir()
    video = tmp_path / "videos/cam.avi"
    with av.open(str(video), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuvj420p"
        for number in range(20):
            picture = np.full((120, 160, 3), 20 + 3 * number, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    content = video.read_bytes()
    starts = [i for i in range(len(content)) if content[i : i + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 20
    for number in (5, 10, 11):
        end = content.index(b"\xff\xda", starts[number])
        content = content[: starts[number]] + bytes(end - starts[number]) + content[end:]
    video.write_bytes(content)
    lines = [f"cam.avi#{n},10,20,50,100,{'a' if n < 12 else 'b'}" for n in range(20)]
    (tmp_path / "b.csv").write_text("\n".join(["image,x0,y0,x1,y1,track", *lines]))
    found = read_detections(tmp_path / "b.csv")
    options = CropOptions(preset="all", every=5, validation=0, image_format="png")
    make_crops(found, tmp_path / "videos", tmp_path / "out", options, on_bad_image="replace")
    report = accounted(tmp_path / "out", 20)
    files = [row["file"] for row in rows_of(tmp_path / "out")]
    assert files == ["cam.avi#0", "cam.avi#6", "cam.avi#15"]  # 12 is of another track than 10
    assert report["boxes"]["reasons"] == {"other frame": 15, "bad picture": 2}
    greys = [np.asarray(pixels(row))[:, :40].mean() for row in rows_of(tmp_path / "out")]
    assert greys == pytest.approx([20, 38, 65], abs=2)


def test_whoever_else_stands_there_covers_a_stand_in_too(tmp_path):
    images = tmp_path / "images"
    make_tracks(images, {"a": set(range(4))}, 4)
    spoil(images, (0,))
    with (tmp_path / "boxes.csv").open("a") as file:
        file.write("seq/0001.png,12,20,52,100,b\n")  # over the box of a
    found = read_detections(tmp_path / "boxes.csv")
    for limit, expected in ((1.0, [1, 1]), (0.5, [2])):
        options = CropOptions(preset="all", keep_every=4, validation=0, max_overlap=limit)
        make_crops(found, images, tmp_path / f"out{limit}", options, on_bad_image="replace")
        accounted(tmp_path / f"out{limit}", 5)
        assert [int(row["file"][4:8]) for row in rows_of(tmp_path / f"out{limit}")] == expected
