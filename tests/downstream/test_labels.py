"""Labels are compared by name, and what a value means is read from it."""

import json
import logging

import datasets
import pytest

from patchit_hf.common.errors import InputError
from patchit_hf.downstream import create_downstream
from patchit_hf.downstream.action import Task as Action
from patchit_hf.downstream.attribute_columns import choose_columns
from patchit_hf.downstream.labels import read_column

NAN = float("nan")


def rows_of(values, feature=None, name="action"):
    features = datasets.Features({name: feature}) if feature is not None else None
    return datasets.Dataset.from_dict({name: values}, features=features)


def classes(*names):
    return datasets.ClassLabel(names=list(names))


@pytest.fixture
def trained():
    return read_column(rows_of([0, 1, 2], classes("run", "sit", "walk")), "action")


@pytest.mark.parametrize(
    ("values", "feature", "expected"),
    [
        ([0, 1, 1], classes("sit", "walk"), [1, 2, 2]),  # a folder that lacks a class
        ([0, 1, 2], classes("walk", "sit", "run"), [2, 1, 0]),  # another order
        (["walk", " run", None, ""], None, [2, 0, -1, -1]),
        ([-1, 0], classes("sit", "walk"), [-1, 1]),
    ],
)
def test_classes_are_compared_by_name(trained, values, feature, expected):
    assert trained.encode(rows_of(values, feature)).tolist() == expected


def test_a_class_without_rows_is_no_error(trained):
    rows = rows_of([3, 1], classes("fly", "sit", "swim", "walk"))
    assert trained.encode(rows).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("values", "feature", "message"),
    [
        (
            [1, 0],
            classes("fly", "sit"),
            "column 'action', row 1: 'fly' is none of the classes that were trained (run, sit, "
            "walk); the data set has fly, sit",
        ),
        (
            ["sit", "jump"],
            None,
            "column 'action', row 1: 'jump' is none of the classes that were trained (run, sit, "
            "walk); the data set has jump, sit",
        ),
        (
            [0, 1],
            None,
            "column 'action', row 0: '0' is none of the classes that were trained (run, sit, "
            "walk); the data set has 0, 1",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_both_lists(trained, values, feature, message):
    with pytest.raises(InputError) as error:
        trained.encode(rows_of(values, feature))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("values", "feature"),
    [
        ([True, False, None], None),
        ([1.0, 0.0, NAN], None),
        ([1, 0, -1], None),
        (["yes", "no", "unknown"], None),
        (["True", "FALSE", ""], None),
        (["1", "0", "-1"], None),
        ([0, 1, -1], classes("yes", "no")),
        ([1, 0, None], classes("False", "True")),
    ],
)
def test_yes_and_no_are_the_same_however_they_are_written(values, feature):
    written = rows_of(values, feature, "hat")
    asked = read_column(rows_of([True, False], name="hat"), "hat")
    assert asked.encode(written).tolist() == [1, 0, -1]
    own = read_column(written, "hat")
    assert own.binary
    assert own.encode(written).tolist() == [1, 0, -1]
    assert own.encode(rows_of([True, False], name="hat")).tolist() == [1, 0]


def test_numbers_with_a_blank_are_the_same_classes():
    column = read_column(rows_of([3, 5, 7]), "action")
    assert column.encode(rows_of([7.0, NAN, 3.0])).tolist() == [2, -1, 0]
    assert read_column(rows_of([7.0, NAN, 3.0, 5.0]), "action") == column


def test_records_hold_what_they_held():
    task = create_downstream("attributes", rows_of([True, False], name="hat"))
    assert task.kwargs["columns"] == [{"name": "hat", "classes": ["no", "yes"], "values": [0, 1]}]
    old = {"column": {"name": "action", "classes": ["a", "b"], "values": [0, 1]}, "smoothing": 0.1}
    assert Action.from_kwargs(old).kwargs == old


@pytest.mark.parametrize("task", ["action", "attributes"])
def test_a_class_label_with_one_class(task):
    words = "columns" if task == "attributes" else "column"
    given = ["action"] if task == "attributes" else "action"
    with pytest.raises(InputError) as error:
        create_downstream(task, rows_of([0, 0], classes("sit")), **{words: given})
    assert str(error.value) == "column 'action': has one class (sit); a label has at least 2"


@pytest.fixture
def table():
    return datasets.Dataset.from_dict(
        {
            "hat": [0, 1, 0, 1],
            "bag": [0.0, 1.0, NAN, 1.0],
            "coat": [0, 1, 2, 1],
            "male": ["yes", "no", "", "no"],
            "skirt": [True, None, False, True],
            "height": [1.5, 1.7, 1.8, 1.6],
            "town": ["Rome", "Oslo", "Bonn", "Lima"],
            "age": [20, 30, 40, 50],
            "person_id": [1, 1, 2, 2],
        }
    )


def test_what_is_meant_is_read_and_the_rest_is_named(table, caplog):
    with caplog.at_level(logging.INFO, "patchit_hf"):
        task = create_downstream("attributes", table)
    assert task.label_names == ["hat", "bag", "coat", "male", "skirt"]
    assert task.targets(table).tolist() == [
        [0, 0, 0, 1, 1], [1, 1, 1, 0, -1], [0, -1, -1, -1, 0], [1, 1, 1, 0, 1],
    ]  # fmt: skip
    assert [record.getMessage() for record in caplog.records] == [
        "coat: holds 0, 1 and 2; 2 is taken for unknown, as in PETA and RAP. If it is a third "
        "class, name the column in --task-kwargs columns=[...]",
        "attributes: 5 columns are learnt (hat, bag, coat, male, skirt); left out: height (holds "
        "float, such as 1.5); town (holds words (Bonn, Lima, Oslo, ...); name it in columns=[...] "
        "to learn their classes); age (holds numbers (20, 30, 40, ...); name it in columns=[...] "
        "to learn them as classes); person_id (names people, cameras, sources or classes of "
        "another task)",
    ]
    again = type(task).from_kwargs(json.loads(json.dumps(task.kwargs)))
    assert again.targets(table).tolist() == task.targets(table).tolist()


def test_a_named_column_of_three_numbers_has_three_classes(table, caplog):
    task = create_downstream("attributes", table, columns=["coat"])
    assert task.label_names == ["coat=0", "coat=1", "coat=2"]
    assert caplog.messages == [
        "coat: 0, 1 and 2 are three classes; if 2 means unknown, give --task-kwargs unknown=2"
    ]
    task = create_downstream("attributes", table, columns="coat", unknown=2)
    assert (task.label_names, task.targets(table)[:, 0].tolist()) == (["coat"], [0, 1, -1, 1])


def test_a_blank_does_not_refuse_a_named_column(table):
    task = create_downstream("attributes", table, columns=["hat", "bag"])
    assert task.targets(table).tolist() == [[0, 0], [1, 1], [0, -1], [1, 1]]


@pytest.fixture
def vectors():
    return datasets.Dataset.from_dict({"attrs": [[0, 1, 1], [1, 0, -1], None]})


def test_a_vector_is_a_column_for_each_entry(vectors):
    task = create_downstream("attributes", vectors, columns=["attrs"], names=["hat", "bag", "male"])
    assert task.label_names == ["hat", "bag", "male"]
    assert task.targets(vectors).tolist() == [[0, 1, 1], [1, 0, -1], [-1, -1, -1]]
    again = type(task).from_kwargs(json.loads(json.dumps(task.kwargs)))
    assert again.targets(vectors).tolist() == task.targets(vectors).tolist()
    apart = datasets.Dataset.from_dict({"male": [1], "bag": [0], "hat": [1]})
    assert again.targets(apart).tolist() == [[1, 0, 1]]  # by name


def test_the_entries_of_a_vector_without_names(vectors, caplog):
    assert [c.name for c in choose_columns(vectors, ["attrs"])] == [
        "attrs[0]", "attrs[1]", "attrs[2]",
    ]  # fmt: skip
    assert caplog.messages == [
        "attrs: its 3 entries are called attrs[0] to attrs[2]; --task-kwargs names=[...] names them"
    ]
    with pytest.raises(InputError) as error:
        choose_columns(vectors, ["attrs"], ["hat", "bag"])
    assert str(error.value) == (
        "names=['hat', 'bag'] in --task-kwargs: has 2 names; a vector of column 'attrs' has 3 "
        "entries"
    )
    with pytest.raises(InputError) as error:
        choose_columns(vectors)
    assert str(error.value) == (
        "--task attributes: no label column; name some: columns=[a, b] (attrs: holds vectors of 3 "
        "entries; name them with names=[...])"
    )
