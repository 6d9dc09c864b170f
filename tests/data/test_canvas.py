import io

import numpy as np
import pytest
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.data.canvas import decode, load_canvas, parse_canvas, to_canvas


def _gradient(width: int, height: int) -> Image.Image:
    x = np.linspace(0, 255, width)[None, :, None]
    y = np.linspace(0, 255, height)[:, None, None]
    return Image.fromarray(
        np.concatenate(np.broadcast_arrays(x, y, x * 0 + y * 0), axis=-1).astype(np.uint8)
    )


def test_squash_takes_everything():
    out = to_canvas(_gradient(300, 100), (200, 100), "squash")
    assert out.shape == (200, 100, 3)
    assert out[0, 0, 0] < 5
    assert out[0, -1, 0] > 250


def test_cover_keeps_the_aspect_and_leaves_no_padding():
    out = to_canvas(_gradient(300, 100), (200, 100), "cover")
    # the middle 50 of the 300 px are visible
    assert 100 < out[0, 0, 0] < 112
    assert 143 < out[0, -1, 0] < 155
    assert out[-1, 0, 1] > 245


def test_an_image_of_the_canvas_size_is_left_alone():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 10, 3), np.uint8))
    assert np.array_equal(to_canvas(image, (20, 10), "squash"), np.asarray(image))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_any_mode_becomes_rgb(mode):
    assert to_canvas(_gradient(10, 20).convert(mode), (20, 10), "squash").shape == (20, 10, 3)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    buffer = io.BytesIO()
    _gradient(100, 50).save(buffer, "JPEG", exif=exif, quality=95)
    out = to_canvas(decode({"bytes": buffer.getvalue()}), (100, 50), "squash")
    assert out[5, 25, 0] < 30  # x of the stored image now points down
    assert out[95, 25, 0] > 225


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff\xe0 cut"])
def test_damaged_bytes_are_named(data):
    with pytest.raises(InputError, match=r"row 17 of train \(file a/b\.jpg\): not a readable"):
        load_canvas({"bytes": data, "path": "a/b.jpg"}, (20, 10), "squash", "row 17 of train")


def test_truncated_jpeg_is_named():
    buffer = io.BytesIO()
    _gradient(200, 200).save(buffer, "JPEG")
    with pytest.raises(InputError, match="row 3: not a readable image"):
        load_canvas({"bytes": buffer.getvalue()[:800]}, (20, 10), "squash", "row 3")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="row 0"):
        load_canvas({"bytes": None, "path": str(tmp_path / "no.jpg")}, (20, 10), "squash", "row 0")


@pytest.mark.parametrize(("text", "size"), [("200x100", (200, 100)), ("192X96", (192, 96))])
def test_parse_canvas(text, size):
    assert parse_canvas(text) == size


@pytest.mark.parametrize("text", ["200", "200x", "0x100", "-200x100", "axb", "200x100x3", "4x4"])
def test_parse_canvas_refuses(text):
    with pytest.raises(InputError, match="--canvas"):
        parse_canvas(text)
