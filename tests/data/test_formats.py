"""No file of a data set starts another program, whatever it is called."""

import contextlib
import os
import re
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image

from patchit_hf.data.canvas import UnusableError, decode
from patchit_hf.data.formats import FORMATS, open_image
from patchit_hf.data.pictures import BadPictureError, open_picture, size_of
from tests.data.spoilt import saved

POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n"
    b"0 0 64 64 rectfill\nshowpage\n%%EOF\n"
)


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A program named ``gs`` that only leaves a mark; Pillow finds it as it finds Ghostscript."""
    program, mark = tmp_path / "bin" / "gs", tmp_path / "started"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # where Pillow remembers it
    return mark


def test_postscript_named_as_an_image_starts_no_ghostscript(tmp_path, ghostscript):
    file = tmp_path / "007.png"
    file.write_bytes(POSTSCRIPT)
    for value in ({"bytes": POSTSCRIPT, "path": None}, {"bytes": None, "path": str(file)}, file):
        with pytest.raises(UnusableError, match=r"^not an image, or of an unknown format$"):
            decode(value)
    with pytest.raises(BadPictureError, match="not an image, or of an unknown format"):
        open_picture(file, 10**6)
    assert size_of(file, stored=True) is None
    assert not ghostscript.exists()
    with Image.open(file) as image, contextlib.suppress(OSError):
        image.load()
    assert ghostscript.exists()  # Pillow by itself would have started it


def test_a_huge_postscript_file_is_not_given_to_its_reader_either(ghostscript):
    huge = POSTSCRIPT.replace(b"64 64\n%%End", b"60000 60000\n%%End")
    with pytest.raises(UnusableError, match="unknown format"):
        decode({"bytes": huge})


@pytest.mark.parametrize("name", [*FORMATS, "MPO"])
def test_every_format_of_the_list_is_read(tmp_path, name):
    file = tmp_path / "image.any"
    file.write_bytes(saved(Image.new("RGB", (20, 30), (200, 30, 30)), name))
    with open_image(file) as image:
        red, green, _ = image.convert("RGB").getpixel((10, 15))
    assert abs(red - 200) < 10
    assert abs(green - 30) < 10


def test_images_are_opened_in_one_place():
    root = Path(__file__).parents[2]
    files = [*(root / "patchit_hf").rglob("*.py"), *(root / "examples").rglob("*.py")]
    opens = {
        str(file.relative_to(root))
        for file in files
        if re.search(r"(?<!open_)\bImage\.open\(|load_img|imread\(", file.read_text("utf-8"))
    }
    assert opens == {"patchit_hf/data/formats.py"}
