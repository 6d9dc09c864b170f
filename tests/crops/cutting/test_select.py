"""Which boxes are kept, and why the others are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchit_hf.common.errors import InputError
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.cutting.select import REASONS, before_decoding, in_picture, sharpness, thin

SIZE = (400, 300)
GOOD = [100.0, 50.0, 150.0, 150.0]


def decided(boxes, score=None, person=None, **options):
    options = CropOptions(preset="all", **options)
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    score = np.full(len(boxes), np.nan) if score is None else np.array(score)
    person = np.ones(len(boxes), bool) if person is None else np.array(person)
    reasons = before_decoding(boxes, person, score, options)
    return in_picture(boxes, reasons, SIZE, options)[0].tolist()


@pytest.mark.parametrize(
    ("box", "options", "reason"),
    [
        (GOOD, {}, ""),
        ([np.nan, 0, 50, 100], {}, "not finite"),
        ([0, 0, np.inf, 100], {}, "not finite"),
        ([50, 0, 50, 100], {}, "no area"),
        ([50, 100, 90, 50], {}, "no area"),
        ([500, 50, 550, 150], {}, "outside"),
        ([370, 50, 420, 150], {}, ""),
        ([380, 50, 430, 150], {}, "mostly outside"),
        ([100, 50, 120, 90], {}, "too short"),
        (GOOD, {"max_height": 99.0}, "too tall"),
        ([100, 50, 110, 150], {}, "too narrow"),
        ([100, 50, 210, 150], {}, "too wide"),
        ([0, 50, 50, 150], {"keep_cut": False}, "cut"),
        ([0, 50, 30, 150], {"outside": "drop"}, "leaves the frame"),
        ([0, 50, 20, 150], {"outside": "shrink"}, "leaves the frame"),
    ],
)
def test_each_reason(box, options, reason):
    assert decided([box], **options) == [reason]
    assert reason in ("", *REASONS)


def test_reasons_of_several_boxes():
    assert decided([GOOD, GOOD]) == ["", "duplicate"]
    assert decided([GOOD, GOOD], person=[True, False]) == ["", "class"]
    assert decided([GOOD, GOOD[::-1]], score=[0.4, np.nan], min_score=0.5) == ["score", "no area"]
    # half of the second is behind the first; a box of another class covers nobody
    other = [125.0, 50.0, 175.0, 150.0]
    assert decided([GOOD, other], max_overlap=0.4) == ["covered", "covered"]
    assert decided([GOOD, other], max_overlap=0.5) == ["", ""]
    assert decided([GOOD, other], max_overlap=0.4, person=[True, False]) == ["", "class"]


def test_thinning_is_the_naive_loop():
    rng = np.random.default_rng(3)
    track, reasons = rng.integers(-1, 4, 60), rng.choice(np.array(["", "", "score"], object), 60)
    seen: dict[int, int] = {}
    expected = []
    for number, reason in zip(track.tolist(), reasons.tolist(), strict=True):
        if reason == "" and number >= 0:
            reason = "thinned" if seen.get(number, 0) % 3 else ""
            seen[number] = seen.get(number, 0) + 1
        expected.append(reason)
    assert thin(reasons, track, 3).tolist() == expected
    assert thin(reasons[:0], track[:0], 3).tolist() == []
    assert thin(reasons, track, 1).tolist() == reasons.tolist()


def test_a_thinned_box_still_covers_others():
    options = CropOptions(preset="all", max_overlap=0.4)
    boxes = np.array([GOOD, [125.0, 50.0, 175.0, 150.0]])
    reasons = np.array(["", "thinned"], dtype=object)
    assert in_picture(boxes, reasons, SIZE, options)[0].tolist() == ["covered", "thinned"]


number = st.one_of(st.floats(-200, 900), st.sampled_from([np.nan, np.inf, 0.0, 1e30]))


@given(
    st.lists(st.lists(number, min_size=4, max_size=4), max_size=5),
    st.sampled_from(["shift", "shrink", "drop"]),
)
@settings(max_examples=150, deadline=None)
def test_every_box_is_decided_on_and_kept_windows_lie_inside(boxes, outside):
    options = CropOptions(preset="all", outside=outside, max_overlap=0.9)
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    person = np.ones(len(boxes), bool)
    reasons = before_decoding(boxes, person, np.full(len(boxes), np.nan), options)
    reasons, windows = in_picture(boxes, reasons, SIZE, options)
    assert all(reason in ("", *REASONS) for reason in reasons)
    kept = windows[reasons == ""]
    assert np.isfinite(kept).all()
    assert (kept >= 0).all()
    assert (kept <= np.array([*SIZE, *SIZE])).all()
    assert (kept[:, 2:] - kept[:, :2] > 8).all()


def test_sharpness_is_the_naive_loop_and_falls_with_blur():
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (12, 9, 3)).astype(np.uint8)
    grey = sharp @ np.array([0.299, 0.587, 0.114])
    values = [
        grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x]
        for y in range(1, 11)
        for x in range(1, 8)
    ]
    assert sharpness(sharp) == pytest.approx(np.var(values), rel=1e-4)
    assert sharpness(np.full((12, 9, 3), 77, np.uint8)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canvas": "200"}, "--canvas '200': must be HEIGHTxWIDTH"),
        ({"outside": "pad"}, "--outside 'pad': must be one of shift, shrink, drop"),
        ({"quality": 0}, "--quality 0: must be a whole number from 1 to 100"),
        ({"min_height": 4.0}, "--min-height 4.0: must be a number of at least 8"),
        (
            {"min_height": 90.0, "max_height": 80.0},
            "--min-height 90.0: must be at most --max-height",
        ),
        ({"max_overlap": 1.5}, "--max-overlap 1.5: must be a number from 0 to 1"),
        ({"context": float("nan")}, "--context nan: must be a number of at least 0"),
        ({"validation": 0.5, "test": 0.5}, "--validation 0.5: must be less than 1"),
        ({"keep_every": 0}, "--keep-every 0: must be a whole number from 1"),
        ({"exif": "turned"}, "--exif 'turned': must be one of shown, stored"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError) as error:
        CropOptions(preset="all", **options)
    assert str(error.value).startswith(message)
