"""Large JPEGs are decoded at a part of their size where all crops are much smaller."""

import io

import numpy as np
import pytest
from PIL import Image

from patchit_hf.crops import CropOptions
from patchit_hf.crops.cutting.cut import Job, cut, shrinkage
from patchit_hf.data.pictures import open_picture

WIDTH, HEIGHT = 1001, 803


@pytest.fixture(scope="module")
def scene():
    """A scene with structure at all scales, as photographs have."""
    rng, total = np.random.default_rng(0), 0
    for size in (6, 24, 96, 384):
        noise = Image.fromarray(rng.integers(0, 256, (size, size, 3)).astype(np.uint8))
        total = total + np.asarray(noise.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), float)
    return Image.fromarray((total / 4).round().astype(np.uint8))


def _job(path, boxes, reasons=None, **changes):
    boxes = np.array(boxes, float)
    count = len(boxes)
    values = {
        "name": path.name, "path": path, "source": "s", "box": np.arange(count), "boxes": boxes,
        "reasons": np.array(reasons or [""] * count, dtype=object), "row": np.arange(count),
        "score": np.full(count, np.nan), "size": (0, 0), "relative": False,
    }  # fmt: skip
    return Job(**{**values, **changes})


def _options(**options):
    return CropOptions(canvas="64x32", preset="all", image_format="png", **options)


def _crops(result):
    return [np.asarray(Image.open(io.BytesIO(c["image"]["bytes"])), float) for c in result.crops]


@pytest.mark.parametrize(("kind", "turned"), [*(("JPEG", n) for n in range(1, 9)), ("MPO", 1)])
def test_crops_are_those_of_the_whole_image(tmp_path, scene, monkeypatch, kind, turned):
    exif = Image.Exif()
    exif[274] = turned
    more = {"save_all": True, "append_images": [scene]} if kind == "MPO" else {}
    scene.save(tmp_path / "a.jpg", kind, quality=95, exif=exif, **more)
    shown = (WIDTH, HEIGHT) if turned < 5 else (HEIGHT, WIDTH)
    job = _job(tmp_path / "a.jpg", [[100.3, 90, 350, 620.5], [420, 200.25, 600, 480]])
    decoded = []
    monkeypatch.setattr(
        "patchit_hf.crops.cutting.cut.open_picture",
        lambda *args: decoded.append(open_picture(*args)) or decoded[-1],
    )
    result = cut(job, _options())
    assert (decoded[0].shrunk, decoded[0].size) == (2, shown)
    assert decoded[0].pixels.size == tuple((side + 1) // 2 for side in shown)
    assert [crop["window"][3] - crop["window"][1] for crop in result.crops] == [530.5, 279.75]
    monkeypatch.setattr("patchit_hf.crops.cutting.cut.shrinkage", lambda *_: 1)
    whole = cut(job, _options())
    assert decoded[1].shrunk == 1
    for mine, wanted in zip(_crops(result), _crops(whole), strict=True):
        assert np.sqrt(((mine - wanted) ** 2).mean()) < 1.5
        assert np.abs(mine - wanted).max() <= 9
    for mine, wanted in zip(result.crops, whole.crops, strict=True):
        assert {k: v for k, v in mine.items() if k not in ("image", "sharpness")} == {
            k: v for k, v in wanted.items() if k not in ("image", "sharpness")
        }


@pytest.mark.parametrize(
    ("expected", "boxes", "options", "changes"),
    [
        (4, [[0, 0, 250, 520]], {}, {}),
        (2, [[0, 0, 250, 510]], {}, {}),
        (1, [[0, 0, 250, 510], [0, 0, 100, 255]], {}, {}),
        (2, [[0, 0, 250, 510], [0, 0, 100, 255]], {}, {"reasons": ["", "too short"]}),
        (1, [[0, 0, 250, 510]], {"outside": "shrink"}, {}),
        (2, [[0, 0, 250, 250]], {"context": 0.1}, {}),
        (1, [[0, 0, 250, 510]], {"exif": "stored"}, {}),
        (2, [[0, 0, 0.3, 0.4]], {}, {"relative": True}),
        (1, [[0, 0, 0.3, 0.3]], {}, {"relative": True}),
        (8, [[0, 0, 900, 9000]], {}, {"stored": (2000, 1100)}),
        (1, [[0, 0, 900, 9000]], {}, {"stored": (2000, 200)}),
    ],
)
def test_how_much_smaller(tmp_path, expected, boxes, options, changes):
    stored = changes.pop("stored", (WIDTH, HEIGHT)) if changes else (WIDTH, HEIGHT)
    job = _job(tmp_path / "a.jpg", boxes, **changes)
    assert shrinkage(job, stored, _options(**options)) == expected


def test_other_formats_are_decoded_whole(tmp_path, scene):
    scene.save(tmp_path / "a.png", compress_level=1)
    picture = open_picture(tmp_path / "a.png", 10**7, lambda stored: 4)
    assert (picture.shrunk, picture.pixels.size) == (1, (WIDTH, HEIGHT))
