"""Images that are not declared as such: structs, bytes, paths, and who is in a file's name."""

import logging

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.data.canvas import decode_rgb
from patchit_hf.data.source import load_crops, open_splits
from tests.data.test_folders import encoded, fill, shown

VALUES = [40 * i for i in range(6)]
COLUMNS = {
    "struct": [{"bytes": encoded(v), "path": None} for v in VALUES],
    "turned struct": [{"path": f"{v}.png", "bytes": encoded(v)} for v in VALUES],
    "bytes": [encoded(v) for v in VALUES],
    "large bytes": pyarrow.array([encoded(v) for v in VALUES], pyarrow.large_binary()),
    "paths": [f"images/{i}.png" for i in range(6)],
    "paths in structs": [{"bytes": None, "path": f"images/{i}.png"} for i in range(6)],
}
if hasattr(pyarrow, "binary_view"):  # pyarrow 16 or newer
    COLUMNS["viewed bytes"] = pyarrow.array(COLUMNS["bytes"], pyarrow.binary_view())


def write(folder, **columns):
    """Write a table without the schema of the Hub, and images that its paths may name."""
    for i, value in enumerate(VALUES):
        path = folder / "images" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 10, 3), value, np.uint8)).save(path)
    (folder / "tables").mkdir(exist_ok=True)
    for part in range(8):  # more tables than images
        rows = pyarrow.table(columns).slice(part, 1 if part < 6 else 0)
        pyarrow.parquet.write_table(rows, folder / "tables" / f"{part}.parquet")
    return str(folder)


def seen(crops, column):
    both = datasets.concatenate_datasets([crops.train, crops.held_out])
    rows = both.cast_column(column, datasets.Image(decode=False))[column]
    return sorted(int(np.asarray(decode_rgb(value))[5, 5, 0]) for value in rows)


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("named", [None, "photo"])
def test_an_undeclared_column(kind, named, tmp_path, monkeypatch):
    folder = write(tmp_path / "d", photo=COLUMNS[kind], hat=[0, 1] * 3, town=["Rome"] * 6)
    monkeypatch.chdir(tmp_path)  # paths are relative to the data set, not to where one is
    crops = load_crops(folder, image_column=named)
    assert crops.image_column == "photo"
    assert seen(crops, "photo") == VALUES
    assert set(crops.train.column_names) == {"photo", "hat", "town"}
    again = load_crops(folder, image_column=named)
    assert again.train._fingerprint == crops.train._fingerprint


@pytest.mark.parametrize("kind", ["struct", "bytes", "paths"])
def test_an_undeclared_column_of_a_stream(kind, tmp_path):
    folder = write(tmp_path / "d", photo=COLUMNS[kind], hat=[0, 1] * 3)
    crops = load_crops(folder, streaming=True)
    rows = [decode_rgb(r["photo"]) for s in (crops.train, crops.held_out) for r in s]
    assert sorted(np.asarray(image)[5, 5, 0] for image in rows) == VALUES


def test_bytes_come_before_paths(tmp_path, caplog):
    folder = write(tmp_path / "d", file=COLUMNS["paths"], photo=COLUMNS["bytes"])
    with caplog.at_level(logging.INFO, "patchit_hf"):
        assert load_crops(folder).image_column == "photo"
    assert "column photo: holds bytes of files; taken for images" in caplog.messages


def test_two_columns_are_not_guessed(tmp_path):
    folder = write(tmp_path / "d", photo=COLUMNS["bytes"], mask=COLUMNS["bytes"])
    with pytest.raises(InputError, match=r"\(columns: photo, mask\); it must be images, or"):
        load_crops(folder)
    assert seen(load_crops(folder, image_column="mask"), "mask") == VALUES


def test_what_are_no_images(tmp_path):
    folder = write(tmp_path / "d", feature=[b"\x00\x01" * 30] * 6, note=["a.png"] * 6)
    with pytest.raises(InputError, match=r"\(columns: feature, note\); it must be images, or"):
        load_crops(folder)
    with pytest.raises(InputError) as error:
        load_crops(folder, image_column="hat")
    assert str(error.value) == (
        f"--image-column 'hat': no such image column in {folder!r} (image columns: none; all "
        "columns: feature, note)"
    )


MARKET = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0002_c2s1_000301_01.jpg",
                           "0007_c3s3_077419_03.jpg"],
    "bounding_box_test": ["-1_c1s1_000401_03.jpg", "0000_c1s1_000151_01.jpg",
                          "0001_c2s1_000451_03.jpg"],
    "query": ["0001_c1s1_001051_00.jpg"],
}  # fmt: skip


@pytest.fixture
def market(tmp_path):
    folder = tmp_path / "market"
    fill(folder, *(f"{part}/{name}" for part, names in MARKET.items() for name in names))
    (folder / "readme.txt").write_text("-")
    return folder


def test_people_in_the_names_of_files(market, caplog):
    with caplog.at_level(logging.INFO, "patchit_hf"):
        splits = open_splits(str(market), people_in_names=True)
    assert {
        name: (rows["person_id"][:], rows["camera"][:], rows["distractor"][:])
        for name, rows in splits.items()
    } == {
        "train": ([2, 2, 7], [1, 2, 3], [False] * 3),
        "gallery": ([-1, 0, 1], [1, 1, 2], [False, True, False]),
        "query": ([1], [1], [False]),
    }
    assert caplog.messages[-1] == (
        "7 of 7 names of images say person and camera: 3 people, 3 cameras, 1 distractors, 1 junk"
    )
    assert shown(splits["query"]) == [30]
    plain = open_splits(str(market))
    assert list(plain) == ["train", "test", "query"]
    assert all(rows.column_names == ["image"] for rows in plain.values())


def test_other_names_say_nobody(tmp_path):
    folder = fill(tmp_path / "d", "0001_c1s1_1_0.jpg", "b.jpg", "c.jpg")
    assert open_splits(str(folder), people_in_names=True)["train"].column_names == ["image"]


def test_one_split_of_such_files(market):
    crops = load_crops(str(market / "bounding_box_train"), people_in_names=True)
    assert crops.held_out_from == "10 % of the training split, by person_id"
    assert set(crops.train["person_id"]).isdisjoint(crops.held_out["person_id"])
