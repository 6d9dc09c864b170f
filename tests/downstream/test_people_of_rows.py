"""Who is on a row: numbers, words and blanks, alike in every split."""

import datasets
import pytest
import torch

from patchit_hf.common.errors import InputError
from patchit_hf.downstream import create_downstream
from patchit_hf.finetune.labelled import open_labelled
from patchit_hf.training.arguments import LoopArguments
from tests.conftest import make_crops

NAN = float("nan")


def rows_of(people, feature=None, **columns):
    features = None
    if feature is not None:
        columns.setdefault("camera", [0] * len(people))
        features = datasets.Features({"person_id": feature, "camera": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"person_id": people, **columns}, features=features)


@pytest.mark.parametrize(
    "people",
    [
        [7, 7, -1, -1, None],
        [7.0, 7.0, -1.0, NAN, None],
        ["ann", "ann", "-1", "", None],
        ["ann", "ann", " ", "NaN", "unknown"],
    ],
)
def test_nobody_is_no_person(people):
    rows = rows_of(people)
    targets = create_downstream("reid", rows).targets(rows)
    assert targets[0, 0] == targets[1, 0] > 0
    assert targets[2:, 0].tolist() == [-1, -1, -1]


def test_a_blank_does_not_rename_people():
    whole, blank = rows_of([3, 5]), rows_of([5.0, NAN])
    task = create_downstream("reid", whole)
    assert task.targets(blank)[0, 0] == task.targets(whole)[1, 0]


def test_cameras_with_a_blank():
    rows = rows_of([1, 1, 2], camera=[2.0, NAN, 4.0])
    assert create_downstream("reid", rows).targets(rows)[:, 1].tolist() == [2, -1, 4]
    rows = rows_of([1, 1, 2], camera=["a", "", "-1"])
    assert create_downstream("reid", rows).targets(rows)[1:, 1].tolist() == [-1, -1]


def test_classes_of_two_data_sets_are_compared_by_name():
    query = rows_of([0, 1, -1], datasets.ClassLabel(names=["ann", "bob"]))
    gallery = rows_of([0, 1, 2], datasets.ClassLabel(names=["bob", "cid", "ann"]))
    task = create_downstream("reid", query).by_name()
    ann, bob, nobody = task.targets(query)[:, 0].tolist()
    assert task.targets(gallery)[:, 0].tolist()[::2] == [bob, ann]
    assert nobody == -1
    assert task.targets(rows_of(["bob", "ann"]))[:, 0].tolist() == [bob, ann]


def test_a_number_in_text_is_that_number_in_another_data_set():
    task = create_downstream("reid", rows_of([12])).by_name()
    assert task.targets(rows_of(["0012"])).tolist() == task.targets(rows_of([12.0])).tolist()


def test_distractors():
    rows = rows_of([0, 3, 0], distractor=[True, False, None])
    people = create_downstream("reid", rows).targets(rows)[:, 0].tolist()
    assert people[0] == 0
    assert min(people[1:]) > 0
    for values in ([0, 3], [0.0, 3.0], ["0", "3"]):
        rows = rows_of(values)
        task = create_downstream("reid", rows, distractor=0)
        assert task.targets(rows)[0, 0] == 0 < task.targets(rows)[1, 0]


@pytest.mark.parametrize(
    ("people", "message"),
    [
        (
            [1, 2, 3, 4],
            "mine: column 'person_id': each of its 4 people has one image; re-identification "
            "learns from people with at least two",
        ),
        ([-1, -1, None, -1], "mine: column 'person_id': names nobody"),
    ],
)
def test_what_cannot_be_learnt_is_one_line(people, message):
    data = {"image": make_crops(4), "person_id": people}
    rows = datasets.Dataset.from_dict(data).cast_column("image", datasets.Image())
    task = create_downstream("reid", rows)
    with pytest.raises(InputError) as error:
        open_labelled(rows, task, (50, 25), LoopArguments(output_dir="x"), name="mine", main=False)
    assert str(error.value) == message


def test_people_keep_their_numbers():
    rows = rows_of([5, 3, 5])
    known = create_downstream("reid", rows).targets(rows)[:, 0]
    words = rows_of(["5", "3", "5"])
    assert torch.equal(known, create_downstream("reid", words).targets(words)[:, 0])
    assert known[0] == 2509914738077689449
