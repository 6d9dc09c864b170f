"""Which rows are held out together, whatever the column of people or sources holds."""

import datasets
import pytest

from patchit_hf.data.held_out import hold_out, hold_out_stream
from patchit_hf.data.source import load_crops
from tests.conftest import make_crops

NAN = float("nan")


def rows_of(keys, column="source"):
    data = {"image": make_crops(len(keys)), column: keys}
    return datasets.Dataset.from_dict(data).cast_column("image", datasets.Image())


KEYS = {
    "lists": [[f"video {i // 4}"] for i in range(40)],
    "structs": [{"url": f"site {i // 4}", "page": 1} for i in range(40)],
    "words": [f"video {i // 4}" for i in range(40)],
    "numbers": [i // 4 for i in range(40)],
    "floats": [float(i // 4) for i in range(40)],
}


@pytest.mark.parametrize("kind", KEYS)
def test_whole_groups_are_held_out(kind, tmp_path):
    rows_of(KEYS[kind]).save_to_disk(str(tmp_path / "d"))
    crops = load_crops(str(tmp_path / "d"))
    assert crops.held_out_from == "10 % of the training split, by source"
    held, train = crops.held_out["source"][:], crops.train["source"][:]
    assert len(held) == 4
    assert not [key for key in held if key in train]
    assert held == [held[0]] * 4
    again = load_crops(str(tmp_path / "d"))  # from the cache
    assert again.held_out["source"][:] == held
    assert again.train._fingerprint == crops.train._fingerprint


@pytest.mark.parametrize("nobody", ["-1", "", "unknown", None])
def test_rows_of_nobody_are_groups_of_their_own(nobody):
    keys = [nobody] * 30 + ["ann"] * 5 + ["bob"] * 5
    train, held, words = hold_out(rows_of(keys, "person_id"), "x")
    assert words == "10 % of the training split, by person_id"
    assert len(held) <= 9  # all of nobody's rows are 30
    assert len(train) + len(held) == 40
    both = {"ann", "bob"} & set(train["person_id"]) & set(held["person_id"])
    assert not both


def test_a_blank_among_numbers():
    keys = [NAN] * 30 + [-1.0] * 4 + [1.0] * 3 + [2.0] * 3
    _, held, _ = hold_out(rows_of(keys, "person_id"), "x")
    assert len(held) <= 6


def test_other_rows_have_another_fingerprint(tmp_path):
    rows_of(["-1"] * 10 + ["ann"] * 10, "person_id").save_to_disk(str(tmp_path / "d"))
    rows = datasets.load_from_disk(str(tmp_path / "d"))
    train, held, _ = hold_out(rows, "x")
    again, once_more, _ = hold_out(rows, "x")
    assert (train._fingerprint, held._fingerprint) == (again._fingerprint, once_more._fingerprint)
    assert train["person_id"][:] == again["person_id"][:]
    words = rows_of(["cid"] * 10 + ["ann"] * 10, "person_id")
    assert hold_out(words, "x")[0]._fingerprint != train._fingerprint


def test_nobody_in_a_stream_is_told_by_the_image():
    rows = rows_of(["-1"] * 60, "person_id").to_iterable_dataset()
    train, held, _ = hold_out_stream(rows, "image")
    assert len(list(train)) + len(list(held)) == 60
    assert len(list(held)) > 0
