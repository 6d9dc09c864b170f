"""Unusual images are read; bad ones say why they are not."""

import inspect
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, WebPImagePlugin

from patchit_hf.common.errors import InputError
from patchit_hf.data.pictures import BadPictureError, PictureFolder, open_picture

LIMIT = 10_000_000
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 60, 3)).astype(np.uint8)
IMAGE = Image.fromarray(PIXELS)


def opened(path):
    return open_picture(path, LIMIT)


def test_what_is_unusual_is_read_and_noted(tmp_path):
    IMAGE.save(tmp_path / "plain.png")
    assert opened(tmp_path / "plain.png").notes == ()
    IMAGE.save(tmp_path / "wrong.jpg", "PNG")
    picture = opened(tmp_path / "wrong.jpg")
    assert np.array_equal(picture.pixels, PIXELS)
    assert picture.notes == ("named .jpg, is PNG",)
    IMAGE.convert("CMYK").save(tmp_path / "cmyk.tiff")
    picture = opened(tmp_path / "cmyk.tiff")
    assert picture.notes == ("CMYK, brought to RGB",)
    assert np.abs(np.asarray(picture.pixels).astype(int) - PIXELS).max() <= 2
    IMAGE.save(tmp_path / "moving.gif", save_all=True, append_images=[IMAGE.rotate(180)])
    picture = opened(tmp_path / "moving.gif")
    assert "animated, first frame taken" in picture.notes
    first = Image.open(tmp_path / "moving.gif").convert("RGB")
    assert np.array_equal(picture.pixels, first)


@pytest.mark.parametrize("mode", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_range(tmp_path, mode):
    deep = (np.arange(40 * 60).reshape(40, 60) * 27).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep", mode)
    picture = opened(tmp_path / "deep")
    assert np.array_equal(np.asarray(picture.pixels)[..., 1], deep >> 8)
    assert picture.notes == ("16-bit, brought to 8 bits",)


def test_transparency_is_a_mask(tmp_path):
    alpha = np.full((40, 60), 255, np.uint8)
    Image.fromarray(np.dstack([PIXELS, alpha])).save(tmp_path / "solid.png")
    picture = opened(tmp_path / "solid.png")
    assert picture.hidden is None
    assert np.array_equal(picture.pixels, PIXELS)
    alpha[5:9, 7:20] = 0
    Image.fromarray(np.dstack([PIXELS, alpha])).save(tmp_path / "hole.png")
    picture = opened(tmp_path / "hole.png")
    assert np.array_equal(picture.hidden, alpha == 0)
    assert picture.notes == ("alpha channel dropped",)


def test_exif_turns_pixels_and_mask(tmp_path):
    alpha = np.full((40, 60), 255, np.uint8)
    alpha[:4, :6] = 0
    image = Image.fromarray(np.dstack([PIXELS, alpha]))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    picture = opened(tmp_path / "turned.png")
    assert (picture.stored, picture.pixels.size, picture.orientation) == ((60, 40), (40, 60), 6)
    assert np.array_equal(picture.pixels, np.rot90(PIXELS, -1))
    assert np.array_equal(picture.hidden, np.rot90(alpha == 0, -1))


def bomb(width, height):
    """Return a PNG whose header states a huge size; it cannot be decoded."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_bad_pictures_say_why_and_name_no_path(tmp_path):
    IMAGE.save(tmp_path / "whole.jpg", quality=95)
    whole = (tmp_path / "whole.jpg").read_bytes()
    IMAGE.save(tmp_path / "whole.png")
    png = (tmp_path / "whole.png").read_bytes()
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("F", (20, 20)).save(tmp_path / "float.tiff")
    for name, content in {
        "empty.jpg": b"", "half.jpg": whole[: len(whole) // 2], "head.jpg": whole[:30],
        "half.png": png[: len(png) // 2], "text.jpg": b"no picture at all",
        "bomb.png": bomb(30000, 30000),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.jpg").mkdir()
    for name, reason in {
        "none.jpg": "no such file",
        "empty.jpg": "the file is empty",
        "half.jpg": "damaged: image file is truncated",
        "head.jpg": "",
        "half.png": "damaged",
        "text.jpg": "not an image, or of an unknown format",
        "bomb.png": "30000x30000 pixels, more than --max-pixels 10000000: not decoded",
        "dot.png": "1x1 pixels: smaller than 8 a side",
        "float.tiff": "pixels of mode F, whose range is unknown",
    }.items():
        with pytest.raises(BadPictureError) as error:
            opened(tmp_path / name)
        assert str(error.value).startswith(reason), name
        assert str(tmp_path) not in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "bmp"])
def test_the_limit_of_the_process_is_neither_asked_nor_touched(tmp_path, monkeypatch, kind):
    IMAGE.save(tmp_path / f"a.{kind}")
    expected = opened(tmp_path / f"a.{kind}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # a 24th of it
    seen = set()
    for name, (read, accepts) in list(Image.OPEN.items()):

        def watched(file, path, read=read):
            seen.add(Image.MAX_IMAGE_PIXELS)  # what another thread would see
            return read(file, path)

        monkeypatch.setitem(Image.OPEN, name, (watched, accepts))
    picture = open_picture(tmp_path / f"a.{kind}", 60 * 40)
    assert picture.pixels.tobytes() == expected.pixels.tobytes()
    assert picture.notes == expected.notes
    with pytest.raises(BadPictureError, match="60x40 pixels, more than --max-pixels 2399"):
        open_picture(tmp_path / f"a.{kind}", 60 * 40 - 1)
    assert seen == {100}


@pytest.mark.parametrize("kind", ["webp", "tiff"])
def test_what_pillow_itself_refuses_is_bad(tmp_path, monkeypatch, kind):
    reader = WebPImagePlugin if kind == "webp" else TiffImagePlugin
    if "_decompression_bomb_check" not in inspect.getsource(reader):
        pytest.skip("this Pillow leaves it to Image.open, and our own limit counts")
    IMAGE.save(tmp_path / f"a.{kind}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadPictureError, match=r"^too large for Pillow, not decoded: Image"):
        open_picture(tmp_path / f"a.{kind}", 60 * 40)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_any_damaged_byte_is_a_picture_or_a_bad_picture(tmp_path):
    IMAGE.save(tmp_path / "a.png")
    IMAGE.save(tmp_path / "a.jpg")
    IMAGE.save(tmp_path / "a.gif")
    rng = np.random.default_rng(1)
    for kind in ("png", "jpg", "gif"):
        content = np.frombuffer((tmp_path / f"a.{kind}").read_bytes(), np.uint8)
        for _ in range(40):
            broken = content.copy()
            broken[rng.integers(0, len(broken), 12)] = rng.integers(0, 256, 12)
            (tmp_path / f"b.{kind}").write_bytes(broken.tobytes())
            try:
                opened(tmp_path / f"b.{kind}")
            except BadPictureError:
                pass


def test_names_find_their_files(tmp_path):
    for name in ("a/000012.jpg", "a/x y.png", "b/x.jpg", "c/x.jpg", "notes.txt", "b/.y.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"-")
    folder = PictureFolder(tmp_path)
    for name, file in {
        "a/x y.png": "a/x y.png", "./b/x.jpg": "b/x.jpg", "/data/old/x y.png": "a/x y.png",
        "a/000012": "a/000012.jpg", "000012": "a/000012.jpg", "12": "a/000012.jpg", "x.jpg": None,
        "z": None,
    }.items():  # fmt: skip
        assert folder.match([name]).files == [file], name
    assert folder.match(["x.jpg", "z"]).why == {
        "x.jpg": "several files could be it: b/x.jpg, c/x.jpg", "z": "no such file",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"--images .*no such folder"):
        PictureFolder(tmp_path / "none")


def test_hidden_copies_of_pictures_are_none(tmp_path):
    for name in ("a/1.jpg", "a/._1.jpg", ".thumbnails/1.jpg", "__MACOSX/a/1.jpg", "Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"-")
    folder = PictureFolder(tmp_path)
    assert folder.files == ["a/1.jpg"]
    assert folder.match(["1"]).files == ["a/1.jpg"]


def test_heic_is_an_image_and_mpeg_a_video(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.new("RGB", (60, 40), (200, 40, 90))).save(tmp_path / "a.HEIC")
    (tmp_path / "b.mpg").write_bytes(b"-")
    folder = PictureFolder(tmp_path)
    assert folder.match(["a.jpg", "b"]).files == ["a.HEIC", None]
    shown = np.asarray(folder.picture("a.HEIC", LIMIT).pixels).astype(int)
    assert shown.shape == (40, 60, 3)
    assert np.abs(shown - (200, 40, 90)).max() < 6


FRAMES = ["cam/img1/000001.jpg", "cam/img1/000002.jpg", "b/frame_1.png", "b/frame_3.png"]


@pytest.mark.parametrize(
    ("name", "first", "file", "why"),
    [
        ("cam.mp4#2", None, FRAMES[1], ""),
        ("old/cam#2", None, FRAMES[1], ""),
        ("b#3", None, FRAMES[3], ""),
        ("b.avi#1", 0, FRAMES[3], ""),
        ("b.avi#1", 1, FRAMES[2], ""),
        (
            "cam.mp4#0", None, None, "no frame 0; the frames of cam are 1 to 2; if the boxes count "
            "from 0, give --first-frame 0",
        ),
        ("b#2", None, None, "no frame 2; the frames of b are 1 to 3"),
        ("b#2", 0, None, "no frame 2; b has 2 frames from 0 (--first-frame)"),
        ("#1", None, None, "several videos could be it: b, cam"),
        ("x#1", None, None, "no such video"),
    ],
)  # fmt: skip
def test_frames_in_a_folder(tmp_path, name, first, file, why):
    for frame in FRAMES:
        (tmp_path / frame).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / frame).write_bytes(b"-")
    found = PictureFolder(tmp_path, first).match([name])
    assert (found.files, found.why.get(name, "")) == ([file], why)


def test_the_only_folder_of_frames_is_that_of_the_only_video(tmp_path):
    (tmp_path / "img1").mkdir()
    for number in (7, 8):
        (tmp_path / f"img1/{number:06d}.jpg").write_bytes(b"-")
    folder = PictureFolder(tmp_path)
    assert folder.match(["#7", "#8"]).files == ["img1/000007.jpg", "img1/000008.jpg"]
    assert folder.match(["x.mp4#7", "x.mp4#8"]).files == ["img1/000007.jpg", "img1/000008.jpg"]
    found = folder.match(["x.mp4#7", "y.mp4#8"])
    assert found.files == [None, None]
    assert found.why["x.mp4#7"] == "no such video; img1 could be x.mp4 or y.mp4"
