"""Each sample of a stream is seen once per epoch, for any number of processes and workers."""

import io
import tarfile
from itertools import islice

import datasets
import numpy as np
import pytest
from PIL import Image

from patchit_hf.data.source import load_crops
from patchit_hf.data.stream import StreamedCrops
from tests.data.spoilt import saved

SHARDS, ROWS = 6, 10  # files, and images in each
SPLITS = [(1, 0), (1, 2), (1, 3), (2, 0), (2, 3), (3, 2), (4, 0), (6, 1)]  # processes, workers


def _content(number):
    """Return an image that encodes its number."""
    return saved(Image.fromarray(np.full((8, 8, 3), number, np.uint8)))


def _parquet(folder):
    features = datasets.Features({"image": datasets.Image()})
    for shard in range(SHARDS):
        images = [
            {"bytes": _content(shard * ROWS + i), "path": f"{shard}-{i}.png"} for i in range(ROWS)
        ]
        datasets.Dataset.from_dict({"image": images}, features=features).to_parquet(
            str(folder / f"train-{shard:05}-of-{SHARDS:05}.parquet")
        )


def _tars(folder):
    for shard in range(SHARDS):
        with tarfile.open(folder / f"train-{shard:05}.tar", "w") as out:
            for i in range(ROWS):
                content = _content(shard * ROWS + i)
                entry = tarfile.TarInfo(f"{shard * ROWS + i:04}.png")
                entry.size = len(content)
                out.addfile(entry, io.BytesIO(content))


@pytest.fixture(params=[_parquet, _tars], ids=["parquet", "webdataset"])
def folder(request, tmp_path):
    """Write shards of the given kind."""
    (tmp_path / "shards").mkdir()
    request.param(tmp_path / "shards")
    return str(tmp_path / "shards")


def _epoch(folder, rank, world, workers, seed=3, batch=5, epochs=1):
    """Return the numbers of the crops that a process sees in its first epochs, in order."""
    data = datasets.load_dataset(folder, split="train", streaming=True)
    column = next(k for k, f in data.features.items() if isinstance(f, datasets.Image))
    source = StreamedCrops(data, column, (8, 8), "squash", workers, seed, rank, world, buffer=20)
    batches = islice(source.stream(batch, 0), epochs * SHARDS * ROWS // world // batch)
    return [int(crop[0, 0, 0]) for crops in batches for crop in crops]


@pytest.mark.e2e
@pytest.mark.parametrize(("world", "workers"), SPLITS)
def test_every_sample_is_seen_once(folder, world, workers):
    seen = [_epoch(folder, rank, world, workers) for rank in range(world)]
    assert sorted(number for part in seen for number in part) == list(range(SHARDS * ROWS))
    assert all(part != sorted(part) for part in seen)  # and not in the order of the files
    assert len({len(part) for part in seen}) == 1


def test_a_worker_that_is_ahead_changes_no_other(folder):
    """Workers share memory: one that begins its next epoch must not turn the others' page."""
    data = datasets.load_dataset(folder, split="train", streaming=True)
    column = next(k for k, f in data.features.items() if isinstance(f, datasets.Image))
    source = StreamedCrops(data, column, (8, 8), "squash", 0, 3, buffer=20)
    expected = [row.value for row in source.rows(0)]
    ahead = source.rows(1)
    next(ahead)
    assert source.dataset.epoch == 0
    source.dataset.set_epoch(1)  # as any other part of the process might
    behind = source.rows(0)
    assert next(behind).value == expected[0]
    assert [row.value for row in behind] == expected[1:]
    assert [row.value for row in ahead] != expected[1:]


def test_the_next_epoch_has_all_of_them_in_another_order(folder):
    both = _epoch(folder, 0, 1, 0, epochs=2)
    first, second = both[: SHARDS * ROWS], both[SHARDS * ROWS :]
    assert sorted(first) == sorted(second)
    assert first != second
    assert _epoch(folder, 0, 1, 0, seed=4) != first


def test_what_is_held_out_and_what_is_not_are_all(folder):
    crops = load_crops(folder, streaming=True)
    numbers = []
    for side in (crops.train, crops.held_out):
        content = [row[crops.image_column]["bytes"] for row in side]
        numbers.append([int(np.asarray(Image.open(io.BytesIO(c)))[0, 0, 0]) for c in content])
    assert sorted(numbers[0] + numbers[1]) == list(range(SHARDS * ROWS))
    assert numbers[1]
