"""The index of a large folder of plain images equals what datasets makes of it."""

import zipfile

import datasets
import numpy as np
import pytest
from PIL import Image

from patchit_hf.data import opened, source
from patchit_hf.data.picture_index import index_pictures

LAYOUTS = {
    "flat": ["b.png", "a.jpg", "c d.PNG"],
    "classes": ["cat/1.png", "cat/0.png", "ant/7.png"],
    "splits": ["train/1.png", "train/0.png", "validation/2.png", "test/3.png"],
    "splits by other names": ["training/1.png", "val/2.png", "eval/3.png"],
    "splits and classes": ["train/b/1.png", "train/a/0.png", "validation/a/2.png"],
    "levels": ["a/1.png", "b/c/2.png"],
    "one folder": ["people/1.png", "people/0.png"],
    "hidden": ["a/1.png", "b/2.png", ".thumbs/3.png", "a/.4.png"],
    "names of persons": ["0001_c1/1.png", "0002_c1/2.png", "0001_c1/10.png"],
    "other files": ["a.png", "b.png", "README.md", "Thumbs.db", "labels.csv", "run.log", "LICENSE"],
    "other files in classes": ["cat/0.png", "cat/note.txt", "ant/7.png", "ant/8.png"],
    "other files beside splits": ["train/1.png", "train/0.png", "val/2.png", "train.txt", "a.json"],
    "other files in splits": ["train/1.png", "train/0.png", "train/a.xml", "test/3.png", "b.xml"],
    "a folder of others": ["a.png", "b.png", "boxes/a.txt"],
    "endings of two kinds": ["a.png", "b.png", "c.jpg", "a.txt"],
}
OTHERS = {
    "a table": ["a.png", "metadata.csv"],
    "a header": ["a.png", "b.png", "README.md with a header"],
    "archives": ["a.png", "b.png", "more.zip"],
    "words in names": ["train_1.png", "test_1.png"],
    "words deeper down": ["data/train/1.png", "data/val/1.png"],
}


def _make(folder, names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(" with a header"):
            header = "---\nconfigs:\n- config_name: default\n  data_files: a.png\n---\n"
            (folder / name.removesuffix(" with a header")).write_text(header)
        elif name.endswith(".zip"):
            with zipfile.ZipFile(folder / name, "w") as archive:
                archive.write(folder / "a.png", "c.png")
        elif not name.lower().endswith((".png", ".jpg")):
            (folder / name).write_text("file_name,n\na.png,1\n")
        else:
            Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(folder / name)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_what_datasets_makes_of_it(tmp_path, layout):
    folder = _make(tmp_path / "pictures", LAYOUTS[layout])
    theirs = datasets.load_dataset(str(folder))
    ours = index_pictures(folder, "state")
    assert list(ours) == list(theirs)
    for name, split in theirs.items():
        if "splits" in layout and "classes" not in layout:
            split = split.remove_columns("label")  # datasets takes the splits for classes
        assert ours[name].features == split.features
        assert ours[name].split == split.split
        bare = datasets.Image(decode=False)
        expected = split.cast_column("image", bare)[:]
        assert ours[name].cast_column("image", bare)[:] == expected
        assert ours[name][0]["image"].size == (9, 9)


@pytest.mark.parametrize("layout", OTHERS)
def test_what_is_not_plain_is_left_to_datasets(tmp_path, layout):
    folder = _make(tmp_path / "pictures", OTHERS[layout])
    assert index_pictures(folder, "state") is None
    assert not (tmp_path / "hf-datasets" / "patchit_hf").exists()


@pytest.mark.parametrize("others", [[], ["notes.txt", "train/b/labels.json"]])
def test_a_large_folder_is_opened_by_it_and_found_again(tmp_path, monkeypatch, others):
    monkeypatch.setattr(opened, "FILES", 2)
    folder = _make(tmp_path / "pictures", LAYOUTS["splits and classes"] + others)
    first = source.open_splits(str(folder))
    assert "pictures-" in first["train"].cache_files[0]["filename"]
    again = source.open_splits(str(folder))
    for name in first:
        assert again[name]._fingerprint == first[name]._fingerprint
        assert again[name].features == first[name].features
        assert again[name][:]["label"] == first[name][:]["label"]
    Image.new("RGB", (9, 9)).save(folder / "train/a/9.png")
    changed = source.open_splits(str(folder))
    assert len(changed["train"]) == 3
    assert changed["train"]._fingerprint != first["train"]._fingerprint
