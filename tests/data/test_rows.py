"""Undecoded images by row number equal those of the data set."""

import pickle
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets.arrow_writer import ArrowWriter

from patchit_hf.data.rows import ImageRows, open_arrow
from tests.conftest import make_crops
from tests.data.spoilt import saved


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


@pytest.mark.e2e
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
    assert rows.place(7)[2] == size  # the files are read
    before = _mapped_memory()
    assert sum(len(rows[i]["bytes"]) for i in range(count)) == size * count
    assert _mapped_memory() - before < size * count / 10
    data.cast_column("image", datasets.Image(decode=False))[:]
    assert _mapped_memory() - before > size * count / 2  # as reading through the data set does


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="where memory can be looked at")
def test_opening_and_noting_places_does_not_make_the_process_larger(tmp_path):
    size, count = 500, 60_000
    image = np.random.default_rng(0).bytes(size)
    file = _write_arrow(tmp_path, [{"bytes": image, "path": None}] * count)
    before = _mapped_memory()
    theirs = datasets.Dataset.from_file(file)
    touched = _mapped_memory() - before
    del theirs
    before = _mapped_memory()
    ours = open_arrow(file)
    rows = ImageRows(ours, "image")
    assert _mapped_memory() - before < touched / 4
    assert rows.place(count - 1)[0] == file
    assert rows[count - 1]["bytes"] == image


def test_an_arrow_file_is_opened_as_datasets_opens_it(tmp_path):
    file = _write_arrow(tmp_path, _images(30))
    theirs, ours = datasets.Dataset.from_file(file), open_arrow(file)
    for found in (ours, pickle.loads(pickle.dumps(ours))):
        assert found.features == theirs.features
        assert found.cache_files == theirs.cache_files == [{"filename": file}]
        assert found.data.table.equals(theirs.data.table)
        assert found.select(range(3, 9))[2]["image"] == theirs[5]["image"]


def test_files_of_one_size_are_told_apart(tmp_path):
    names = [str(tmp_path / f"{i}") for i in range(2)]
    files = [
        _write_arrow(Path(name), _images(5, seed)) for name, seed in zip(names, (3, 9), strict=True)
    ]
    flat = [[{"bytes": bytes([i]) * 900, "path": None}] * 4 for i in range(2)]
    files += [
        _write_arrow(Path(f"{name}s"), images) for name, images in zip(names, flat, strict=True)
    ]
    assert Path(files[2]).stat().st_size == Path(files[3]).stat().st_size
    data = datasets.concatenate_datasets([datasets.Dataset.from_file(f) for f in files[::-1]])
    rows = ImageRows(data.select([0, 4, 8, 13, 3, 7]), "image")
    owners = [files[3], files[2], files[1], files[0], files[3], files[2]]
    assert [rows.place(i)[0] for i in range(6)] == owners
    for row in range(6):
        name, start, length = rows.place(row)
        assert Path(name).read_bytes()[start : start + length] == rows[row]["bytes"]


def test_a_column_that_was_cast_or_renamed_or_stands_beside_others(tmp_path):
    data = datasets.Dataset.from_file(_write_arrow(tmp_path, _images(12)))
    data = data.rename_column("image", "crop").add_column("more", list(range(12)))
    expected = data.cast_column("crop", datasets.Image(decode=False))["crop"][:]
    rows = ImageRows(data, "crop")
    assert rows.place(3) is not None
    assert [rows[i]["bytes"] for i in range(12)] == [value["bytes"] for value in expected]


def _images(count, seed=0):
    return [{"bytes": saved(image), "path": None} for image in make_crops(count, seed=seed)]


def _write_arrow(folder, images):
    folder.mkdir(exist_ok=True)
    file = str(folder / "data.arrow")
    features = datasets.Features({"image": datasets.Image(decode=False)})
    with ArrowWriter(path=file, features=features, writer_batch_size=1000) as writer:
        for image in images:
            writer.write({"image": image})
        writer.finalize()
    return file


def _mapped_memory():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssFile")
