"""A folder is reopened from its note, and changes of it are noticed."""

import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchit_hf.data import opened, source
from patchit_hf.data.source import load_crops
from patchit_hf.data.store import open_crops

LISTED = []  # the folders that were listed while WATCHING
WATCHING = [False]


def _hook(event, args):
    if WATCHING[0] and event in ("os.scandir", "os.listdir"):
        LISTED.append(str(args[0]))


sys.addaudithook(_hook)  # a hook cannot be removed; it does nothing unless WATCHING


def _picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 10, 3), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Make images in two folders and two splits."""
    for i in range(24):
        _picture(
            tmp_path / f"data/{'train' if i % 4 else 'validation'}/{'ab'[i % 2]}/{i:02}.png", i
        )
    return tmp_path / "data"


def _shown(splits):
    return {
        name: sorted(int(np.asarray(image)[0, 0, 0]) for image in split["image"])
        for name, split in splits.items()
    }


def _open(folder):
    """Open a folder, and say whether its files were listed."""
    LISTED.clear()
    WATCHING[0] = True
    try:
        splits = source.open_splits(str(folder))
    finally:
        WATCHING[0] = False
    return splits, any(str(folder) in path for path in LISTED)


def test_the_second_time_no_folder_is_listed(folder):
    first, listed = _open(folder)
    assert listed
    second, listed = _open(folder)
    assert not listed
    assert list(second) == list(first) == ["train", "validation"]
    for name, split in first.items():
        again = second[name]
        assert again._fingerprint == split._fingerprint
        assert again.features == split.features
        assert again.split == split.split
        assert again[:]["label"] == split[:]["label"]
    assert _shown(second) == _shown(first)
    assert second["train"].info.features == first["train"].info.features


def _add(folder):
    _picture(folder / "train/a/99.png", 99)


def _add_a_folder(folder):
    _picture(folder / "train/c/99.png", 99)


def _take_away(folder):
    (folder / "train/b/01.png").unlink()


def _overwrite(folder):
    time.sleep(0.02)
    _picture(folder / "train/b/01.png", 200)


CHANGES = [_add, _add_a_folder, _take_away, _overwrite]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(folder, change):
    before = _shown(_open(folder)[0])
    change(folder)
    splits, listed = _open(folder)
    assert listed
    after = _shown(splits)
    assert after != before
    assert sum(map(len, after.values())) == len(list(folder.rglob("*.png")))


@pytest.mark.parametrize("change", CHANGES)
def test_of_many_pictures_only_folders_are_looked_at(folder, change, monkeypatch):
    monkeypatch.setattr(opened, "FILES", 5)
    before = _shown(_open(folder)[0])
    change(folder)
    splits, listed = _open(folder)
    assert listed == (change is not _overwrite)
    assert _shown(splits) != before  # an overwritten image is read anew


def test_a_changed_parquet_file_is_seen(tmp_path, crops, crop_folder):
    first = load_crops(crop_folder)
    assert _open(crop_folder)[1] is False
    crops.select(range(30)).to_parquet(f"{crop_folder}/train-00000-of-00001.parquet")
    again = load_crops(crop_folder)
    assert len(first.train) + len(first.held_out) == 40
    assert len(again.train) + len(again.held_out) == 30


def test_held_out_crops_and_decoded_ones_are_found_again(crop_folder):
    first = load_crops(crop_folder)
    one = open_crops(first.train, "image", (40, 20), "squash")
    cache = sorted(p.name for p in opened._note(Path(crop_folder)).parent.iterdir())
    second = load_crops(crop_folder)
    two = open_crops(second.train, "image", (40, 20), "squash")
    assert sorted(p.name for p in opened._note(Path(crop_folder)).parent.iterdir()) == cache
    assert second.held_out["person_id"][:] == first.held_out["person_id"][:]
    assert second.train["person_id"][:] == first.train["person_id"][:]
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize("damage", ["note", "table"])
def test_what_is_damaged_is_made_anew(crop_folder, damage):
    splits, _ = _open(crop_folder)
    note = opened._note(Path(crop_folder))
    if damage == "note":
        note.write_text(note.read_text()[:50])
    else:
        shutil.rmtree(Path(splits["train"].cache_files[0]["filename"]).parent)
    again, listed = _open(crop_folder)
    assert listed
    assert len(again["train"]) == 40


def test_a_link_to_a_folder_above_is_no_end(tmp_path):
    _picture(tmp_path / "a/1.png", 1)
    (tmp_path / "a/up").symlink_to(tmp_path)
    assert opened.look(tmp_path)["count"] == 1


def test_a_data_set_in_memory_is_not_remembered(tmp_path, crops):
    opened.remember(tmp_path, opened.look(tmp_path), {"train": crops})
    assert opened.recall(tmp_path) is None


def test_looking_takes_no_list_of_all_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(opened, "FILES", 10)
    for i in range(40):
        _picture(tmp_path / f"a/{i}.png", i)
    (tmp_path / "metadata.csv").write_text("-")
    seen = opened.look(tmp_path)
    assert seen["count"] == 41
    assert list(seen["files"]) == ["metadata.csv"]
    assert set(seen["directories"]) == {"", "a"}
