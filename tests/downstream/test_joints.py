"""Joints and boxes in every usual way of writing them, and in another order."""

import io
import logging

import datasets
import numpy as np
import pytest
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.downstream import create_downstream
from patchit_hf.downstream.joints import order_of, read_box, read_joints
from patchit_hf.downstream.keypoints import COCO, LSP
from patchit_hf.finetune.labelled import open_labelled
from patchit_hf.models.people import open_people
from patchit_hf.training.arguments import LoopArguments

NAN = float("nan")
THREE = [[10.0, 20.0, 2.0], [30.0, 40.0, 0.0], [50.0, 60.0, 1.0]]
CANVAS = (100, 50)


def image():
    return Image.new("RGB", (100, 200), (90, 90, 90))


def rows_of(keypoints, **columns):
    data = {"image": [image()] * len(keypoints), "keypoints": keypoints, **columns}
    return datasets.Dataset.from_dict(data).cast_column("image", datasets.Image())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (THREE, THREE),
        ([v for joint in THREE for v in joint], THREE),
        (None, [[0, 0, 0]] * 3),
        ([], [[0, 0, 0]] * 3),
        ([[10, 20], [0, 0], [50, 60]], [[10, 20, 1], [0, 0, 0], [50, 60, 1]]),
        ([10, 20, 0, 0, 50, 60], [[10, 20, 1], [0, 0, 0], [50, 60, 1]]),
        ([[10, 20, 1], [NAN, NAN, 1], [50, 60, NAN]], [[10, 20, 1], [0, 0, 0], [50, 60, 0]]),
        ([[10, 20], None, [NAN, 60]], [[10, 20, 1], [0, 0, 0], [0, 0, 0]]),
        ("[[10, 20, 2], [30, 40, 0], [50, 60, null]]", [[10, 20, 2], [30, 40, 0], [50, 60, 0]]),
        (" ", [[0, 0, 0]] * 3),
        ({"a": [10, 20, 1], "b": None, "c": [50, 60, 2]}, [[10, 20, 1], [0, 0, 0], [50, 60, 2]]),
    ],
)
def test_joints_are_read(value, expected):
    assert read_joints(value, 3, 0, "keypoints") == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0] * 7, "row 4: keypoints: has 7 numbers; 3 joints have 9 or 6"),
        (
            ["5.0"] * 3,
            "row 4: keypoints: '5.0' is no joint; must be x, y, visible or x, y in pixels",
        ),
        ([["5", "6"]] * 3, "row 4: keypoints: ['5', '6'] is no joint; must hold numbers"),
        ("[1, 2", "row 4: keypoints: '[1, 2' is no list of numbers"),
        (THREE[:2], "row 4: keypoints: has 2 joints; must have 3"),
        (
            [[1.0] * 4] * 3,
            "row 4: keypoints: [1.0, 1.0, 1.0, 1.0] is no joint; must be x, y, visible or x, y in "
            "pixels",
        ),
    ],
)
def test_what_are_no_joints(value, message):
    with pytest.raises(InputError) as error:
        read_joints(value, 3, 4, "keypoints")
    assert str(error.value) == message


@pytest.mark.parametrize(
    "value", [[1, 2, 3, 4], "[1, 2, 3, 4]", {"x0": 1, "y0": 2, "x1": 3, "y1": 4.0}]
)
def test_boxes_are_read(value):
    assert read_box(value) == (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize("value", [[1, 2, 3], ["a", 2, 3, 4], 5])
def test_what_is_no_box(value):
    with pytest.raises(InputError) as error:
        read_box(value, 3, "bbox")
    assert str(error.value) == f"row 3: bbox: {value!r} is no box; must be x0, y0, x1, y1"


FLAT = [v for j in range(17) for v in (10.0 + j, 20.0 + 2 * j, 2.0)]
PAIRS = [[10.0 + j, 20.0 + 2 * j] for j in range(17)]
ON_CANVAS = [[(10.0 + j) / 2, (20.0 + 2 * j) / 2, 1.0] for j in range(17)]


@pytest.mark.parametrize("value", [FLAT, PAIRS, [v for pair in PAIRS for v in pair]])
def test_all_ways_give_the_same_targets(value):
    rows = rows_of([None, value, []])
    task = create_downstream("pose", rows)
    assert task.joints == list(COCO)
    targets = task.targets(task.prepare(rows, CANVAS))
    assert targets[1].tolist() == ON_CANVAS
    assert task.usable(targets).tolist() == [False, True, False]


def test_no_row_has_joints():
    with pytest.raises(InputError) as error:
        create_downstream("pose", rows_of([None, []]))
    assert str(error.value) == "column 'keypoints': none of its 2 rows has a joint"


def test_a_row_without_a_box_is_a_whole_image(caplog):
    rows = rows_of([FLAT] * 4, bbox=[[0.0, 0.0, 50.0, 100.0], None, [], [NAN] * 4])
    task = create_downstream("pose", rows, margin=0.0)
    cut = task.prepare(rows, CANVAS)
    assert cut["window"][:] == [[0, 0, 50, 100], *[[0, 0, 100, 200]] * 3]
    assert cut["keypoints"][1] == ON_CANVAS
    assert cut["keypoints"][0] == [[2 * x, 2 * y, s] for x, y, s in ON_CANVAS]
    assert caplog.messages == [
        "pose: 3 of 4 rows have no bbox (the first: row 1); their whole images are taken"
    ]
    people = open_people(task, rows, None, None)
    assert people.crop(0, task, CANVAS, "squash")[1] == (0, 0, 50, 100)
    assert people.crop(1, task, CANVAS, "squash")[1] == (0, 0, 100, 200)


def test_a_box_without_area_is_left_out(caplog):
    good = [0.0, 0.0, 50.0, 100.0]
    rows = rows_of([FLAT] * 3, bbox=[good, [40.0, 5.0, 20.0, 60.0], good])
    task = create_downstream("pose", rows, margin=0.0)
    data = open_labelled(rows, task, CANVAS, LoopArguments(output_dir="x"), name="mine", main=False)
    assert data.split_rows.tolist() == [0, 2]
    assert caplog.messages == [
        "pose: 1 of 3 rows have a bbox without area (the first: row 1, [40.0, 5.0, 20.0, 60.0]); "
        "their joints are left out"
    ]


def test_boxes_of_another_kind_are_refused():
    rows = rows_of([FLAT] * 3, bbox=[[60.0, 90.0, 20.0, 60.0]] * 3)  # x, y, width, height
    task = create_downstream("pose", rows)
    with pytest.raises(InputError) as error:
        open_labelled(rows, task, CANVAS, LoopArguments(output_dir="x"), name="mine", main=False)
    assert str(error.value) == (
        "mine: column 'bbox': 3 of 3 boxes have no area (the first: row 0, [60.0, 90.0, 20.0, "
        "60.0]); must be x0 < x1 and y0 < y1, in pixels"
    )


@pytest.fixture
def trained():
    return create_downstream("pose", rows_of([FLAT]))


def test_joints_are_compared_by_name(trained):
    turned = list(reversed(COCO))
    named = [name.replace(" ", "_") for name in turned]
    rows = rows_of([PAIRS[::-1]], keypoint_names=[named])
    assert trained.targets(trained.prepare(rows, CANVAS))[0].tolist() == ON_CANVAS
    fields = {name: [pair] for name, pair in zip(turned, PAIRS[::-1], strict=True)}
    rows = rows_of([{k: v[0] for k, v in fields.items()}])
    assert trained.targets(trained.prepare(rows, CANVAS))[0].tolist() == ON_CANVAS
    rows = rows_of([PAIRS[::-1]])
    told = trained.reading(turned)
    assert told.targets(told.prepare(rows, CANVAS))[0].tolist() == ON_CANVAS


def test_joints_that_a_data_set_lacks_are_not_seen(trained):
    rows = rows_of([[[10.0, 20.0, 1.0], [12.0, 24.0, 1.0]]], joint_names=[["nose", "right eye"]])
    found = trained.targets(trained.prepare(rows, CANVAS))[0]
    assert found[:3].tolist() == [[5, 10, 1], [0, 0, 0], [6, 12, 1]]
    assert found[:, 2].sum() == 2


def test_unknown_joints_are_refused_with_both_lists(trained):
    rows = rows_of([[[10.0, 20.0, 1.0]] * 14])  # as Leeds Sports Pose has them
    with pytest.raises(InputError) as error:
        trained.prepare(rows, CANVAS)
    assert str(error.value) == (
        "column 'keypoints': joint 'neck' is none of those that were trained "
        f"({', '.join(COCO)}); the data set has {', '.join(LSP)}"
    )
    with pytest.raises(InputError) as error:
        trained.prepare(rows_of([[[10.0, 20.0, 1.0]] * 5]), CANVAS)
    assert str(error.value) == (
        f"column 'keypoints': has 5 joints; 17 were trained ({', '.join(COCO)})"
    )
    assert order_of(["Nose", "LEFT_EYE"], ["left eye", "nose"]) == [1, 0]


def test_named_joints_are_trained_by_their_names():
    rows = rows_of([[[1.0, 2.0], [3.0, 4.0]]], keypoint_names=[["left_hip", "Right_Hip"]])
    assert create_downstream("pose", rows).joints == ["left hip", "right hip"]


def stored(pixels, kind, **options):
    file = io.BytesIO()
    pixels.save(file, kind, **options)
    return {"bytes": file.getvalue(), "path": None}


def marked():
    """A grey image with a bright square around the joint at (30, 40)."""
    pixels = np.full((200, 100), 60, np.uint8)
    pixels[30:50, 20:40] = 240
    return Image.fromarray(pixels)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = marked().transpose(Image.Transpose.ROTATE_90)
    return stored(lying, "JPEG", exif=exif, quality=98)


def deep():
    return stored(Image.fromarray(np.asarray(marked()).astype(np.uint16) * 257), "PNG")


@pytest.mark.parametrize("kind", [turned, deep])
@pytest.mark.parametrize("box", [None, [0.0, 0.0, 100.0, 200.0]])
def test_the_joint_is_where_the_image_shows_it(kind, box, trained, caplog):
    columns = {} if box is None else {"bbox": [box]}
    features = {"image": datasets.Image(), "keypoints": datasets.Sequence(datasets.Sequence(
        datasets.Value("float32")))}  # fmt: skip
    features |= {} if box is None else {"bbox": datasets.Sequence(datasets.Value("float32"))}
    rows = datasets.Dataset.from_dict(
        {"image": [kind()], "keypoints": [[[30.0, 40.0]] * 17], **columns},
        features=datasets.Features(features),
    )
    task = create_downstream("pose", rows, margin=0.0)
    with caplog.at_level(logging.WARNING):
        data = open_labelled(rows, task, CANVAS, LoopArguments(output_dir="x"), name="mine",
                             main=False)  # fmt: skip
    (crops, targets), *_ = data.batches(1)
    x, y, seen = targets[0, 0].tolist()
    assert (x, y, seen) == (15, 20, 1)
    assert crops[0, :, int(y), int(x)].tolist() == pytest.approx([240] * 3, abs=3)
    assert crops[0, :, 80, 40].tolist() == pytest.approx([60] * 3, abs=3)
    seen, window = open_people(task, rows, None, None).crop(0, task, CANVAS, "squash")
    assert window == (0, 0, 100, 200)
    assert np.abs(seen.astype(int) - crops[0].permute(1, 2, 0).numpy()).max() <= 1
