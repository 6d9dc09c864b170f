"""Bad images among the crops: an error, left out or replaced, and always listed."""

import io
import json
from itertools import islice

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.data.bad import MANIFEST, BadImage, BadImages, read_manifest, settle, substitute
from patchit_hf.data.canvas import BadImageError, load_canvas, to_canvas
from patchit_hf.data.lazy import LazyCrops
from patchit_hf.data.store import CropStore, open_crops
from patchit_hf.data.stream import StreamedCrops
from tests.data.spoilt import HEIGHT, WIDTH, bad_files, spoilt_crops, spoilt_folder, unusual_files

CANVAS = (HEIGHT, WIDTH)
BAD = bad_files()
ROWS = {name: 3 + 4 * i for i, name in enumerate(BAD)}
WAYS = [("cached", 2), ("lazy", 0), ("lazy", 2)]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_says_what_is_wrong(name):
    content, reason = BAD[name]
    with pytest.raises(BadImageError, match=reason) as error:
        load_canvas({"bytes": content, "path": name}, CANVAS, "squash", "row 5")
    assert str(error.value).startswith(f"row 5 (file {name}): not a readable image: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", unusual_files())
def test_an_unusual_file_shows_what_it_shows(name, tmp_path):
    content, rgb = unusual_files()[name]
    canvas = load_canvas({"bytes": content, "path": name}, CANVAS, "squash", "row 5")
    assert np.abs(canvas.astype(int) - rgb).max() <= 1
    (tmp_path / name).write_bytes(content)
    again = load_canvas({"bytes": None, "path": str(tmp_path / name)}, CANVAS, "squash", "row 5")
    assert np.array_equal(canvas, again)


def test_a_turned_jpeg_is_not_decoded_too_small():
    y, x = np.mgrid[0:1600, 0:800]
    shown = Image.fromarray(np.stack([y // 8, x // 4, 0 * x], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    shown.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", quality=95, exif=exif)
    turned = to_canvas(Image.open(buffer), (400, 100), "squash").astype(int)
    assert np.abs(turned - to_canvas(shown, (400, 100), "squash")).max() <= 6


def test_a_file_that_cannot_be_reached_is_no_bad_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"-")
    (tmp_path / "a.png").chmod(0)
    if (tmp_path / "a.png").stat().st_mode and _readable(tmp_path / "a.png"):
        path = "memory-of-nobody://a/b.png"  # root can read any file, so use an unknown protocol
    else:
        path = str(tmp_path / "a.png")
    with pytest.raises(InputError, match="cannot be read") as error:
        load_canvas({"bytes": None, "path": path}, CANVAS, "squash", "row 5")
    assert not isinstance(error.value, BadImageError)


def _readable(path):
    try:
        path.read_bytes()
    except PermissionError:
        return False
    return True


def _opened(tmp_path, way, workers, policy, bad=None):
    folder = tmp_path / "crops"
    if not folder.exists():
        spoilt_folder(folder, bad)
    train = datasets.load_dataset(str(folder), split="train")
    found = BadImages(policy)
    cache_gb = 8 if way == "cached" else 0
    return open_crops(
        train, "image", CANVAS, "squash", cache_gb=cache_gb, workers=workers, main=False,
        name="crops", bad=found,
    )  # fmt: skip


def _good():
    canvases = []
    for row in spoilt_crops().cast_column("image", datasets.Image(decode=False)):
        if row["image"]["path"].startswith("good"):
            canvases.append(load_canvas(row["image"], CANVAS, "squash", "-"))
    return torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2)


def _all(source):
    return torch.cat(list(source.batches(torch.arange(len(source)).split(7))))


def _check_named(source, became):
    found = source.bad.found.values()
    assert {image.file: image.row for image in found} == ROWS
    for image in found:
        assert BAD[image.file][1] in image.reason
        assert image.became.startswith(became)


@pytest.mark.parametrize(("way", "workers"), WAYS)
def test_the_first_bad_image_stops(tmp_path, way, workers):
    line = r"crops, row 3 \(file truncated.jpg\): not a readable image: image file is truncated"
    with pytest.raises(InputError, match=line) as error:
        _all(_opened(tmp_path, way, workers, "raise"))
    assert "\n" not in str(error.value)
    assert "--on-bad-image skip or replace" in str(error.value)


@pytest.mark.parametrize(("way", "workers"), WAYS)
def test_bad_images_are_left_out_before_training(tmp_path, way, workers):
    source = _opened(tmp_path, way, workers, "skip")
    assert isinstance(source, CropStore if way == "cached" else LazyCrops)
    assert len(source) == 40
    _check_named(source, "left out")
    assert torch.equal(_all(source), _good())
    again = _opened(tmp_path, way, workers, "skip")
    _check_named(again, "left out")
    assert again.fingerprint == source.fingerprint


@pytest.mark.parametrize(("way", "workers"), WAYS)
def test_a_good_crop_stands_for_a_bad_one(tmp_path, way, workers):
    source = _opened(tmp_path, way, workers, "replace")
    assert len(source) == 40 + len(BAD)
    crops, good = _all(source), _good()
    _check_named(source, "replaced by row ")
    rows = [row for row in range(len(crops)) if row not in ROWS.values()]
    assert torch.equal(crops[rows], good)
    assert all((crops[row] == good).flatten(1).all(1).any() for row in ROWS.values())
    assert len({crops[row].numpy().tobytes() for row in ROWS.values()}) > 4
    cached = _opened(tmp_path, "cached", 1, "replace")
    assert torch.equal(_all(cached), crops)
    assert {i.key: i.became for i in cached.bad.found.values()} == {
        i.key: i.became for i in source.bad.found.values()
    }


def test_a_cache_made_with_bad_images_still_refuses_them(tmp_path):
    _opened(tmp_path, "cached", 1, "replace")
    with pytest.raises(InputError, match="row 3"):
        _opened(tmp_path, "cached", 1, "raise")
    assert len(_opened(tmp_path, "cached", 1, "skip")) == 40


@pytest.mark.parametrize("policy", ["skip", "replace"])
@pytest.mark.parametrize("way", ["cached", "lazy"])
def test_nothing_but_bad_images_is_an_error(tmp_path, way, policy):
    folder = tmp_path / "crops"
    spoilt_folder(folder, {"a": (b"", ""), "b": (b"x", "")}, good=0)
    with pytest.raises(InputError, match=r"none of .* images is readable"):
        _all(_opened(tmp_path, way, 0, policy))


def test_a_crop_that_breaks_while_training_is_not_left_out_in_silence(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, image in enumerate(_good()[:9]):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    (folder / "4.png").write_bytes(b"")
    train = datasets.load_dataset(str(folder), split="train")
    source = open_crops(train, "image", CANVAS, "squash", cache_gb=0, workers=0, main=False,
                        bad=BadImages("skip"))  # fmt: skip
    assert len(source) == 8
    (folder / "6.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"6\.png.*it was readable when the run began"):
        _all(source)


# Streams.


def _stream(tmp_path, policy, workers, skip=0, batches=12, batch=8):
    folder = tmp_path / "stream"
    if not folder.exists():
        spoilt_folder(folder)
    stream = datasets.load_dataset(str(folder), split="train", streaming=True)
    source = StreamedCrops(
        stream, "image", CANVAS, "squash", workers, seed=3, bad=BadImages(policy, "crops")
    )
    return source, list(islice(source.stream(batch, skip), batches))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_first_bad_image_of_a_stream_stops(tmp_path, workers):
    with pytest.raises(InputError, match=r"crops, row \d+ of epoch 0, process 0, worker 0 \(") as e:
        _stream(tmp_path, "raise", workers)
    assert "\n" not in str(e.value)


@pytest.mark.e2e
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_a_stream_goes_on_without_bad_images(tmp_path, workers, policy):
    source, batches = _stream(tmp_path, policy, workers)
    assert [b.shape for b in batches] == [(8, 3, *CANVAS)] * 12
    assert {image.file for image in source.bad.found.values()} == set(BAD)
    good = {crop.numpy().tobytes() for crop in _good()}
    crops = [crop.numpy().tobytes() for crop in torch.cat(batches)]
    assert set(crops) <= good
    if policy == "skip":  # each good crop once before any is repeated
        assert set(crops[:40]) == good
    _, rest = _stream(tmp_path, policy, workers, skip=5, batches=7)
    assert all(torch.equal(a, b) for a, b in zip(batches[5:], rest, strict=True))


@pytest.mark.e2e
@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_a_stream_of_nothing_but_bad_images_ends(tmp_path, policy, monkeypatch):
    monkeypatch.setattr("patchit_hf.data.stream.IN_A_ROW", 60)  # epochs take a while to end
    spoilt_folder(tmp_path / "stream", {"a": (b"", ""), "b": (b"x", "")}, good=0)
    with pytest.raises(InputError, match=r"none of .* images is readable"):
        _stream(tmp_path, policy, 0)


# The list of them.


def _image(row, **kwargs):
    return BadImage("train", row, f"{row}.png", "damaged", "left out", **kwargs)


def test_the_manifest_is_written_once_the_run_has_begun(tmp_path):
    bad = BadImages("skip", folder=tmp_path)
    bad.add(_image(4))
    assert not (tmp_path / MANIFEST).exists()
    (tmp_path / "run.json").write_text("{}")
    bad.add(_image(2))
    bad.add(_image(2))
    lines = (tmp_path / MANIFEST).read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [4, 2]
    other = BadImages("skip", folder=tmp_path)  # another process, or the same after a restart
    other.add(_image(2))
    other.add(_image(9))
    with (tmp_path / MANIFEST).open("a") as file:
        file.write('{"part": "train", "row"')  # a third process was killed here
    assert settle(tmp_path, bad) == 3
    assert [image.row for image in read_manifest(tmp_path / MANIFEST).values()] == [2, 4, 9]


def test_without_bad_images_there_is_no_manifest(tmp_path):
    assert settle(tmp_path, BadImages()) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_stream_s_image_is_one_in_every_epoch():
    first = _image(4, reader="epoch 0, process 0, worker 0", digest="ab")
    again = BadImage(
        "train", 7, "4.png", "damaged", "left out", "epoch 1, process 0, worker 1", "ab"
    )
    other = BadImage(
        "train", 7, "4.png", "damaged", "left out", "epoch 1, process 0, worker 1", "cd"
    )
    assert first.key == again.key != other.key


def test_unknown_policies_are_refused():
    with pytest.raises(InputError, match="--on-bad-image 'ignore': must be one of raise, skip"):
        BadImages("ignore")


def test_substitutes_are_spread_over_all_rows():
    chosen = torch.tensor([substitute(row, 0, 10) for row in range(2000)])
    counts = chosen.bincount(minlength=10)
    assert counts.min() > 150
    assert [substitute(5, k, 1000) for k in range(3)] == [substitute(5, k, 1000) for k in range(3)]
    assert len({substitute(5, k, 10**6) for k in range(20)}) == 20
