"""Label columns: what they hold, how they are numbered, and what a mirror makes of them."""

import datasets
import pytest
import torch

from patchit_hf.common.errors import InputError
from patchit_hf.downstream.attribute_columns import survey
from patchit_hf.downstream.columns import other_side, swapped
from patchit_hf.downstream.labels import read_column


@pytest.fixture
def rows():
    features = datasets.Features(
        {
            "hat": datasets.ClassLabel(names=["no", "yes"]),
            "view": datasets.ClassLabel(names=["front", "left", "right"]),
            "bag": datasets.Value("int8"),
            "wet": datasets.Value("bool"),
            "town": datasets.Value("string"),
            "age": datasets.Value("int64"),
            "person_id": datasets.Value("int64"),
            "camera": datasets.Value("int64"),
            "weight": datasets.Value("float32"),
        }
    )
    return datasets.Dataset.from_dict(
        {
            "hat": [0, 1, -1], "view": [2, 1, 0], "bag": [1, 0, -1], "wet": [True, False, None],
            "town": ["b", "a", None], "age": [30, 20, 30], "person_id": [0, 1, 1],
            "camera": [0, 1, 0], "weight": [1.5, 2.0, 3.0],
        },
        features=features,
    )  # fmt: skip


def test_attributes_are_found(rows):
    assert [column.name for column in survey(rows)[0]] == ["hat", "view", "bag", "wet"]


@pytest.mark.parametrize(
    ("name", "classes", "numbers"),
    [
        ("hat", ["no", "yes"], [0, 1, -1]),
        ("view", ["front", "left", "right"], [2, 1, 0]),
        ("bag", ["no", "yes"], [1, 0, -1]),
        ("wet", ["no", "yes"], [1, 0, -1]),
        ("town", ["a", "b"], [1, 0, -1]),
        ("age", ["20", "30"], [1, 0, 1]),
    ],
)
def test_columns_are_numbered(rows, name, classes, numbers):
    column = read_column(rows, name)
    assert column.classes == classes
    assert column.encode(rows).tolist() == numbers
    assert column.encode(rows).dtype == torch.int64


def test_a_class_that_training_had_not(rows):
    column = read_column(rows, "town")
    other = datasets.Dataset.from_dict({"town": ["a", "c"]})
    with pytest.raises(InputError, match=r"'town', row 1: 'c' is none of the classes"):
        column.encode(other)


@pytest.mark.parametrize(
    ("name", "words"), [("nose", "no.* of that name|none of that name"), ("weight", "holds float")]
)
def test_columns_that_are_no_labels(rows, name, words):
    with pytest.raises(InputError, match=words):
        read_column(rows, name)


def test_sides():
    assert other_side("bag_left") == "bag_right"
    assert other_side("HasBagInHandRight") == "HasBagInHandLeft"
    assert other_side("left") == "right"
    assert other_side("left ankle") == "right ankle"
    assert other_side("leftover") == "leftover"
    assert other_side("brightness") == "brightness"
    assert swapped(["front", "left", "right", "hat_left"]) == [0, 2, 1, 3]
