"""Images of any kind that a user has: what is taken, and what is said of the rest."""

import io

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.data.canvas import load_canvas
from patchit_hf.data.images import Images

CANVAS = (20, 10)


def pixels(seed=0, height=40, width=20):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def jpeg(size=(400, 800), **options):
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    waves = 127 + 120 * np.sin(np.stack([x / 9, y / 7, (x + y) / 5], -1))
    file = io.BytesIO()
    Image.fromarray(waves.astype(np.uint8)).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def canvases(images, **options):
    found = Images(images, **options)
    return torch.cat(list(found.batches(CANVAS, "squash", 2))).permute(0, 2, 3, 1).numpy()


def test_every_way_to_give_pixels_gives_the_same_canvas(tmp_path):
    want = pixels()
    image, tensor = Image.fromarray(want), torch.from_numpy(want).permute(2, 0, 1)
    image.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    ways = [
        image, tmp_path / "a.png", str(tmp_path / "a.png"), content, {"bytes": content},
        {"path": str(tmp_path / "a.png"), "bytes": None}, want, want / 255,
        (want / 255).astype(np.float32), tensor, tensor / 255, want[..., [0, 1, 2]],
    ]  # fmt: skip
    expected = load_canvas(image, CANVAS, "squash", "x")
    for way in ways:
        assert Images(way).single
        np.testing.assert_array_equal(canvases(way)[0], expected)
    assert not Images(ways).single
    np.testing.assert_array_equal(canvases(ways), np.stack([expected] * len(ways)))
    for many in (np.stack([want, want]), torch.stack([tensor, tensor]), iter([image, image])):
        found = canvases(many)
        np.testing.assert_array_equal(found, np.stack([expected] * 2))


def test_grey_and_see_through():
    grey = pixels()[..., 0]
    expected = load_canvas(Image.fromarray(grey), CANVAS, "squash", "x")
    for way in (grey, grey[..., None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        np.testing.assert_array_equal(canvases(way)[0], expected)
    deep = grey.astype(np.uint16) * 257
    np.testing.assert_array_equal(canvases(deep)[0], expected)
    rgba = np.concatenate([pixels(), np.full((40, 20, 1), 9, np.uint8)], -1)
    expected = load_canvas(Image.fromarray(pixels()), CANVAS, "squash", "x")
    np.testing.assert_array_equal(canvases(rgba)[0], expected)


def test_rows_and_columns_are_read_as_in_training():
    rows = datasets.Dataset.from_dict({"image": [{"bytes": jpeg()}, {"bytes": jpeg((90, 80))}]})
    rows = rows.cast_column("image", datasets.Image())
    expected = np.stack(
        [load_canvas({"bytes": c}, CANVAS, "squash", "x") for c in (jpeg(), jpeg((90, 80)))]
    )
    for way in (rows, rows["image"], [Image.open(io.BytesIO(jpeg())), jpeg((90, 80))]):
        np.testing.assert_array_equal(canvases(way), expected)
    turned = rows.select([1, 0])
    np.testing.assert_array_equal(canvases(turned["image"]), expected[::-1])
    two = datasets.concatenate_datasets([rows, rows.rename_column("image", "other")], axis=1)
    np.testing.assert_array_equal(canvases(two, image_column="image"), expected)
    with pytest.raises(InputError, match="has 2 image columns"):
        Images(two)


def test_a_column_of_paths(tmp_path):
    for number in range(2):
        Image.fromarray(pixels(number)).save(tmp_path / f"{number}.png")
    rows = datasets.Dataset.from_dict({"file": [str(tmp_path / f"{n}.png") for n in range(2)]})
    found = canvases(rows["file"])
    assert len(found) == 2
    np.testing.assert_array_equal(found[1], canvases(pixels(1))[0])


def test_what_is_given_stays_as_it_is():
    image = Image.open(io.BytesIO(jpeg()))
    canvases(image)
    assert image.size == (400, 800)
    array = pixels() / 255
    before = array.copy()
    canvases(array)
    np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(jpeg()))))


def test_exif_cmyk_and_16_bits_are_those_of_the_decoder():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = jpeg((30, 15), exif=exif)
    image = Image.open(io.BytesIO(content))
    image.load()
    assert Images(content).rgb(0).size == Images(image).rgb(0).size == (15, 30)
    expected = load_canvas({"bytes": content}, CANVAS, "squash", "x")
    np.testing.assert_array_equal(canvases(content)[0], expected)
    np.testing.assert_array_equal(canvases(image)[0], expected)
    cmyk = Image.fromarray(pixels()).convert("CMYK")
    np.testing.assert_array_equal(canvases(cmyk)[0], load_canvas(cmyk, CANVAS, "squash", "x"))
    deep = Image.new("I;16", (20, 40), 0x8000)
    assert (canvases(deep)[0] == 128).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (5, "images: int: must be a PIL image, a path"),
        ([pixels(), None], "image 1: NoneType: must be a PIL image, a path"),
        (np.zeros((3, 40, 20), np.uint8), r"image: array of shape \(3, 40, 20\): must be \[H, W\]"),
        ([torch.zeros(40, 20, 3)], r"image 0: tensor of shape \(40, 20, 3\): must be \[H, W\], or"),
        (np.zeros((1, 2, 3, 4, 5)), r"the image: array of shape \(1, 2, 3, 4, 5\)"),
        (np.zeros((0, 20, 3), np.uint8), r"array of shape \(0, 20, 3\): has no pixels"),
        (np.full((40, 20, 3), 255.0), "array of values 255 to 255: must be uint8, or floats"),
        (np.full((40, 20, 3), np.nan), "array of values nan to nan: must be uint8, or floats"),
        (torch.zeros(3, 40, 20, dtype=torch.int64), "tensor of int64: must be uint8"),
        (["no/such.png"], r"image 0 \(file no/such.png\): not a readable image: no such file"),
        ([jpeg(), jpeg()[:700]], "image 1: not a readable image"),
        (b"", "the image: not a readable image: the file is empty"),
        ([Image.new("RGB", (3, 3))], "image 0: not a readable image: 3x3 pixels: smaller than 8"),
        ([Image.new("F", (30, 30))], "image 0: not a readable image: pixels of mode F"),
    ],
)  # fmt: skip
def test_bad_images_are_one_line_that_names_them(images, message):
    with pytest.raises(InputError, match=message) as caught:
        canvases(images)
    assert len(str(caught.value).splitlines()) == 1


def test_a_damaged_image_that_is_only_opened():
    image = Image.open(io.BytesIO(jpeg()[:900]))
    with pytest.raises(InputError, match="image 0: not a readable image"):
        canvases([image])
    png = io.BytesIO()
    Image.fromarray(pixels()).save(png, "PNG")
    with pytest.raises(InputError, match="the image: not a readable image"):
        canvases(Image.open(io.BytesIO(png.getvalue()[:600])))
