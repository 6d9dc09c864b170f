"""Frames of small real videos: the right ones, each decoded once, and one-line errors."""

import struct

import numpy as np
import pytest

av = pytest.importorskip("av")

from patchit_hf.common.errors import InputError  # noqa: E402
from patchit_hf.crops.command import main  # noqa: E402
from patchit_hf.crops.cutting.options import CropOptions  # noqa: E402
from patchit_hf.crops.cutting.videos import FrameReader, VideoFolder  # noqa: E402
from patchit_hf.crops.detections import read_detections  # noqa: E402
from patchit_hf.crops.make import make_crops  # noqa: E402
from patchit_hf.data.pictures import BadPictureError  # noqa: E402
from tests.crops.test_crops import accounted, pixels, rows_of, tree  # noqa: E402

WIDTH, HEIGHT, FRAMES, GOP = 160, 120, 60, 10


def grey_of(number):
    """Return the colour of a frame's left half; the right half is white."""
    return 20 + 3 * number


def frame_of(number):
    picture = np.full((HEIGHT, WIDTH, 3), grey_of(number), np.uint8)
    picture[:, WIDTH // 2 :] = 250
    return picture


def make_video(path, frames=FRAMES, codec="libx264", **options):
    """Make a video whose frames encode their number, with B-frames and keyframes every ten."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.gop_size = GOP
        if codec == "libx264":
            stream.options = {"bf": "2", "crf": "10", "sc_threshold": "0", **options}
        else:
            stream.options = {"qmin": "1", "qmax": "1"}
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(frame_of(number), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def number_of(picture):
    """Return the number of the frame that an image shows."""
    return round((float(np.asarray(picture.pixels)[:, : WIDTH // 2 - 8].mean()) - 20) / 3)


@pytest.fixture
def video(tmp_path):
    (tmp_path / "videos").mkdir()
    return make_video(tmp_path / "videos/cam.mp4")


KINDS = [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "libx264")]


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_every_frame_is_the_one_that_was_asked_for(tmp_path, name, codec):
    with FrameReader(make_video(tmp_path / name, codec=codec)) as reader:
        assert (reader.count, reader.size) == (FRAMES, (WIDTH, HEIGHT))
        assert [number_of(reader.picture(n)) for n in range(FRAMES)] == list(range(FRAMES))
        assert reader.decoded == FRAMES


@pytest.mark.parametrize(("name", "codec"), KINDS)
@pytest.mark.parametrize("wanted", [[3, 4, 4, 9, 31, 58], [0, 59], [25], list(range(0, 60, 7))])
def test_frames_are_found_without_decoding_any_twice(tmp_path, name, codec, wanted):
    with FrameReader(make_video(tmp_path / name, codec=codec)) as reader:
        assert [number_of(reader.picture(n)) for n in wanted] == wanted
        assert reader.decoded <= FRAMES
        if name == "a.mp4":  # at most a group of pictures for each
            groups = {n // GOP for n in wanted}
            assert reader.decoded <= len(groups) * (GOP + 2)


@pytest.mark.parametrize(("level", "threads"), [(None, "AUTO"), (av.logging.ERROR, "NONE")])
def test_threads_decode_only_where_no_log_can_stop_them(video, level, threads):
    before = av.logging.get_level()
    av.logging.set_level(level)
    try:
        with FrameReader(video) as reader:
            assert number_of(reader.picture(25)) == 25
            assert reader._stream.codec_context.thread_type.name == threads
        del reader  # before the log is on again
    finally:
        av.logging.set_level(before)


def test_what_is_far_is_jumped_to(video):
    with FrameReader(video) as reader:
        assert number_of(reader.picture(57)) == 57
        assert reader.decoded <= GOP
        assert number_of(reader.picture(2)) == 2  # going back works, too


def test_frames_have_names(tmp_path, video):
    make_video(tmp_path / "videos/b/other.mkv", frames=3) if (
        tmp_path / "videos/b"
    ).mkdir() is None else None
    folder = VideoFolder(tmp_path / "videos")
    assert folder.files == ["b/other.mkv", "cam.mp4"]
    for name, frame in {
        "cam.mp4#7": "cam.mp4#7", "cam/img1/000008.jpg": "cam.mp4#8", "cam_9": "cam.mp4#9",
        "x/cam.mp4#3": "cam.mp4#3", "other/2": "b/other.mkv#2", "b/other/1.png": "b/other.mkv#1",
        "7": None, "third_8": None, "cam": None, "gone.mp4#1": None,
    }.items():  # fmt: skip
        assert folder.match([name]).files == [frame], name
    assert folder.match(["7", "cam"]).why == {
        "7": "several videos could be it: b/other.mkv, cam.mp4", "cam": "names no frame of a video",
    }  # fmt: skip
    alone = VideoFolder(video, first=1)
    found = alone.match(["7", "img1/000001.jpg", "0", "000000.jpg"])
    assert found.files == ["cam.mp4#7", "cam.mp4#1", None, None]
    assert found.why["0"] == "no frame 0; the first is 1 (--first-frame)"
    assert alone.number("cam.mp4#7") == 6


def test_of_several_sequences_none_gets_the_only_video(tmp_path, video):
    """Boxes of one camera are not cut out of another's frames."""
    alone = VideoFolder(video)
    found = alone.match(["cam/img1/000001", "gone/img1/000001", "gone/img1/000002"])
    assert found.files == ["cam.mp4#1", None, None]
    assert found.why["gone/img1/000001"] == "no such video; cam.mp4 is cam"
    assert alone.match(["s2/000001", "s4/000001"]).files == [None, None]


def test_a_turned_video_is_shown_upright(tmp_path, video):
    """Frames are rotated by the matrix in a phone's file before they are cut."""
    content = video.read_bytes()
    at = content.index(b"tkhd") + 4 + 40  # version 0: the matrix is the 41st byte on
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(content[:at] + turned + content[at + 36 :])
    with FrameReader(tmp_path / "turned.mp4") as reader:
        picture = reader.picture(4)
    assert picture.notes == ("turned as the video says",)
    assert (picture.stored, picture.pixels.size) == ((WIDTH, HEIGHT), (HEIGHT, WIDTH))
    shown = np.asarray(picture.pixels).mean(axis=(1, 2))
    expected = np.rot90(frame_of(4), -1).mean(axis=(1, 2))  # a quarter clockwise
    assert np.abs(shown - expected).max() < 40


def test_boxes_of_a_turned_video_are_of_the_frame_as_shown(tmp_path, video):
    """A phone's video, 160x120 stored and 120x160 shown: no doubt about boxes down to 155."""
    content = video.read_bytes()
    at = content.index(b"tkhd") + 4 + 40
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    (tmp_path / "v").mkdir()
    (tmp_path / "v/cam.mp4").write_bytes(content[:at] + turned + content[at + 36 :])
    folder = VideoFolder(tmp_path / "v")
    assert folder.size("cam.mp4#0", stored=False) == (HEIGHT, WIDTH)
    assert folder.size("cam.mp4#0", stored=True) == (WIDTH, HEIGHT)
    # Shown, the grey half is above, the white half below.
    lines = [f"cam.mp4,{n},40,{y},80,{y + 65}\n" for n in (0, 20, 40) for y in (5, 90)]
    (tmp_path / "b.csv").write_text("video,frame,x0,y0,x1,y1\n" + "".join(lines))
    options = CropOptions(image_format="png", validation=0.0, min_height=50)
    make_crops(read_detections(tmp_path / "b.csv"), tmp_path / "v", tmp_path / "out", options)
    rows = rows_of(tmp_path / "out")
    assert [row["box"] for row in rows] == [[40, y, 80, y + 65] for _ in range(3) for y in (5, 90)]
    for row in rows:
        frame = int(row["file"].partition("#")[2])
        expected = grey_of(frame) if row["box"][1] == 5 else 250
        assert abs(pixels(row).mean() - expected) < 3


# From boxes on frames to crops.


def boxes_of(frames):
    """Return two boxes xyxy per frame: one on the coloured half, one on the white."""
    return {n: [(4.0, 10.0, 40.0, 100.0), (100.0, 10.0, 140.0, 110.0)] for n in frames}


def as_mot(boxes, path):
    lines = [
        f"{n + 1},{track},{x0 + 1},{y0 + 1},{x1 - x0},{y1 - y0},0.9,-1,-1,-1\n"
        for n, several in boxes.items()
        for track, (x0, y0, x1, y1) in enumerate(several, 1)
    ]
    path.write_text("".join(lines))
    return path


def as_csv(boxes, path):
    lines = [
        f"cam.mp4,{n},{track},{x0},{y0},{x1},{y1}\n"
        for n, several in boxes.items()
        for track, (x0, y0, x1, y1) in enumerate(several, 1)
    ]
    path.write_text("video,frame,track_id,x0,y0,x1,y1\n" + "".join(lines))
    return path


FORMATS = {"mot": as_mot, "csv": as_csv}


@pytest.mark.parametrize(
    ("kind", "workers"), [("mot", 0), ("csv", 0), pytest.param("mot", 2, marks=pytest.mark.e2e)]
)
def test_boxes_by_the_number_of_the_frame(tmp_path, video, kind, workers):
    boxes = FORMATS[kind](
        boxes_of([0, 3, 17, 40, 59]), tmp_path / f"cam.{'txt' if kind == 'mot' else kind}"
    )
    options = CropOptions(preset="all", image_format="png", validation=0.0)
    make_crops(read_detections(boxes), video.parent, tmp_path / "out", options, workers=workers)
    report = accounted(tmp_path / "out", 10)
    assert report["boxes"]["kept"] == 10
    assert report["pictures"]["decoded"] == 5
    rows = rows_of(tmp_path / "out")
    for row in rows:
        frame = int(row["file"].partition("#")[2]) - (kind == "mot")
        expected = grey_of(frame) if row["box"][0] < 50 else 250
        assert abs(pixels(row).mean() - expected) < 2.5
    assert {row["file"].partition("#")[0] for row in rows} == {"cam.mp4"}
    assert report["splits"]["train"]["sources"] == 1
    assert len({row["image"]["path"] for row in rows}) == 10


def test_every_kth_frame_of_one_video(tmp_path, video, capsys):
    boxes = as_csv(boxes_of(range(FRAMES)), tmp_path / "b.csv")
    command = [
        "--detections", boxes, "--images", video, "--output", tmp_path / "out", "--workers", 0,
        "--preset", "all",
        "--every", 20,
    ]  # fmt: skip
    assert main([str(word) for word in command]) == 0, capsys.readouterr().err
    report = accounted(tmp_path / "out", 2 * FRAMES)
    assert report["boxes"]["reasons"] == {"other frame": 114}
    assert report["pictures"]["decoded"] == 3
    assert {row["file"] for row in rows_of(tmp_path / "out")} == {
        "cam.mp4#0", "cam.mp4#20", "cam.mp4#40",
    }  # fmt: skip


def test_videos_are_sources(tmp_path, video):
    lines = ["video,frame,x0,y0,x1,y1\n"]
    for name in "abcd":
        make_video(video.parent / f"{name}.mp4", frames=6)
        lines += [f"{name}.mp4,{n},4,10,40,100\n" for n in range(6)]
    (tmp_path / "b.csv").write_text("".join(lines))
    make_crops(
        read_detections(tmp_path / "b.csv"), video.parent, tmp_path / "out",
        CropOptions(preset="all", validation=0.3),
    )  # fmt: skip
    report = accounted(tmp_path / "out", 24)
    assert report["splits"] == {
        "train": {"crops": 18, "sources": 3}, "validation": {"crops": 6, "sources": 1},
    }  # fmt: skip


def test_a_run_on_a_video_goes_on_where_it_stopped(tmp_path, video):
    boxes = as_csv(boxes_of([0, 10, 20, 30, 40, 61]), tmp_path / "b.csv")
    found, options = read_detections(boxes), CropOptions(preset="all", shard_size=2)
    with pytest.raises(
        InputError, match=r"b.csv, row 11: image cam.mp4#61: frame 61: the video has 60 frames"
    ):
        make_crops(found, video.parent, tmp_path / "a/out", options)
    make_crops(found, video.parent, tmp_path / "a/out", options, on_bad_image="skip")
    make_crops(found, video.parent, tmp_path / "b/out", options, on_bad_image="skip")
    assert tree(tmp_path / "a/out") == tree(tmp_path / "b/out")
    assert accounted(tmp_path / "a/out", 12)["boxes"]["reasons"] == {"bad picture": 2}


# Videos that cannot be read.


def test_a_cut_off_video_is_said_to_be(tmp_path, video):
    content = make_video(tmp_path / "a.mp4", movflags="faststart").read_bytes()
    make_video(tmp_path / "a.mkv")
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    with FrameReader(tmp_path / "cut.mkv") as reader:
        assert 5 < reader.count < FRAMES
        assert number_of(reader.picture(4)) == 4
        with pytest.raises(
            BadPictureError, match=rf"frame 59: the video has {reader.count} frames"
        ):
            reader.picture(59)
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])  # its index is at the end
    with pytest.raises(BadPictureError, match="not a readable video: Invalid data found"):
        FrameReader(tmp_path / "cut.mp4")


def test_bad_videos_are_one_line(tmp_path, video, capsys):
    boxes = as_csv(boxes_of([0, 3]), tmp_path / "b.csv")
    content = video.read_bytes()
    for name, damage in {
        "half": content[: len(content) // 3],
        "empty": b"",
        "text": b"x" * 99,
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cam.mp4").write_bytes(damage)
        out = tmp_path / f"out-{name}"
        command = [
            "--detections",
            boxes,
            "--images",
            tmp_path / name,
            "--output",
            out,
            "--workers",
            0,
        ]
        assert main([str(word) for word in command]) == 2
        lines = capsys.readouterr().err.splitlines()
        (line,) = [line for line in lines if line.startswith("error:")]
        assert "b.csv, row 1: image cam.mp4#0: not a readable video: Invalid data" in line
        assert str(tmp_path) not in line
        assert not (out / "data").exists()
    with pytest.raises(InputError, match="is not a video; must be a folder or a video"):
        make_crops(read_detections(boxes), boxes, tmp_path / "out")
    with pytest.raises(InputError, match="--first-frame 2"):
        CropOptions(preset="all", first_frame=2)


def test_pictures_have_no_every(tmp_path):
    from tests.crops.test_crops import as_text, make_scenes

    boxes = as_text(make_scenes(tmp_path / "images", 3), tmp_path / "b.txt")
    with pytest.raises(InputError, match="--every 2: is for videos"):
        make_crops(
            read_detections(boxes),
            tmp_path / "images",
            tmp_path / "o",
            CropOptions(preset="all", every=2),
        )


def test_any_damaged_byte_is_a_frame_or_a_bad_picture(tmp_path, video):
    content = np.frombuffer(video.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(12):
        broken = content.copy()
        broken[rng.integers(0, len(broken), 30)] = rng.integers(0, 256, 30)
        (tmp_path / "b.mp4").write_bytes(broken.tobytes())
        try:
            with FrameReader(tmp_path / "b.mp4") as reader:
                for number in (0, 30, 59):
                    reader.picture(number)
        except BadPictureError:
            pass
