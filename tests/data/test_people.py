import hashlib
import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest

from patchit_hf.data.people import (
    ACTIONS,
    COLOURS,
    JOINTS,
    VIEWS,
    load_people,
    people_features,
    person_of,
    render_person,
)
from patchit_hf.data.rendering.skeleton import ANKLE, HEAD_TOP, HIP, NECK, SHOULDER, WRIST
from patchit_hf.data.rendering.wardrobe import draw_person

SIDED = ("shoulder_bag", "hand_bag")
CLASS_LABELS = {
    name: feature.num_classes
    for name, feature in people_features().items()
    if isinstance(feature, datasets.ClassLabel)
}


@pytest.fixture(scope="module")
def rows():
    return [render_person(index, seed=5) for index in range(160)]


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def pixels(row):
    return np.asarray(row["image"], np.float32)


def test_same_arguments_give_the_same_row():
    first, second = render_person(17, seed=3), render_person(17, seed=3)
    assert first.pop("image").tobytes() == second.pop("image").tobytes()
    assert np.array_equal(first.pop("keypoints"), second.pop("keypoints"))
    assert first == second


@pytest.mark.e2e
def test_row_does_not_depend_on_the_process(rows):
    code = (
        "import hashlib; from patchit_hf.data.people import render_person as r;"
        "print(hashlib.sha256(r(21, seed=5)['image'].tobytes()).hexdigest())"
    )
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "7"}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert answer.stdout.strip() == hashlib.sha256(rows[21]["image"].tobytes()).hexdigest()


@pytest.mark.e2e
def test_data_set_depends_neither_on_its_length_nor_on_processes(fresh_cache):
    one = load_people(130, seed=2, num_proc=1)
    longer = load_people(150, seed=2, num_proc=2)
    assert (len(one), len(longer)) == (130, 150)
    assert one[:] == longer[:130]
    row = render_person(129, seed=2)
    assert np.array_equal(np.float32(one[129]["keypoints"]), row["keypoints"])
    assert np.abs(pixels(one[129]) - pixels(row)).mean() < 4, "JPEG changes little"
    assert one["person_id"][:] == [person_of(index)[0] for index in range(130)]


def test_second_call_reads_the_cache(fresh_cache, monkeypatch):
    first = load_people(3, seed=1)

    def refuse(*_args, **_kwargs):
        raise AssertionError("drawn again")

    monkeypatch.setattr("patchit_hf.data.people.render_person", refuse)
    assert load_people(3, seed=1)[:] == first[:]
    assert load_people(3, seed=1, num_proc=2)[:] == first[:]
    with pytest.raises(datasets.exceptions.DatasetGenerationError):
        load_people(3, seed=2)


@pytest.mark.e2e
def test_several_processes_may_ask_at_once(tmp_path):
    code = (
        "import hashlib; from patchit_hf.data.people import load_people;"
        "data = load_people(40, seed=9)[:]['keypoints'];"
        "print(hashlib.sha256(repr(data).encode()).hexdigest())"
    )
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root), "HF_DATASETS_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for _ in range(2)]
    answers = [process.communicate()[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len(answers[0]) == 64
    assert answers[0] == answers[1]


def test_schema(fresh_cache):
    data = load_people(4, seed=0, height=96, width=48)
    assert data.features == people_features()
    assert data[0]["image"].size == (48, 96)
    assert data[0]["image"].mode == "RGB"
    keypoints = data.with_format("numpy")[0]["keypoints"]
    assert keypoints.shape == (len(JOINTS), 3)
    assert keypoints.dtype == np.float32
    assert set(CLASS_LABELS) >= {"hat", "glasses", "backpack", "orientation", "action"}
    for name, classes in CLASS_LABELS.items():
        assert all(-1 <= value < classes for value in data[name]), name


@pytest.mark.parametrize("name", sorted({*CLASS_LABELS} - {"upper_colour", "lower_colour"}))
def test_every_class_occurs(rows, name):
    assert {row[name] for row in rows} - {-1} == set(range(CLASS_LABELS[name]))


def test_every_colour_occurs():
    people = [draw_person(0, number) for number in range(250)]
    assert {person.upper_colour for person in people} == set(range(len(COLOURS)))
    assert {person.lower_colour for person in people} == set(range(len(COLOURS)))


def test_crops_differ_and_have_no_border(rows):
    assert len({row["image"].tobytes() for row in rows}) == len(rows)
    stack = np.stack([pixels(row) for row in rows])
    for edge in (stack[:, 0], stack[:, -1], stack[:, :, 0], stack[:, :, -1]):
        assert edge.std(axis=0).min() > 20, "an edge looks alike in all crops"


def test_pictures_per_person_and_cameras():
    people = [person_of(index) for index in range(200)]
    counts = np.bincount([person for person, _ in people])
    assert set(counts) == {4, 5, 6}
    assert people[:5] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]


def test_everybody_passes_all_cameras(rows):
    for person in range(30):
        cameras = {row["camera"] for row in rows if row["person_id"] == person}
        assert cameras == {0, 1, 2, 3}


def test_keypoints_lie_inside(rows):
    for row in rows:
        points = row["keypoints"]
        assert points.dtype == np.float32
        assert (points[:, 0] >= 0).all()
        assert (points[:, 0] < 100).all()
        assert (points[:, 1] >= 0).all()
        assert (points[:, 1] < 200).all()
        assert set(np.unique(points[:, 2])) <= {0.0, 1.0}


def test_keypoints_scale_with_the_crop():
    small, large = render_person(8, height=100, width=40), render_person(8, height=300, width=200)
    ratio = large["keypoints"][:, :2] / small["keypoints"][:, :2]
    np.testing.assert_allclose(ratio, np.broadcast_to((5.0, 3.0), ratio.shape), rtol=1e-4)


def test_standing_people_are_upright(rows):
    standing = [row for row in rows if row["action"] == ACTIONS.index("standing")]
    assert standing
    for row in standing:
        y = row["keypoints"][:, 1]
        assert y[HEAD_TOP] < y[NECK] < y[list(SHOULDER)].min()
        assert y[list(SHOULDER)].max() < y[list(HIP)].min()
        assert y[list(HIP)].max() < y[list(ANKLE)].min()
        assert y[HEAD_TOP] < 30
        assert y[list(ANKLE)].max() > 165


def test_waving_hand_is_above_the_shoulders(rows):
    for row in rows:
        if row["action"] == ACTIONS.index("waving"):
            y = row["keypoints"][:, 1]
            assert y[list(WRIST)].min() < y[list(SHOULDER)].min()


@pytest.mark.parametrize(("view", "sign"), [("front", 1), ("back", -1)])
def test_left_and_right_joints(rows, view, sign):
    seen = [row["keypoints"] for row in rows if row["orientation"] == VIEWS.index(view)]
    assert len(seen) > 10
    for points in seen:
        assert sign * (points[SHOULDER[1], 0] - points[SHOULDER[0], 0]) > 5


@pytest.mark.parametrize(("view", "near"), [("right", 0), ("left", 1)])
def test_far_side_is_hidden_more_often(rows, view, near):
    seen = [row["keypoints"] for row in rows if row["orientation"] == VIEWS.index(view)]
    visible = np.mean([points[:, 2] for points in seen], axis=0)
    for pair in (SHOULDER, HIP, WRIST):
        assert visible[pair[near]] > visible[pair[1 - near]] + 0.1
    assert visible[SHOULDER[near]] > 0.8


def test_not_applicable_exactly_where_unseeable(rows):
    for row in rows:
        view = VIEWS[row["orientation"]]
        expected = {"glasses"} if view == "back" else set()
        if view in ("left", "right"):
            far = "right" if view == "left" else "left"
            expected |= {f"{bag}_{far}" for bag in SIDED}
        assert {name for name in CLASS_LABELS if row[name] == -1} == expected


def test_identity_keeps_its_labels(rows):
    for name in ("hat", "long_hair", "upper_colour", "lower_wear", "shoulder_bag_left"):
        for person in range(30):
            values = {row[name] for row in rows if row["person_id"] == person} - {-1}
            assert len(values) <= 1, name


def test_clothes_stay_recognisable(rows):
    def look(row):
        points = row["keypoints"]
        upper = points[[2, 3, 8, 9], :2].mean(axis=0)
        lower = points[[1, 2, 3, 4], :2].mean(axis=0)
        patches = []
        for x, y in (upper, lower):
            patch = pixels(row)[int(y) - 8 : int(y) + 8, max(0, int(x) - 4) : int(x) + 4]
            patches.append(patch.mean(axis=(0, 1)))
        return np.concatenate(patches)

    looks = np.stack([look(row) for row in rows])
    who = np.array([row["person_id"] for row in rows])
    distance = np.linalg.norm(looks[:, None] - looks[None], axis=-1)
    same = who[:, None] == who[None]
    others = ~np.eye(len(rows), dtype=bool)
    assert distance[same & others].mean() < 0.7 * distance[~same].mean()
    nearest = np.where(others, distance, np.inf).argmin(axis=1)
    chance = (same & others).sum() / others.sum()
    assert (who[nearest] == who).mean() > 5 * chance


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_crops": 0}, "load_people: num_crops must be an integer >= 1, got 0"),
        ({"num_crops": 2.5}, "num_crops must be an integer >= 1, got 2.5"),
        ({"num_crops": True}, "num_crops must be an integer >= 1, got True"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"height": 31}, "height must be an integer >= 32, got 31"),
        ({"width": 0}, "width must be an integer >= 16, got 0"),
        ({"num_proc": 0}, "num_proc must be an integer >= 1, got 0"),
    ],
)
def test_bad_arguments_of_load_people(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_people(**arguments)


@pytest.mark.parametrize("name", ["index", "seed", "height", "width"])
def test_bad_arguments_of_render_person(name):
    arguments = {"index": 0, name: -1}
    with pytest.raises(ValueError, match=f"render_person: {name} must be an integer"):
        render_person(arguments.pop("index"), **arguments)
