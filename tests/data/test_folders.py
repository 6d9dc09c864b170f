"""Folders as people bring them: every image is taken, and what is left out is counted and named."""

import io
import logging
import tarfile

import datasets
import numpy as np
import pillow_heif
import pytest
from packaging.version import Version
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.data import heif, opened
from patchit_hf.data.canvas import decode_rgb
from patchit_hf.data.source import load_crops, open_split, open_splits


def encoded(value, kind="PNG"):
    file = io.BytesIO()
    picture = Image.fromarray(np.full((20, 10, 3), value, np.uint8))
    if kind == "HEIF":
        pillow_heif.from_pillow(picture).save(file)
    else:
        picture.save(file, kind)
    return file.getvalue()


# What datasets itself cannot do before 5.2: a table with no rows, a table below a * in its path.
OLD = pytest.mark.skipif(
    Version(datasets.__version__) < Version("5.2"), reason="datasets 5.2 is the first that can"
)
KINDS = {".jpg": "JPEG", ".avif": "AVIF", ".heic": "HEIF", ".HEIC": "HEIF"}


def fill(folder, *names):
    """Write images whose grey value is 5 times their index."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(5 * number, KINDS.get(path.suffix, "PNG")))
    return folder


def shown(split):
    """The grey values of a split, in order."""
    rows = split.cast_column("image", datasets.Image(decode=False))["image"]
    return [int(np.asarray(decode_rgb(value))[10, 5, 0]) for value in rows]


def near(values, *numbers):
    assert np.abs(np.array(values) - np.array(numbers)).max() <= 3
    return True


def of(folder):
    return {name: sorted(shown(split)) for name, split in open_splits(str(folder)).items()}


FLAT = [f"{i}.png" for i in range(6)]
LAYOUTS = {
    "words in some names": (
        [*FLAT, "a_test_1.png", "val.png"],
        {"train": range(8)},
        ["2 of 8 images have the word of a split in their names; only folders make splits, so all "
         "of them are taken"],
    ),
    "one is called train": ([*FLAT, "train.png"], {"train": range(7)}, None),
    "other files with such names": ([*FLAT, "test.txt"], {"train": range(6)}, []),
    "more labels than images": ([*FLAT[:2], "a.txt", "b.txt", "c.txt"], {"train": range(2)}, []),
    "all named after splits": (
        ["train_1.png", "train_2.png", "test_1.png"], {"train": [0, 1], "test": [2]}, [],
    ),
    "beside the splits": (
        ["train/a.png", "val/b.png", "more/c.png", "d.png"],
        {"train": [0], "validation": [1]},
        ["2 images are left out: they lie beside the folders of the splits"],
    ),
    "a test beside plain folders": (
        ["people/a.png", "people/b.png", "test/c.png"], {"train": [0, 1], "test": [2]}, [],
    ),
    "classes with such words": (
        ["train_station/a.png", "beach/b.png", "park/c.png"], {"train": [0, 1, 2]}, [],
    ),
    "query and gallery": (
        ["train/a.png", "query/b.png", "gallery/c.png"],
        {"train": [0], "query": [1], "gallery": [2]}, [],
    ),
    "avif": (["a.avif", "b.avif", "c.png"], {"train": range(3)}, []),
    "hidden": (
        ["a.png", "b.png", ".c.png", "._a.png"],
        {"train": [0, 1]},
        ["1 images are left out: their names begin with a dot or two underscores"],
    ),
    "raw files": (
        ["a.png", "b.png", "c.nef"],
        {"train": [0, 1]},
        ["1 images are left out: raw, vector and JPEG XL files are not read"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_taken_and_what_is_left_out(layout, tmp_path, caplog):
    names, expected, notes = LAYOUTS[layout]
    folder = fill(tmp_path / "mine", *names)
    for file in folder.rglob("*.txt"):
        file.write_text("0 0.5 0.5 0.1 0.1\n")
    for _ in range(2):  # opened, and found again
        caplog.clear()
        with caplog.at_level(logging.INFO, "patchit_hf"):
            found = of(folder)
        assert list(found) == list(expected)
        for split, numbers in expected.items():
            assert near(found[split], *[5 * n for n in numbers])
        if notes is not None:
            assert caplog.messages == [f"data set 'mine': {note}" for note in notes]


def test_classes_are_kept(tmp_path):
    folder = fill(tmp_path / "d", "train_station/a.png", "beach/b.png", "park/c.png")
    rows = open_splits(str(folder))["train"]
    assert rows.features["label"].names == ["beach", "park", "train_station"]
    assert [rows.features["label"].names[label] for label in rows["label"]] == [
        "beach", "park", "train_station",
    ]  # fmt: skip


@pytest.mark.parametrize("names", [FLAT, ["train/a.png", "train/b.png", "val/c.png"]])
def test_what_was_read_rightly_is_read_by_datasets(names, tmp_path):
    folder = fill(tmp_path / "d", *names)
    theirs = datasets.load_dataset(str(folder))
    ours = open_splits(str(folder))
    assert {k: v._fingerprint for k, v in ours.items()} == {
        k: v._fingerprint for k, v in theirs.items()
    }


def test_a_stream_takes_the_same(tmp_path):
    folder = fill(tmp_path / "d", *FLAT, "a_test_1.png")
    crops = load_crops(str(folder), streaming=True)
    assert len(list(crops.train)) + len(list(crops.held_out)) == 7


def test_links(tmp_path, caplog):
    folder, other = fill(tmp_path / "d", "a.png", "b.png"), fill(tmp_path / "o", "x", "y", "c.png")
    (folder / "more").symlink_to(other)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for _ in range(2):
        caplog.clear()
        assert of(folder) == {"train": [0, 5, 10]}
        assert caplog.messages == [
            "data set 'd': 1 images are left out: links to files that are not there"
        ]
    (tmp_path / "link").symlink_to(folder)
    assert of(tmp_path / "link") == {"train": [0, 5, 10]}


@pytest.mark.parametrize("name", ["a[1]", pytest.param("b*", marks=OLD), "what?", "[x] y"])
def test_signs_in_the_path(name, tmp_path, crops):
    assert of(fill(tmp_path / name / "images", *FLAT)) == {"train": [0, 5, 10, 15, 20, 25]}
    (tmp_path / name / "parquet").mkdir()
    crops.to_parquet(str(tmp_path / name / "parquet" / "train.parquet"))
    assert len(open_splits(str(tmp_path / name / "parquet"))["train"]) == 40
    crops.save_to_disk(str(tmp_path / name / "saved"))
    assert len(open_splits(str(tmp_path / name / "saved"))["train"]) == 40
    table = fill(tmp_path / name / "table", *FLAT)
    (table / "metadata.csv").write_text("file_name,hat\n" + "".join(f"{n},1\n" for n in FLAT))
    assert open_splits(str(table))["train"]["hat"][:] == [1] * 6


def test_heic(tmp_path, caplog, monkeypatch):
    folder = fill(tmp_path / "d", "a.png", "b.heic", "c.HEIC", "d.png")
    monkeypatch.setattr(heif, "readable", lambda: False)
    assert of(folder) == {"train": [0, 15]}
    assert caplog.messages == [
        "data set 'd': 2 images are left out: HEIC needs the package pillow-heif (pip install "
        "pillow-heif)"
    ]
    only = fill(tmp_path / "o", "a.heic", "b.heic")
    with pytest.raises(InputError) as error:
        open_splits(str(only))
    assert str(error.value) == (
        f"--dataset '{only}': 2 images are left out: HEIC needs the package pillow-heif (pip "
        "install pillow-heif)"
    )
    monkeypatch.undo()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-datasets")
    assert near(of(folder)["train"], 0, 5, 10, 15)


def test_heic_in_a_row_without_the_package(monkeypatch):
    def missing(file):
        raise ImportError

    monkeypatch.setattr(heif, "open_heif", missing)
    with pytest.raises(ValueError, match=r"^a HEIC image, which needs the package pillow-heif"):
        decode_rgb({"bytes": encoded(9, "HEIF")})


TABLE = "file_name,hat\n0.png,1\n1.png,0\n2.png,1\n"


def test_images_that_no_table_names(tmp_path, caplog):
    folder = fill(tmp_path / "d", *FLAT)
    (folder / "metadata.csv").write_text(TABLE)
    for _ in range(2):
        caplog.clear()
        rows = open_splits(str(folder))["train"]
        assert rows["hat"][:] == [1, 0, 1, None, None, None]
        assert shown(rows) == [0, 5, 10, 15, 20, 25]
        assert caplog.messages == [
            "data set 'd': 3 of 6 images are not named in its metadata; they are taken without "
            "labels"
        ]


def test_words_in_the_names_of_a_table(tmp_path, caplog):
    folder = fill(tmp_path / "d", *FLAT[:2], "a_test_1.png", "b.avif")
    (folder / "metadata.csv").write_text("file_name,hat\n0.png,1\na_test_1.png,0\nb.avif,2\n")
    rows = open_splits(str(folder))
    assert list(rows) == ["train"]
    assert rows["train"]["hat"][:] == [1, 0, 2, None]
    assert near(shown(rows["train"]), 0, 10, 15, 5)


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def refused(folder):
        raise PermissionError(13, "Permission denied", str(folder / "a"))

    folder = fill(tmp_path / "d", *FLAT)
    monkeypatch.setattr(opened, "look", refused)
    with pytest.raises(InputError) as error:
        open_splits(str(folder))
    assert str(error.value) == (
        f"--dataset '{folder}': cannot be read ({folder}/a): Permission denied"
    )


def parquet(folder, **columns):
    for name, values in columns.items():
        folder.mkdir(exist_ok=True)
        datasets.Dataset.from_dict({"n": values}).to_parquet(str(folder / f"{name}.parquet"))
    return folder


def test_shards_without_a_word_are_for_training(tmp_path, caplog):
    folder = parquet(tmp_path / "d", crops=[1, 2], crops_test=[3])
    splits = open_splits(str(folder))
    assert {name: split["n"][:] for name, split in splits.items()} == {"train": [1, 2], "test": [3]}
    folder = parquet(tmp_path / "e", train=[1, 2], more=[3])
    assert open_splits(str(folder))["train"]["n"][:] == [1, 2]
    assert caplog.messages == [
        "data set 'e': 1 .parquet files are left out: they are in none of the splits that the "
        "others name (the first: more.parquet)"
    ]


def test_a_table_beside_the_images_that_it_names(tmp_path):
    folder = fill(tmp_path / "d", *(f"images/{i}.png" for i in range(6)))
    rows = {"photo": [f"images/{i}.png" for i in (4, 2, 0, 1)], "hat": [1, 0, 1, 0]}
    datasets.Dataset.from_dict(rows).to_parquet(str(folder / "labels.parquet"))
    found = open_splits(str(folder))["train"].rename_column("photo", "image")
    assert (shown(found), found["hat"][:]) == ([20, 10, 0, 5], [1, 0, 1, 0])


def tar(path, *members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as out:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize("streaming", [False, True])
def test_shards_with_images_of_two_kinds(streaming, tmp_path):
    members = []
    for i in range(16):
        kind = "jpg" if i < 8 else "png"
        members += [
            (f"{i:03}.{kind}", encoded(5 * i, "JPEG" if i < 8 else "PNG")),
            (f"{i:03}.json", b'{"hat": %d}' % (i % 2)),
        ]
    tar(tmp_path / "d" / "a.tar", *members[:20])
    tar(tmp_path / "d" / "b.tar", *members[20:])
    crops = load_crops(str(tmp_path / "d"), streaming=streaming)
    assert crops.image_column == "image"
    rows = list(crops.train) + list(crops.held_out)
    assert len(rows) == 16
    if not streaming:
        both = datasets.concatenate_datasets([crops.train, crops.held_out]).sort("__key__")
        assert near(shown(both), *range(0, 80, 5))
        assert [value["hat"] for value in both["json"]] == [i % 2 for i in range(16)]


def test_an_image_and_its_mask_are_two_columns(tmp_path):
    members = [(f"{i}.{k}", encoded(i, v)) for i in range(4) for k, v in
               (("jpg", "JPEG"), ("png", "PNG"))]  # fmt: skip
    tar(tmp_path / "d" / "a.tar", *members)
    with pytest.raises(InputError, match=r"has 2 image columns; choose one .*: jpg, png$"):
        load_crops(str(tmp_path / "d"))


def images(values, kind, name):
    features = datasets.Features({name: datasets.Image(), "n": datasets.Value("int64")})
    rows = [{"bytes": encoded(v, kind), "path": None} for v in values]
    return datasets.Dataset.from_dict({name: rows, "n": values}, features=features)


def test_parquet_with_jpg_in_one_shard_and_png_in_another(tmp_path):
    (tmp_path / "d").mkdir()
    images([0, 40], "JPEG", "jpg").to_parquet(str(tmp_path / "d/a.parquet"))
    images([80, 120], "PNG", "png").to_parquet(str(tmp_path / "d/b.parquet"))
    rows = open_splits(str(tmp_path / "d"))["train"]
    assert rows["n"][:] == [0, 40, 80, 120]
    assert near(shown(rows), 0, 40, 80, 120)


@pytest.mark.parametrize("name", ["validation", "val", "valid", "dev"])
def test_a_saved_validation_split(name, tmp_path, crops):
    parts = {"train": crops, name: crops.select(range(5))}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "d"))
    found = load_crops(str(tmp_path / "d"))
    assert (len(found.train), len(found.held_out), found.held_out_from) == (
        40, 5, "validation split",
    )  # fmt: skip
    assert open_split(str(tmp_path / "d"), None)[1] == "validation split"
    assert open_split(str(tmp_path / "d"), "val")[1] == f"{name} split"


@OLD
@pytest.mark.parametrize("way", ["saved", "parquet", "stream"])
def test_an_empty_validation_split(way, tmp_path, crops, caplog):
    parts = {"train": crops, "validation": crops.select([])}
    if way == "saved":
        datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "d"))
    else:
        (tmp_path / "d").mkdir()
        for name, rows in parts.items():
            rows.to_parquet(str(tmp_path / "d" / f"{name}.parquet"))
    found = load_crops(str(tmp_path / "d"), streaming=way == "stream")
    if way == "stream":
        assert len(list(found.train)) + len(list(found.held_out)) == 40
        assert found.held_out_from == "about 10 % of the stream, by person_id"
    else:
        assert (len(found.train), len(found.held_out)) == (36, 4)
        assert found.held_out_from == "10 % of the training split, by person_id"
    if way == "parquet":
        assert caplog.messages == [
            "data set 'd': 1 .parquet files have no rows (the first: validation.parquet)"
        ]
    elif way == "saved":
        assert caplog.messages == [f"data set '{tmp_path / 'd'}': its split validation is empty"]
