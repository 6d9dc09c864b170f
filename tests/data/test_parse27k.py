"""PARSE-27k: read a small folder of that format, made here."""

import sqlite3

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.detections import read_detections
from patchit_hf.crops.make import make_crops
from patchit_hf.data.parse27k import (
    MIRRORED_CLASSES,
    load_parse27k,
    main,
    mirror_labels,
    padded_crop,
)
from patchit_hf.data.parse27k_database import CLASSES, SITTING
from patchit_hf.downstream import create_downstream

WIDTH, HEIGHT = 640, 480
# Pedestrian: sequence, file, box, and codes that differ from 1 (N/A).
PEOPLE = {
    1: (1, "a.png", (300, 100, 360, 228), {"Orientation": 4, "Orientation8": 8, "Gender": 2}),
    2: (1, "a.png", (0, 200, 40, 480), {"HasBagInHandLeft": 2, "HasBagInHandRight": 3}),
    3: (5, "b.png", (10, 20, 90, 220), {"Posture": 4}),
    4: (2, "c.png", (600, 0, 640, 100), {"Posture": 3, "isPushing": 3}),
    5: (6, "d.png", (100, 100, 164, 228), {"Posture": 2, "HasTrolley": 2}),
}


def scene():
    """Return an image whose red is x / 4 and whose green is y / 2."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x // 4, y // 2, np.full_like(x, 99)], -1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Make a database with the tables of the original, and the images that it lists."""
    root = tmp_path / "parse"
    root.mkdir()
    base = sqlite3.connect(root / "annotations.sqlite3")
    attributes = ", ".join(f"{name}ID INTEGER" for name in CLASSES)
    base.executescript(
        f"""
        CREATE TABLE Sequence (sequenceID INTEGER PRIMARY KEY, directory TEXT);
        CREATE TABLE Image (imageID INTEGER PRIMARY KEY, filename TEXT, sequenceID INTEGER);
        CREATE TABLE AttributeSet (attributeSetID INTEGER PRIMARY KEY, {attributes});
        CREATE TABLE Pedestrian (pedestrianID INTEGER PRIMARY KEY, imageID INTEGER,
            attributeSetID INTEGER, box_min_x INTEGER, box_min_y INTEGER, box_max_x INTEGER,
            box_max_y INTEGER);
        """
    )
    images = {}
    for person, (sequence, file, box, codes) in PEOPLE.items():
        if file not in images:
            images[file] = len(images) + 1
            (root / f"sequences/ids{sequence}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene()).save(root / f"sequences/ids{sequence}" / file)
            base.execute(
                "INSERT OR IGNORE INTO Sequence VALUES (?, ?)", (sequence, f"ids{sequence}")
            )
            base.execute("INSERT INTO Image VALUES (?, ?, ?)", (images[file], file, sequence))
        values = [person + 100, *(codes.get(name, 1) for name in CLASSES)]
        base.execute(f"INSERT INTO AttributeSet VALUES ({', '.join('?' * len(values))})", values)
        base.execute(
            "INSERT INTO Pedestrian VALUES (?, ?, ?, ?, ?, ?, ?)",
            (person, images[file], person + 100, *box),
        )
    base.commit()
    base.close()
    return root


def test_splits_classes_and_columns(folder):
    splits = load_parse27k(folder)
    people = {name: split["person_id"][:] for name, split in splits.items()}
    assert people == {"train": [1, 2], "validation": [4], "test": [5]}  # without sitting people
    train = splits["train"]
    assert train["sequence"][:] == [1, 1]
    assert train["file"][:] == ["sequences/ids1/a.png"] * 2
    assert train["box"][0] == [300.0, 100.0, 360.0, 228.0]
    first, second = (train[i] for i in range(2))
    assert first["Orientation"] == 3
    assert train.features["Orientation"].int2str(3) == "left"
    assert train.features["Orientation8"].int2str(first["Orientation8"]) == "left"
    assert train.features["Gender"].int2str(first["Gender"]) == "male"
    assert (second["HasBagInHandLeft"], second["HasBagInHandRight"]) == (1, 2)
    others = set(CLASSES) - {"Orientation", "Orientation8", "Gender"}
    assert all(first[name] == 0 for name in others)
    standing, walking = splits["validation"][0], splits["test"][0]
    assert (standing["Posture"], walking["Posture"]) == (1, 2)
    assert (standing["isPushing"], walking["HasTrolley"]) == (2, 1)
    with_sitting = load_parse27k(folder, sitting=True)["train"]
    assert with_sitting["person_id"][:] == [1, 2, 3]
    assert with_sitting["Posture"][2] == SITTING


def test_labels_that_are_not_there_as_finetuning_wants_them(folder):
    train = load_parse27k(folder, missing=True)["train"]
    assert train["HasBagInHandLeft"][:] == [-1, 1]
    assert train["HasBagInHandRight"][:] == [-1, 0]
    assert train["Gender"][:] == [1, -1]
    assert train.features["Gender"].names == ["female", "male"]  # male is the positive class
    assert train.features["Orientation"].int2str(train["Orientation"][0]) == "left"
    assert train["Posture"][:] == [-1, -1]


def test_crops_show_the_box_and_its_surroundings(folder):
    train = load_parse27k(folder)["train"]
    crop = np.asarray(train[0]["image"]).astype(int)
    assert crop.shape == (192, 128, 3)
    # 128 px high: not scaled. Its centre is 330, 164; half of the crop is 64 x 96.
    expected = scene()[164 - 96 : 164 + 96, 330 - 64 : 330 + 64].astype(int)
    assert np.abs(crop - expected).max() <= 1
    bare = load_parse27k(folder, padding=0)["train"][0]["image"]
    assert np.abs(np.asarray(bare) - expected[32:-32, 32:-32]).max() <= 1


def test_the_edge_is_repeated_where_a_crop_leaves_the_picture(folder):
    crop = np.asarray(load_parse27k(folder)["train"][1]["image"]).astype(int)
    # The box 0..40 x 200..480 is scaled by 128 / 280; its centre is 20, 340.
    scale = 280 / 128
    x = np.clip(20 + (np.arange(128) + 0.5 - 64) * scale, 0, WIDTH - 1)
    y = np.clip(340 + (np.arange(192) + 0.5 - 96) * scale, 0, HEIGHT - 1)
    assert np.abs(crop[:, :, 0] - x / 4).max() <= 1.5
    assert np.abs(crop[:, :, 1] - (y / 2)[:, None]).max() <= 1.5
    assert (crop[:, :, 2] == 99).all()
    assert (crop[:, :40, 0] <= 1).all()  # the repeated left edge
    assert (crop[-30:, :, 1] == crop[-1, 0, 1]).all()


def test_any_crop_is_that_of_a_picture_padded_all_around():
    """Compare with the simple way: pad the whole image by a lot, then cut."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(
        rng.integers(0, 256, (60, 80, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    )
    wide = Image.fromarray(
        np.pad(np.asarray(picture), [(500, 500), (500, 500), (0, 0)], mode="edge")
    )
    for _ in range(20):
        x, y = rng.uniform(-20, 300), rng.uniform(-20, 220)
        w, h = rng.uniform(5, 60), rng.uniform(10, 200)
        crop = np.asarray(padded_crop(picture, [x, y, x + w, y + h], (32, 16), 8)).astype(int)
        box = [x + 500, y + 500, x + w + 500, y + h + 500]
        plain = np.asarray(padded_crop(wide, box, (32, 16), 8)).astype(int)
        assert np.abs(crop - plain).max() <= 4  # positions are rounded in Pillow


def test_mirroring_swaps_sides_and_directions():
    labels = {name: 0 for name in CLASSES}
    labels |= {"Orientation": 3, "Orientation8": 2, "HasBagInHandLeft": 1, "HasBagInHandRight": 2,
               "HasBagOnShoulderLeft": 0, "HasBagOnShoulderRight": 1, "Gender": 1,
               "Posture": 2, "person_id": 7}  # fmt: skip
    mirrored = mirror_labels(labels)
    assert CLASSES["Orientation"][mirrored["Orientation"]] == "right"
    assert CLASSES["Orientation8"][mirrored["Orientation8"]] == "front-left"
    assert (mirrored["HasBagInHandLeft"], mirrored["HasBagInHandRight"]) == (2, 1)
    assert (mirrored["HasBagOnShoulderLeft"], mirrored["HasBagOnShoulderRight"]) == (1, 0)
    unchanged = {"Gender", "Posture", "HasTrolley", "HasBackpack", "isPushing", "person_id"}
    assert all(mirrored[name] == labels[name] for name in unchanged)
    assert mirror_labels(mirrored) == labels
    with pytest.raises(InputError, match="HasBagInHandLeft becomes HasBagInHandRight"):
        mirror_labels({"HasBagInHandLeft": 1})


@pytest.mark.parametrize("name", MIRRORED_CLASSES)
def test_a_direction_becomes_the_one_that_its_name_says(name):
    swap = {"left": "right", "right": "left"}
    for number, word in enumerate(CLASSES[name]):
        other = "-".join(swap.get(part, part) for part in word.split("-"))
        assert CLASSES[name][MIRRORED_CLASSES[name][number]] == other


def test_boxes_and_crops_for_pretraining_are_of_the_same_people(folder, tmp_path):
    found = read_detections(folder / "annotations.sqlite3")
    make_crops(found, folder, tmp_path / "crops", CropOptions())
    rows = datasets.load_dataset(str(tmp_path / "crops"))
    assert set(rows) <= {"train", "validation", "test"}
    labelled = load_parse27k(folder, sitting=True)
    for name, split in rows.items():
        assert set(split["row"][:]) <= set(labelled[name]["person_id"][:])


def test_the_command_writes_what_finetuning_reads(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(folder), str(out)]) == 0
    assert "train: 2 crops" in capsys.readouterr().err
    read = datasets.load_dataset(str(out))
    assert {name: len(split) for name, split in read.items()} == {
        "train": 2, "validation": 1, "test": 1,
    }  # fmt: skip
    assert read["train"][0]["image"].size == (128, 192)
    assert read["train"]["HasBagInHandLeft"][:] == [-1, 1]
    assert main([str(folder), str(out)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_an_interrupted_command_leaves_nothing(folder, tmp_path, capsys, monkeypatch):
    write = datasets.Dataset.to_parquet

    def interrupted(split, path):
        write(split, path)
        raise KeyboardInterrupt

    out = tmp_path / "new" / "labelled"
    with monkeypatch.context() as context:
        context.setattr(datasets.Dataset, "to_parquet", interrupted)
        assert main([str(folder), str(out)]) == 130
    assert "repeat the command to start over" in capsys.readouterr().err
    assert list(out.parent.iterdir()) == []
    assert main([str(folder), str(out)]) == 0


def test_the_papers_two_evaluations(folder):
    """Classification counts N/A as a class; retrieval leaves it out and ranks the positives."""
    train = load_parse27k(folder, missing=True)["train"]
    names = ["Orientation", "Gender", "HasBagInHandLeft", "HasBagInHandRight"]
    task = create_downstream("attributes", train, columns=names, softmax=True, na="class")
    assert task.outputs == [5, 3, 3, 3]
    targets = torch.tensor([[2, 1, 1, 0], [2, 0, 1, -1], [0, 1, 0, -1], [-1, 0, 0, 1]])
    parts = [
        torch.nn.functional.one_hot(torch.where(targets[:, i] < 0, n - 1, targets[:, i]), n)
        for i, n in enumerate(task.outputs)
    ]
    perfect = torch.cat(parts, 1).float()
    summary = task.measure(perfect, targets).summary
    assert summary == {"class_accuracy": 1.0, "mber": 0.0, "class_map": 1.0}
    # One gender of four is wrong, and is ranked above a correct one.
    wrong = perfect.clone()
    wrong[1, 5:8] = torch.tensor([0.0, 1.0, 0.0])
    summary = task.measure(wrong, targets).summary
    assert summary["class_accuracy"] == pytest.approx((3 + 0.75) / 4)
    assert summary["mber"] == pytest.approx((0.5 + 0) / 2 / 4)
    assert summary["class_map"] < 1
    mirrored = task.mirrored(targets[:1])
    assert mirrored.tolist() == [[3, 1, 0, 1]]


def _change(folder, statement):
    base = sqlite3.connect(folder / "annotations.sqlite3")
    base.execute(statement)
    base.commit()
    base.close()


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("UPDATE AttributeSet SET GenderID = 7", "pedestrian 1: Gender has code 7; must be 1 to 3"),
        ("UPDATE AttributeSet SET GenderID = NULL", "Gender has code None"),
        ("DELETE FROM Pedestrian", "holds no pedestrian"),
        ("INSERT INTO Sequence VALUES (9, 'x')", None),
        ("UPDATE Pedestrian SET box_max_y = 0", r"pedestrian 1: box .*: its second corner must be"),
        (
            "ALTER TABLE AttributeSet DROP COLUMN PostureID",
            "is not the PARSE-27k database: no such",
        ),
    ],
)
def test_what_has_no_meaning_is_named(folder, statement, line):
    _change(folder, statement)
    if line is None:
        _change(folder, "UPDATE Image SET sequenceID = 9")
        line = r"sequence 9: must be one of \[1, 2, 3, 4, 5, 6, 7, 8\]"
    with pytest.raises(InputError, match=line):
        load_parse27k(folder)


def test_a_bad_picture_is_named(folder, tmp_path):
    (folder / "sequences/ids1/a.png").write_bytes(b"")
    line = r"pedestrian 1: image sequences/ids1/a.png: the file is empty"
    with pytest.raises(InputError, match=line):
        load_parse27k(folder)
    with pytest.raises(InputError, match=r"is not PARSE-27k: it has no annotations\.sqlite3"):
        load_parse27k(tmp_path)


def test_a_changed_data_base_is_read_again(folder):
    assert load_parse27k(folder)["train"]["Gender"][0] == 1
    _change(folder, "UPDATE AttributeSet SET GenderID = 3")
    assert load_parse27k(folder)["train"]["Gender"][0] == 2
