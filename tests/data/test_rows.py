"""Undecoded images by row number, as the data set itself has them."""

import pickle
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest

from patchit_hf.data.rows import ImageRows

from ..conftest import make_crops
from .spoilt import saved


def _embedded(count, start=0):
    images = [
        {"bytes": saved(image), "path": f"{start + i}.png"}
        for i, image in enumerate(make_crops(count, seed=start))
    ]
    features = datasets.Features({"image": datasets.Image(), "n": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"image": images, "n": range(count)}, features=features)


def _on_disk(tmp_path, count=30, name="parquet"):
    (tmp_path / name).mkdir()
    _embedded(count).to_parquet(str(tmp_path / name / "train.parquet"), batch_size=7)
    return datasets.load_dataset(str(tmp_path / name), split="train")


def _folder(tmp_path):
    (tmp_path / "folder").mkdir()
    for i, image in enumerate(make_crops(9)):
        image.save(tmp_path / "folder" / f"{i}.png")
    return datasets.load_dataset(str(tmp_path / "folder"), split="train")


def _with_gaps(tmp_path):
    images = [None, {"bytes": b"", "path": "b"}, {"bytes": b"xyz", "path": None}, None]
    features = datasets.Features({"image": datasets.Image()})
    return datasets.Dataset.from_dict({"image": images}, features=features)


CASES = {
    "in memory": lambda p: _embedded(12),
    "on disk": _on_disk,
    "selected": lambda p: _on_disk(p).select([5, 3, 29, 3, 0]),
    "selected twice": lambda p: _on_disk(p).select([5, 3, 29, 3, 0]).select([4, 1]),
    "a slice": lambda p: _on_disk(p).select(range(8, 27)),
    "shuffled": lambda p: _on_disk(p).shuffle(seed=3),
    "put together": lambda p: datasets.concatenate_datasets(
        [_on_disk(p), _embedded(4, 50), _on_disk(p, 6, "other")]
    ),
    "saved": lambda p: _saved(p),
    "a folder of files": _folder,
    "gaps": _with_gaps,
}


def _saved(tmp_path):
    _embedded(11).save_to_disk(str(tmp_path / "saved"))
    return datasets.load_from_disk(str(tmp_path / "saved"))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("again", [False, True])
def test_rows_are_those_of_the_data_set(tmp_path, case, again):
    data = CASES[case](tmp_path)
    rows = ImageRows(data, "image")
    if again:
        rows = pickle.loads(pickle.dumps(rows))
    expected = data.cast_column("image", datasets.Image(decode=False))["image"][:]
    assert len(rows) == len(expected) > 0
    for row, value in enumerate(expected):
        found = rows[row]
        if value is None or value["bytes"] is None:
            assert found == value
        else:
            assert found["bytes"] == value["bytes"]
        assert rows.path(row) == (value or {}).get("path")
        if data._indices is not None:
            assert rows.original(row) == data._indices.column(0)[row].as_py()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="where memory can be looked at")
def test_reading_everything_does_not_make_the_process_larger(tmp_path):
    size, count = 200_000, 300
    rng = np.random.default_rng(0)
    images = [{"bytes": rng.bytes(size), "path": None} for _ in range(count)]
    features = datasets.Features({"image": datasets.Image()})
    (tmp_path / "large").mkdir()
    datasets.Dataset.from_dict({"image": images}, features=features).to_parquet(
        str(tmp_path / "large" / "train.parquet")
    )
    data = datasets.load_dataset(str(tmp_path / "large"), split="train")
    rows = ImageRows(data, "image")
    assert rows.place(7)[2] == size  # it is the files that are read
    before = _mapped_memory()
    assert sum(len(rows[i]["bytes"]) for i in range(count)) == size * count
    assert _mapped_memory() - before < size * count / 10
    data.cast_column("image", datasets.Image(decode=False))[:]
    assert _mapped_memory() - before > size * count / 2  # which the data set's own way does


def _mapped_memory():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssFile")
