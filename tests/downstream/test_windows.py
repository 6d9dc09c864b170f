"""One person out of an image: what is an image without joints, and what is an error."""

import io

import pytest
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.data import canvas
from patchit_hf.downstream.windows import cut_person

JOINTS = [[5.0, 10.0, 2.0]]


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (20, 40), (10, 20, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def cut(value):
    row = {"image": value, "keypoints": JOINTS}
    return cut_person(
        row, 7, image="image", joints="keypoints", box=None, canvas=(80, 40), margin=0.0
    )


def test_joints_come_to_the_canvas():
    assert cut({"bytes": png(), "path": None})["keypoints"] == [[10.0, 20.0, 1.0]]


@pytest.mark.parametrize(
    "value",
    [
        {"bytes": b"", "path": "a.png"},
        {"bytes": b"no image at all", "path": "a.png"},
        {"bytes": png()[:60], "path": "a.png"},
        {"bytes": None, "path": "not-there.png"},
        None,
    ],
)
def test_of_a_bad_image_no_joint_is_seen(value):
    made = cut(value)
    assert (made["image"], made["keypoints"]) == (value, [[0.0, 0.0, 0.0]])


def test_a_file_that_cannot_be_reached_is_no_bad_image():
    with pytest.raises(InputError, match=r"^row 7: image: cannot be read: ") as error:
        cut({"bytes": None, "path": "memory-of-nobody://a/b.png"})
    assert "\n" not in str(error.value)


def test_an_error_of_ours_is_no_bad_image(monkeypatch):
    def broken(image):
        raise AttributeError("a bug")

    monkeypatch.setattr(canvas, "check_usable", broken)
    with pytest.raises(AttributeError, match="a bug"):
        cut({"bytes": png(), "path": None})


def turned_jpeg():
    """A photo that is stored lying: its left half, shown on top, is bright."""
    stored = Image.new("RGB", (80, 40))
    stored.paste((250, 250, 250), (0, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    buffer = io.BytesIO()
    stored.save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def test_a_person_is_cut_from_the_image_as_it_is_shown():
    found = cut({"bytes": turned_jpeg(), "path": None})
    shown = Image.open(io.BytesIO(found["image"]["bytes"]))
    assert found["window"] == [0.0, 0.0, 40.0, 80.0]
    assert found["keypoints"] == [[5.0, 10.0, 1.0]]
    assert shown.getpixel((20, 10))[0] > 240
    assert shown.getpixel((20, 70))[0] < 15


def test_a_person_is_cut_from_16_bit_grey_over_its_whole_range():
    buffer = io.BytesIO()
    Image.new("I;16", (20, 40), 0x8000).save(buffer, "PNG")
    found = cut({"bytes": buffer.getvalue(), "path": None})
    assert Image.open(io.BytesIO(found["image"]["bytes"])).getpixel((5, 5)) == (128, 128, 128)
