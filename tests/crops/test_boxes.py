"""Box arithmetic against hand-worked values and naive loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from patchit_hf.crops import boxes as b
from patchit_hf.data.pictures import TURNS

NONE = np.zeros((0, 4))
sides = st.floats(1, 900, allow_nan=False)
places = st.floats(-300, 900, allow_nan=False)
box = st.tuples(places, places, sides, sides).map(lambda v: [v[0], v[1], v[0] + v[2], v[1] + v[3]])
many = st.lists(box, max_size=6).map(lambda v: np.array(v, np.float64).reshape(-1, 4))
frames = st.tuples(st.integers(8, 700), st.integers(8, 700))


def test_every_function_takes_no_box():
    size = (64, 48)
    for result in (
        b.from_xywh(NONE), b.from_cxcywh(NONE), b.to_pixels(NONE, size), b.clip(NONE, size),
        b.windows(NONE, (200, 100)), b.orient(NONE, size, 6),
    ):  # fmt: skip
        assert result.shape == (0, 4)
    assert b.sizes(NONE).shape == (0, 2)
    for result in (b.area(NONE), b.visible(NONE, size), b.covered(NONE), b.touches(NONE, size)):
        assert result.shape == (0,)
    assert b.intersections(NONE, NONE).shape == (0, 0)
    for outside in b.OUTSIDE:
        fitted, kept = b.fit_windows(NONE, size, outside)
        assert (fitted.shape, kept.shape) == ((0, 4), (0,))


def test_hand_worked_values():
    one = np.array([[10.0, 20.0, 30.0, 80.0]])
    assert b.from_xywh(np.array([[10.0, 20, 20, 60]])).tolist() == one.tolist()
    assert b.from_cxcywh(np.array([[20.0, 50, 20, 60]])).tolist() == one.tolist()
    assert (
        b.to_pixels(np.array([[0.1, 0.2, 0.3, 0.8]]), (100, 100)).round(9).tolist() == one.tolist()
    )
    assert b.area(one).tolist() == [1200]
    assert b.visible(one, (20, 100)).tolist() == [0.5]
    # 60 high, so 30 wide about x = 20; with a tenth of context 72 high and 36 wide
    assert b.windows(one, (200, 100)).tolist() == [[5, 20, 35, 80]]
    assert b.windows(one, (200, 100), 0.1).tolist() == [[2, 14, 38, 86]]
    assert b.covered(np.array([[0.0, 0, 10, 10], [0, 0, 5, 20], [90, 90, 95, 95]])).tolist() == [
        0.5, 0.5, 0,
    ]  # fmt: skip
    edge = np.array([[0.0, 5, 9, 9], [5, 5, 9, 64], [5, 5, 9, 9]])
    assert b.touches(edge, (64, 64)).tolist() == [True, True, False]


def test_policies_by_hand():
    left = np.array([[-10.0, 10, 40, 110]])  # 10 px out of a frame 200 wide
    assert b.fit_windows(left, (200, 150), "shift")[0].tolist() == [[0, 10, 50, 110]]
    shrunk, kept = b.fit_windows(
        left, (200, 150), "shrink"
    )  # 15 to the left of the centre: 30 wide
    assert shrunk.tolist() == [[0, 30, 30, 90]]
    assert kept.tolist() == [True]
    assert b.fit_windows(left, (200, 150), "drop")[1].tolist() == [False]
    hair = left + np.array([9.7, 0, 9.7, 0])
    assert b.fit_windows(hair, (200, 150), "drop")[1].tolist() == [True]
    assert b.fit_windows(hair, (200, 150), "drop")[0].tolist() == [[0, 10, 50, 110]]
    tall = np.array([[0.0, 0, 100, 200]])
    assert b.fit_windows(tall, (50, 300), "shift")[0].tolist() == [[25 - 25, 50, 50, 150]]
    assert b.fit_windows(tall, (40, 300), "shift")[1].tolist() == [False]


@given(many, frames, st.sampled_from(b.OUTSIDE), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_a_kept_window_lies_inside_and_keeps_its_aspect(boxes, size, outside, context):
    cut = b.windows(boxes, (200, 100), context)
    fitted, kept = b.fit_windows(cut, size, outside)
    fitted = fitted[kept]
    assert (fitted[:, :2] >= 0).all()
    assert (fitted[:, 2:] <= np.array(size)).all()
    width, height = b.sizes(fitted).T
    np.testing.assert_allclose(height, 2 * width, rtol=1e-6, atol=1e-6)
    assert (height <= b.sizes(cut[kept])[:, 1] + 1e-9).all()
    if outside == "shrink":  # the centre stays, up to rounding
        middle = (cut[kept][:, :2] + cut[kept][:, 2:]) / 2
        np.testing.assert_allclose((fitted[:, :2] + fitted[:, 2:]) / 2, middle, atol=0.5 + 1e-6)
    inside = ((cut[:, :2] >= 0) & (cut[:, 2:] <= np.array(size))).all(axis=1)
    assert kept[inside].all()  # windows inside the frame are not changed
    np.testing.assert_allclose(b.fit_windows(cut, size, outside)[0][inside], cut[inside], atol=1e-9)


@given(many)
@settings(max_examples=60, deadline=None)
def test_covered_is_the_naive_loop(boxes):
    expected = []
    for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        most = 0.0
        for j, (u0, v0, u1, v1) in enumerate(boxes.tolist()):
            if i != j:
                w, h = min(x1, u1) - max(x0, u0), min(y1, v1) - max(y0, v0)
                most = max(most, max(w, 0) * max(h, 0) / ((x1 - x0) * (y1 - y0)))
        expected.append(most)
    np.testing.assert_allclose(b.covered(boxes), expected, rtol=1e-9)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orient_follows_the_pixels(orientation):
    stored = np.zeros((30, 50), np.uint8)
    stored[4:9, 20:31] = 255
    shown = Image.fromarray(stored)
    if orientation in TURNS:
        shown = shown.transpose(TURNS[orientation])
    rows, cols = np.nonzero(np.asarray(shown))
    expected = [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
    found = b.orient(np.array([[20.0, 4, 31, 9]]), (50, 30), orientation)
    assert found.tolist() == [expected]
