import io
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.data.canvas import to_canvas
from patchit_hf.data.source import load_crops
from patchit_hf.data.store import CropStore, LazyCrops, open_crops
from patchit_hf.data.stream import StreamedCrops

CANVAS = (40, 20)


def _expected(dataset, rows):
    canvases = [to_canvas(dataset[row]["image"], CANVAS, "squash") for row in rows]
    return torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2)


def _cached():
    """Return the cache files of decoded crops."""
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "patchit_hf"
    others = (".opened.json", ".held-out.npz")  # notes about opened folders
    return sorted(p for p in folder.glob("*") if not p.name.endswith(others))


def test_cached_crops_are_the_images(crop_folder):
    train = load_crops(crop_folder).train
    store = open_crops(train, "image", CANVAS, "squash")
    assert isinstance(store, CropStore)
    assert isinstance(store.array, np.memmap)
    rows = torch.tensor([3, 0, 35, 3])
    assert torch.equal(store[rows], _expected(train, rows.tolist()))
    assert [p.suffix for p in _cached()] == [".crc32", ".json", ".uint8"]


def test_cache_is_read_again_and_names_the_same_pixels(crop_folder):
    train = load_crops(crop_folder).train
    first = open_crops(train, "image", CANVAS, "squash")
    times = [p.stat().st_mtime_ns for p in _cached()]
    again = open_crops(load_crops(crop_folder).train, "image", CANVAS, "squash")
    assert [p.stat().st_mtime_ns for p in _cached()] == times
    assert first.fingerprint == again.fingerprint
    in_memory = open_crops(train, "image", CANVAS, "squash", on_disk=False)
    assert in_memory.fingerprint == first.fingerprint
    other = open_crops(train, "image", (20, 20), "squash")
    assert other.fingerprint != first.fingerprint


def test_a_data_set_in_memory_leaves_no_file(crops):
    store = open_crops(crops, "image", CANVAS, "squash")
    assert isinstance(store, CropStore)
    assert _cached() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_crops_decoded_on_the_fly_are_the_same(crop_folder, workers):
    train = load_crops(crop_folder).train
    store = open_crops(train, "image", CANVAS, "squash")
    lazy = open_crops(train, "image", CANVAS, "squash", cache_gb=0, workers=workers)
    assert isinstance(lazy, LazyCrops)
    plan = [torch.tensor([1, 5, 9]), torch.tensor([0]), torch.tensor([9, 1])]
    batches = list(lazy.batches(plan))
    assert len(batches) == 3
    for got, wanted in zip(batches, store.batches(plan), strict=True):
        assert torch.equal(got, wanted)


def _with_damage(tmp_path, crops, row):
    images = []
    for image in crops["image"]:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": f"{len(images):03}.png"})
    images[row]["bytes"] = b"damaged"
    broken = datasets.Dataset.from_dict(
        {"image": images}, features=datasets.Features({"image": datasets.Image()})
    )
    (tmp_path / "broken").mkdir()
    broken.to_parquet(str(tmp_path / "broken" / "train.parquet"))
    return load_crops(str(tmp_path / "broken"))


@pytest.mark.parametrize(("cache_gb", "workers"), [(8, 2), (0, 0), (0, 2)])
def test_a_damaged_image_is_named_and_nothing_is_left(tmp_path, crops, cache_gb, workers):
    train = _with_damage(tmp_path, crops, 20).train

    def read():
        source = open_crops(train, "image", CANVAS, "squash", cache_gb=cache_gb, workers=workers)
        return list(source.batches([torch.arange(len(train))]))

    with pytest.raises(InputError, match=r"row 20 \(file 020\.png\): not a readable image"):
        read()
    assert _cached() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_goes_on_where_it_stopped(crop_folder, workers):
    def stream(skip):
        crops = load_crops(crop_folder, streaming=True)
        source = StreamedCrops(crops.train, "image", CANVAS, "squash", workers, seed=3)
        return list(islice(source.stream(6, skip), 10 - skip))

    whole, rest = stream(0), stream(7)
    assert [b.shape for b in whole] == [(6, 3, *CANVAS)] * 10
    assert all(torch.equal(a, b) for a, b in zip(whole[7:], rest, strict=True))


def test_processes_of_a_stream_share_it_without_overlap(crop_folder):
    def crops_of(rank, world, batches):
        crops = load_crops(crop_folder, streaming=True)
        source = StreamedCrops(crops.train, "image", CANVAS, "squash", 0, 3, rank, world)
        return {c.numpy().tobytes() for b in islice(source.stream(5, 0), batches) for c in b}

    first, second = crops_of(0, 2, 4), crops_of(1, 2, 4)
    assert len(first) == len(second) == 20
    assert not first & second
    assert first | second == crops_of(0, 1, 8)


@pytest.fixture
def paths(tmp_path):
    """A data set on disk of the paths of six images, each of one grey; and a way to repaint one."""
    files = [tmp_path / f"{number}.png" for number in range(6)]

    def paint(number, grey):
        Image.new("RGB", (20, 40), (grey,) * 3).save(files[number])

    for number in range(6):
        paint(number, number)
    rows = datasets.Dataset.from_dict({"image": [str(file) for file in files]})
    rows.cast_column("image", datasets.Image()).to_parquet(str(tmp_path / "rows.parquet"))

    def opened():
        return datasets.Dataset.from_parquet(
            str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "arrow")
        )

    return opened, paint


def test_files_that_were_replaced_under_their_paths_are_read_anew(paths):
    load, paint = paths

    def opened(rows=slice(None)):
        store = open_crops(load().select(range(6)[rows]), "image", CANVAS, "squash", main=False)
        return store[torch.arange(len(store))][:, 0, 0, 0].tolist(), store.fingerprint

    greys, before = opened()
    assert greys == [0, 1, 2, 3, 4, 5]
    made = len(_cached())
    assert opened() == (greys, before)
    assert len(_cached()) == made  # the cache was read
    others = opened(slice(0, 3))
    paint(4, 200)
    greys, after = opened()
    assert greys == [0, 1, 2, 3, 200, 5]
    assert after != before
    made = len(_cached())
    assert opened(slice(0, 3)) == others  # none of its files has changed
    assert len(_cached()) == made


def test_a_cache_of_earlier_versions_is_read_unless_a_file_is_newer(paths, monkeypatch):
    load, paint = paths

    def opened():
        store = open_crops(load(), "image", CANVAS, "squash", main=False)
        return store[torch.arange(6)][:, 0, 0, 0].tolist()

    with monkeypatch.context() as patch:
        patch.setattr("patchit_hf.data.store.file_states", lambda rows: None)
        opened()  # as earlier versions did
    made = _cached()
    opened()
    assert _cached() == made
    paint(0, 99)
    assert opened() == [99, 1, 2, 3, 4, 5]
