"""Pose: PCK by hand and by loops, OKS and its AP against pycocotools."""

import contextlib
import importlib
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchit_hf.common.errors import InputError
from patchit_hf.metrics import head_length, oks, oks_ap, pck_hits, pck_summary, torso_length

NAN = math.nan


def poses(n, joints, seed=0, noise=3.0):
    rng = np.random.default_rng(seed)
    truth = np.concatenate(
        [rng.uniform(0, 100, (n, joints, 2)), rng.integers(0, 3, (n, joints, 1))], 2
    )
    predicted = truth[..., :2] + rng.normal(size=(n, joints, 2)) * noise
    return torch.tensor(predicted), torch.tensor(truth)


def same(tensor, expected):
    np.testing.assert_allclose(tensor.numpy(), np.array(expected, dtype=float), rtol=1e-6)


def test_pck_by_hand():
    truth = torch.tensor([[[0.0, 0, 1], [10, 0, 1], [5, 5, 0]]]).repeat(4, 1, 1)
    predicted = torch.tensor([[[3.0, 4.0], [10.0, 5.1], [5.0, 5.0]]]).repeat(4, 1, 1)
    hits = pck_hits(predicted, truth, torch.tensor([25.0, 24.0, 0.0, NAN]), 0.2)
    # 5 px and 5.1 px away; a fifth of 25 px is 5 px, and that still counts.
    same(hits, [[1, 0, NAN], [0, 0, NAN], [NAN, NAN, NAN], [NAN, NAN, NAN]])
    total, joints = pck_summary(hits, ["head", "hand", "foot"])
    assert total == 0.25
    assert joints == {"head": 0.5, "hand": 0.0, "foot": None}


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(1, 5), st.floats(0.05, 1), st.integers(0, 10**6))
def test_pck_as_naive_loops(n, j, threshold, seed):
    predicted, truth = poses(n, j, seed)
    reference = torch.tensor(np.random.default_rng(seed).uniform(-3, 20, n))
    hits = pck_hits(predicted, truth, reference, threshold)
    counts = {k: [] for k in range(j)}
    for person in range(n):
        for joint in range(j):
            x, y, visible = truth[person, joint].tolist()
            value = hits[person, joint].item()
            if not visible or reference[person] <= 0:
                assert math.isnan(value)
                continue
            px, py = predicted[person, joint].tolist()
            assert value == (math.hypot(px - x, py - y) <= threshold * reference[person])
            counts[joint].append(value)
    total, shares = pck_summary(hits, [str(k) for k in range(j)])
    seen = [value for values in counts.values() for value in values]
    assert total == (pytest.approx(sum(seen) / len(seen)) if seen else None)
    for joint, values in counts.items():
        expected = pytest.approx(sum(values) / len(values)) if values else None
        assert shares[str(joint)] == expected
    moved = truth + torch.tensor([7.0, -9.0, 0.0])
    again = pck_hits((predicted + torch.tensor([7.0, -9.0])) * 2, moved * torch.tensor([2, 2, 1]),
                     reference * 2, threshold)  # fmt: skip
    np.testing.assert_array_equal(again.numpy(), hits.numpy())


def test_what_is_not_predicted_is_missed():
    truth = torch.tensor([[[1.0, 1, 2], [1, 1, 1]]])
    predicted = torch.tensor([[[NAN, 1.0], [math.inf, 1.0]]])
    same(pck_hits(predicted, truth, torch.tensor([10.0]), 0.5), [[0, 0]])
    same(oks(predicted, truth, torch.tensor([100.0]), torch.tensor([0.1, 0.1])), [0])


def test_unlabelled_joints_may_be_nowhere():
    truth = torch.tensor([[[NAN, NAN, 0.0], [1, 1, 1]]])
    predicted = torch.ones(1, 2, 2)
    same(pck_hits(predicted, truth, torch.tensor([10.0]), 0.5), [[NAN, 1]])
    same(oks(predicted, truth, torch.tensor([100.0]), torch.tensor([0.1, 0.1])), [1])
    same(head_length(truth, 0, 1), [NAN])
    with pytest.raises(InputError, match="truth: 1 visible joints have no finite position"):
        pck_hits(predicted, torch.tensor([[[NAN, 1, 1.0], [1, 1, 1]]]), torch.tensor([1.0]), 0.5)


def test_lengths():
    # left and right shoulder, left and right hip, neck, head top
    joints = [[30, 0, 1], [0, 0, 1], [30, 45, 1], [0, 40, 1], [15, 0, 2], [15, -13, 2]]
    truth = torch.tensor([joints] * 3, dtype=torch.float32)
    truth[1, 0, 2] = truth[1, 4, 2] = 0
    truth[2, 3, 2] = truth[2, 5, 2] = 0
    same(torso_length(truth, (0, 1), (2, 3)), [50, NAN, NAN])
    same(head_length(truth, 4, 5), [13, NAN, NAN])
    assert torso_length(truth[:0], (0, 1), (2, 3)).shape == (0,)
    with pytest.raises(InputError, match="joint 6: must be from 0 to 5"):
        head_length(truth, 4, 6)
    with pytest.raises(InputError, match=r"truth of shape \[3, 6, 2\].*\[any, any, 3\]"):
        head_length(truth[..., :2], 4, 5)


def test_oks_by_hand():
    truth = torch.tensor([[[0.0, 0, 2], [10, 10, 1], [50, 50, 0]], [[0, 0, 0]] * 3])
    predicted = torch.tensor([[[3.0, 4.0], [10.0, 10.0], [0.0, 0.0]]] * 2)
    value = oks(predicted, truth, torch.tensor([500.0, 500.0]), torch.tensor([0.1, 0.1, 0.1]))
    # d^2 = 25, 2 s^2 (2 sigma)^2 = 2 * 500 * 0.04
    same(value, [(math.exp(-25 / 40) + 1) / 2, NAN])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6))
def test_oks_as_naive_loops(n, j, seed):
    predicted, truth = poses(n, j, seed)
    rng = np.random.default_rng(seed)
    area, sigmas = torch.tensor(rng.uniform(10, 900, n)), torch.tensor(rng.uniform(0.02, 0.2, j))
    expected = []
    for person in range(n):
        parts = []
        for joint in range(j):
            x, y, visible = truth[person, joint].tolist()
            px, py = predicted[person, joint].tolist()
            if visible:
                squared = (px - x) ** 2 + (py - y) ** 2
                spread = 2 * float(sigmas[joint])
                parts.append(math.exp(-squared / (2 * float(area[person]) * spread**2)))
        expected.append(sum(parts) / len(parts) if parts else NAN)
    same(oks(predicted, truth, area, sigmas), expected)


def naive_oks_ap(values, scores):
    order = sorted(range(len(values)), key=lambda i: -scores[i])
    areas = []
    for step in range(10):
        right = [values[i] >= 0.5 + 0.05 * step for i in order]
        curve = [(sum(right[: k + 1]), k + 1) for k in range(len(right))]
        best = [
            max((hits / seen for hits, seen in curve if hits / len(right) >= t / 100), default=0)
            for t in range(101)
        ]
        areas.append(sum(best) / 101)
    return {"ap": sum(areas) / 10, "ap50": areas[0], "ap75": areas[5]}


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(0, 10**6))
def test_oks_ap_as_naive_loops(n, seed):
    rng = np.random.default_rng(seed)
    # Off the thresholds, and scores with ties.
    values, scores = rng.integers(0, 50, n) / 50 + 0.011, rng.integers(0, 6, n) / 5
    ours = oks_ap(torch.tensor(values), torch.tensor(scores))
    # At most a hundredth apart where recall and its step are equal but for rounding.
    assert ours == pytest.approx(naive_oks_ap(values.tolist(), scores.tolist()), abs=0.0101)
    once = oks_ap(torch.tensor(values), torch.tensor(scores).exp())
    assert once == ours, "only the order of the scores matters"
    places = sorted(rng.integers(0, n + 1, 3))
    values, scores = np.insert(values, places, NAN), np.insert(scores, places, rng.random(3))
    assert oks_ap(torch.tensor(values), torch.tensor(scores)) == ours


def test_oks_ap_limits():
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert oks_ap(torch.ones(3), scores) == {"ap": 1, "ap50": 1, "ap75": 1}
    assert oks_ap(torch.zeros(3), scores) == {"ap": 0, "ap50": 0, "ap75": 0}
    some = oks_ap(torch.tensor([0.72, NAN, NAN]), scores)
    assert some == pytest.approx({"ap": 0.5, "ap50": 1, "ap75": 0})
    assert oks_ap(torch.tensor([0.0, 1.0]), scores[:2])["ap"] == pytest.approx(51 / 101 / 2)
    assert oks_ap(torch.tensor([1.0, 0.0]), scores[:2])["ap"] == pytest.approx(51 / 101)
    assert oks_ap(torch.full((3,), NAN), scores) == {}
    assert oks_ap(torch.zeros(0), torch.zeros(0)) == {}


@pytest.mark.parametrize(("people", "seed"), [(1, 0), (40, 1), (100, 2), (257, 3)])
def test_oks_and_its_ap_as_pycocotools(people, seed):
    coco_module = importlib.import_module("pycocotools.coco")
    cocoeval = importlib.import_module("pycocotools.cocoeval")
    rng = np.random.default_rng(seed)
    predicted, truth = poses(people, 17, seed, noise=4.0)
    predicted += torch.tensor(rng.normal(size=(people, 1, 2)) * 4)
    truth[:, 0, 2] = 2  # COCO ignores people without a labelled joint
    area = torch.tensor(rng.uniform(1500, 9000, people))
    scores = torch.tensor(rng.integers(0, 30, people) / 29)  # with ties
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = _pycocotools(coco_module, cocoeval, predicted, truth, area, scores)
    sigmas = torch.tensor(theirs.params.kpt_oks_sigmas)
    ours = oks(predicted, truth, area, sigmas)
    same(ours, [theirs.ious[i + 1, 1][0, 0] for i in range(people)])
    expected = dict(zip(("ap", "ap50", "ap75"), theirs.stats[:3], strict=True))
    assert oks_ap(ours, scores) == pytest.approx(expected, abs=1e-12)
    assert 0 < expected["ap"] <= 1


def _pycocotools(coco_module, cocoeval, predicted, truth, area, scores):
    """COCO's own evaluation, each person a picture."""
    coco = coco_module.COCO()
    ids = range(1, len(truth) + 1)
    coco.dataset = {
        "info": {},
        "images": [{"id": i} for i in ids],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 100, 100],
             "area": float(area[i - 1]), "keypoints": truth[i - 1].flatten().tolist(),
             "num_keypoints": int((truth[i - 1, :, 2] > 0).sum())}
            for i in ids
        ],
    }  # fmt: skip
    coco.createIndex()
    # COCO takes the box of the predicted joints for their size; like the people, it is medium
    # to large here, and AP is over all sizes.
    joints = torch.cat([predicted, torch.ones_like(predicted[..., :1])], 2)
    found = coco.loadRes(
        [{"image_id": i, "category_id": 1, "keypoints": joints[i - 1].flatten().tolist(),
          "score": float(scores[i - 1])} for i in ids]
    )  # fmt: skip
    evaluation = cocoeval.COCOeval(coco, found, "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def test_empty():
    assert pck_hits(torch.zeros(0, 3, 2), torch.zeros(0, 3, 3), torch.zeros(0), 0.2).shape == (0, 3)
    assert pck_summary(torch.zeros(0, 2), ["a", "b"]) == (None, {"a": None, "b": None})
    assert oks(torch.zeros(0, 2, 2), torch.zeros(0, 2, 3), torch.zeros(0), torch.ones(2)).shape == (
        0,
    )


def test_refuses():
    predicted, truth = poses(4, 3)
    ones = torch.ones(4)
    with pytest.raises(InputError, match=r"predicted of shape \[4, 2, 2\].*\[4, 3, 2\]"):
        pck_hits(predicted[:, :2], truth, ones, 0.2)
    with pytest.raises(InputError, match=r"reference of shape \[3\].*\[4\]"):
        pck_hits(predicted, truth, ones[:3], 0.2)
    with pytest.raises(InputError, match="threshold=0: must be above 0"):
        pck_hits(predicted, truth, ones, 0)
    with pytest.raises(InputError, match=r"hits of shape \[4, 3\].*\[any, 2\]"):
        pck_summary(torch.ones(4, 3), ["a", "b"])
    with pytest.raises(InputError, match=r"sigmas of shape \[2\].*\[3\]"):
        oks(predicted, truth, ones, torch.ones(2))
    with pytest.raises(InputError, match=r"sigmas: 0\.0: must be above 0"):
        oks(predicted, truth, ones, torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(InputError, match=r"area: -1\.0: must be at least 0"):
        oks(predicted, truth, -ones, torch.ones(3))
    with pytest.raises(InputError, match=r"scores of shape \[3\].*\[4\]"):
        oks_ap(ones, ones[:3])
    with pytest.raises(InputError, match="scores: 4 of 4 values are NaN"):
        oks_ap(ones, ones * NAN)
