"""Image files of real-life kinds: unusual ones that can be used, and bad ones."""

import io
import struct
import zlib

import datasets
import numpy as np
from PIL import Image

from tests.conftest import make_crops

HEIGHT, WIDTH = 50, 25


def saved(image, kind="PNG", **options):
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(width=30_000, height=30_000):
    """Return a PNG whose header states a huge size; it cannot be decoded."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def bad_files():
    """Return files that cannot be used, each with a part of the expected reason."""
    image = make_crops(1, 200, 100)[0]
    jpeg, png = saved(image, "JPEG", quality=95), saved(image)
    return {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "image file is truncated"),
        "truncated.png": (png[: len(png) // 2], "truncated"),
        "empty.jpg": (b"", "the file is empty"),
        "text.jpg": (b"no picture at all", "not an image, or of an unknown format"),
        "dot.png": (saved(Image.new("RGB", (1, 1))), "1x1 pixels: smaller than 8 a side"),
        "bomb.png": (bomb(), "pixels, more than 100,000,000: not decoded"),
        "large.png": (bomb(10_001, 10_000), "10001x10000 pixels, more than 100,000,000"),
        "float.tiff": (saved(Image.new("F", (20, 20)), "TIFF"), "pixels of mode F"),
    }


def unusual_files():
    """Return usable files, each with the RGB values uint8 ``[H, W, 3]`` that it shows."""
    image = make_crops(1, HEIGHT, WIDTH, seed=3)[0]
    rgb = np.asarray(image)
    turned = Image.Exif()
    turned[0x0112] = 6  # rotate a quarter turn clockwise
    deep = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 50).astype(np.uint16)
    cmyk = image.convert("CMYK")
    alpha = Image.fromarray(np.dstack([rgb, np.full((HEIGHT, WIDTH), 90, np.uint8)]))
    other = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    moving = saved(image.quantize(64), "GIF", save_all=True, append_images=[other.quantize(64)])
    first = np.asarray(image.quantize(64).convert("RGB"))
    return {
        "png.jpg": (saved(image), rgb),
        "cmyk.tiff": (saved(cmyk, "TIFF"), np.asarray(cmyk.convert("RGB"))),
        "deep.png": (saved(Image.fromarray(deep)), np.dstack([deep >> 8] * 3)),
        "alpha.png": (saved(alpha), rgb),
        "turned.png": (saved(image.transpose(Image.Transpose.ROTATE_90), exif=turned), rgb),
        "moving.gif": (moving, first),
    }


def spoilt_crops(bad=None, good=40):
    """Return a data set in memory in which, from row 3 on, every fourth image is bad."""
    bad = bad_files() if bad is None else bad
    images = [
        {"bytes": saved(image), "path": f"good-{i:02}.png"}
        for i, image in enumerate(make_crops(good))
    ]
    for i, (name, (content, _)) in enumerate(bad.items()):
        images.insert(3 + 4 * i, {"bytes": content, "path": name})
    features = datasets.Features({"image": datasets.Image()})
    return datasets.Dataset.from_dict({"image": images}, features=features)


def spoilt_folder(path, bad=None, good=40):
    """Write the same data set to a folder with one parquet file."""
    path.mkdir(parents=True)
    spoilt_crops(bad, good).to_parquet(str(path / "train.parquet"))
    return str(path)
