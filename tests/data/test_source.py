from pathlib import Path

import datasets
import numpy as np
import pytest
from packaging.version import Version
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.data.source import hold_out, load_crops


def _save_images(folder, count):
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(np.full((20, 10, 3), i, np.uint8)).save(folder / f"{i:03}.png")


def test_parquet_folder_holds_out_persons(crop_folder):
    crops = load_crops(crop_folder)
    assert (crops.split, crops.image_column) == ("train", "image")
    assert crops.held_out_from == "10 % of the training split, by person_id"
    assert len(crops.train) + len(crops.held_out) == 40
    assert len(crops.held_out) == 4
    assert not set(crops.train["person_id"]) & set(crops.held_out["person_id"])


def test_image_folder(tmp_path):
    _save_images(tmp_path / "images", 20)
    crops = load_crops(str(tmp_path / "images"))
    assert (len(crops.train), len(crops.held_out)) == (18, 2)


def test_validation_split_is_used(tmp_path):
    _save_images(tmp_path / "images" / "train", 6)
    _save_images(tmp_path / "images" / "validation", 3)
    crops = load_crops(str(tmp_path / "images"))
    assert crops.held_out_from == "validation split"
    assert (len(crops.train), len(crops.held_out)) == (6, 3)


def test_save_to_disk_folder(tmp_path, crops):
    crops.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"test": crops}).save_to_disk(str(tmp_path / "many"))
    assert len(load_crops(str(tmp_path / "one")).train) == 36
    assert load_crops(str(tmp_path / "many")).split == "test"


def test_arrow_folder(tmp_path, crops):
    from datasets.arrow_writer import ArrowWriter

    (tmp_path / "arrow").mkdir()
    with ArrowWriter(path=str(tmp_path / "arrow" / "train.arrow"), features=crops.features) as out:
        out.write_table(crops.data.table)
        out.finalize()
    assert len(load_crops(str(tmp_path / "arrow")).train) == 36


def test_holding_out_is_the_same_every_time_and_ignores_unknown_persons(crops):
    rows = hold_out(crops, "x")[1]["person_id"][:]
    assert rows == hold_out(crops, "x")[1]["person_id"][:]
    unknown = crops.remove_columns("person_id").add_column("person_id", [-1] * 40)
    train, held, _ = hold_out(unknown, "x")
    assert (len(train), len(held)) == (36, 4)


def test_one_person_is_split_by_rows(crops):
    same = crops.remove_columns("person_id").add_column("person_id", [5] * 40)
    train, held, words = hold_out(same, "x")
    assert (len(train), len(held), words) == (36, 4, "10 % of the training split")


def test_two_crops_are_enough_and_one_is_not(crops):
    train, held, _ = hold_out(crops.select([0, 1]), "x")
    assert (len(train), len(held)) == (1, 1)
    with pytest.raises(InputError, match="has 1 crop; at least 2"):
        hold_out(crops.select([0]), "x")


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_crops(str(tmp_path / "none"))


def test_hub_id_that_cannot_be_reached():
    with pytest.raises(InputError, match=r"--dataset 'org/none'.*there is no such folder"):
        load_crops("org/none")


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match="the folder is empty"):
        load_crops(str(tmp_path))


def test_folder_without_data(tmp_path):
    (tmp_path / "notes.txt.bak").write_text("no crops")
    with pytest.raises(InputError, match=r"has no image column|--dataset"):
        load_crops(str(tmp_path))


def test_missing_split(crop_folder):
    with pytest.raises(InputError, match=r"--split 'dev'.*no such split \(train\)"):
        load_crops(crop_folder, split="dev")


def test_no_train_split(tmp_path, crops):
    datasets.DatasetDict({"a": crops, "b": crops}).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(InputError, match="choose one with --split: a, b"):
        load_crops(str(tmp_path / "d"))


def test_image_columns(tmp_path, crops):
    two = crops.add_column("mask", [None] * 40).cast_column("mask", datasets.Image())
    two.save_to_disk(str(tmp_path / "two"))
    with pytest.raises(InputError, match=r"2 image columns.*image, mask"):
        load_crops(str(tmp_path / "two"))
    assert load_crops(str(tmp_path / "two"), image_column="image").image_column == "image"
    crops.select_columns("person_id").save_to_disk(str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"has no image column \(columns: person_id\)"):
        load_crops(str(tmp_path / "none"))
    with pytest.raises(InputError, match="no such image column"):
        load_crops(str(tmp_path / "two"), image_column="person_id")


@pytest.mark.skipif(
    Version(datasets.__version__) < Version("5.2"), reason="datasets 5.2 is the first that saves it"
)
def test_empty_data_set(tmp_path, crops):
    crops.select([]).save_to_disk(str(tmp_path / "disk"))
    with pytest.raises(InputError, match=r"cannot be read|is empty"):
        load_crops(str(tmp_path / "disk"))
    (tmp_path / "parquet").mkdir()
    crops.select([]).to_parquet(str(tmp_path / "parquet" / "train.parquet"))
    with pytest.raises(InputError, match=r"corresponds to no data|is empty"):
        load_crops(str(tmp_path / "parquet"))


def test_streaming(crop_folder):
    crops = load_crops(crop_folder, streaming=True)
    assert isinstance(crops.train, datasets.IterableDataset)
    assert crops.image_column == "image"


@pytest.mark.parametrize("column", ["person_id", None])
def test_a_stream_is_split_by_hash(tmp_path, column):
    many = datasets.Dataset.from_dict(
        {
            "image": [Image.fromarray(np.full((4, 4, 3), i % 256, np.uint8)) for i in range(200)],
            "person_id": [i // 2 for i in range(200)],
        }
    ).cast_column("image", datasets.Image())
    if column is None:
        many = many.remove_columns("person_id")
    (tmp_path / "many").mkdir()
    many.to_parquet(str(tmp_path / "many" / "train.parquet"))
    crops = load_crops(str(tmp_path / "many"), streaming=True)
    train, held = list(crops.train), list(crops.held_out)
    assert len(train) + len(held) == 200
    assert 8 <= len(held) <= 40
    assert crops.held_out_from.startswith("about 10 % of the stream, by ")
    if column:
        assert not {r["person_id"] for r in train} & {r["person_id"] for r in held}
    else:
        assert not {r["image"]["bytes"] for r in train} & {r["image"]["bytes"] for r in held}


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: cc-by-4.0\n---\n# Crops\n", "cc-by-4.0"),
        ("---\nlicense: unknown\n---\n# Crops\n", None),
        ("# Somebody's notes, with --- dashes ---\n", None),
    ],
)
def test_the_licence_that_a_folder_states(crop_folder, card, licence):
    (Path(crop_folder) / "README.md").write_text(card)
    assert load_crops(crop_folder).meta.get("license") == licence


def test_a_card_that_is_no_yaml(crop_folder):
    (Path(crop_folder) / "README.md").write_text("---\nlicense: [a\n---\n")
    with pytest.raises(InputError, match=r"the header of its README.md is not valid YAML"):
        load_crops(crop_folder)
