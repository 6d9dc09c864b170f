"""Re-identification under Market-1501's rules: by hand, by loops, by torchmetrics."""

import importlib
import math
from operator import mul

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchit_hf.common.errors import InputError
from patchit_hf.metrics import Embeddings, Retrieval, retrieve


def embeddings(features, ids, cameras):
    return Embeddings(torch.tensor(features).float(), torch.tensor(ids), torch.tensor(cameras))


def at_angles(degrees, ids, cameras):
    """Pictures whose similarity to the direction of 0 degrees falls with their angle."""
    radians = np.radians(degrees)
    return embeddings(np.stack([np.cos(radians), np.sin(radians)], 1), ids, cameras)


def random_people(n, seed, people=4, cameras=3, dim=3):
    rng = np.random.default_rng(seed)
    # Whole numbers: ties happen, and doubles hold their products exactly.
    features = rng.integers(-2, 3, (n, dim)).astype(float)
    return embeddings(
        features, rng.integers(-1, people, n).tolist(), rng.integers(-1, cameras, n).tolist()
    )


def rows_of(embeddings):
    return zip(
        embeddings.features.tolist(),
        embeddings.ids.tolist(),
        embeddings.cameras.tolist(),
        strict=True,
    )


def naive(query, gallery, same_rows=False):
    """Query by query and picture by picture; rows of (query, average precision, first hit)."""
    results, skipped = [], 0
    for q, (feature, person, camera) in enumerate(rows_of(query)):
        ranking = []
        for g, (other, other_person, other_camera) in enumerate(rows_of(gallery)):
            if other_person == -1 or (same_rows and g == q):
                continue
            if other_person == person and camera == other_camera != -1:
                continue
            lengths = math.hypot(*feature) * math.hypot(*other)
            cosine = sum(map(mul, feature, other)) / lengths if lengths else 0.0
            ranking.append((-round(cosine, 5), g, other_person == person and person > 0))
        right = [hit for _, _, hit in sorted(ranking)]
        if not any(right):
            skipped += 1
            continue
        precisions = [sum(right[: k + 1]) / (k + 1) for k, hit in enumerate(right) if hit]
        results.append((q, sum(precisions) / len(precisions), right.index(True)))
    return results, skipped


def as_rows(retrieval):
    return list(
        zip(
            retrieval.queries.tolist(),
            retrieval.average_precision.tolist(),
            retrieval.first_hit.tolist(),
            strict=True,
        )
    )


def test_by_hand():
    query = at_angles([0, 0, 0], [1, 2, 9], [1, 1, 1])
    gallery = at_angles(
        # junk, own camera, another, right, distractor, right, person 2 by own camera
        [1, 5, 10, 20, 30, 40, 50], [-1, 1, 3, 1, 0, 1, 2], [2, 1, 1, 2, 2, 3, 1]
    )  # fmt: skip
    result = retrieve(query, gallery)
    # Left for query 0: another, right, distractor, right, person 2.
    assert result.queries.tolist() == [0]
    assert result.average_precision.tolist() == pytest.approx([(1 / 2 + 2 / 4) / 2])
    assert result.first_hit.tolist() == [1]
    assert result.skipped == 2, "only the own camera saw person 2, and person 9 is not there"
    assert result.summary() == {"map": 0.5, "rank1": 0.0, "rank5": 1.0, "rank10": 1.0}
    assert result.average_precision.dtype == torch.float64
    assert result.first_hit.dtype == result.queries.dtype == torch.int64


@pytest.mark.parametrize("block", [1, 2, 256])
@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(1, 25), st.integers(0, 10**6))
def test_as_naive_loops(block, q, g, seed):
    query, gallery = random_people(q, seed), random_people(g, seed + 1)
    result = retrieve(query, gallery, block=block)
    rows, skipped = naive(query, gallery)
    assert result.skipped == skipped
    assert [r[::2] for r in as_rows(result)] == [r[::2] for r in rows]
    assert result.average_precision.tolist() == pytest.approx([r[1] for r in rows])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.integers(1, 7), st.integers(0, 10**6))
def test_same_rows_as_naive_loops(n, block, seed):
    people = random_people(n, seed, cameras=1)
    result = retrieve(people, people, same_rows=True, block=block)
    rows, skipped = naive(people, people, same_rows=True)
    assert result.skipped == skipped
    assert [r[::2] for r in as_rows(result)] == [r[::2] for r in rows]
    assert result.average_precision.tolist() == pytest.approx([r[1] for r in rows])


def test_as_torchmetrics():
    functional = importlib.import_module("torchmetrics.functional.retrieval")
    generator = torch.Generator().manual_seed(0)
    query, gallery = (
        Embeddings(
            torch.randn(n, 16, generator=generator),
            torch.randint(1, 9, (n,), generator=generator),
            torch.full((n,), camera),
        )
        for n, camera in ((20, 0), (150, 1))
    )
    result = retrieve(query, gallery)
    assert len(result.queries) == 20
    cosines = torch.nn.functional.cosine_similarity(
        query.features[:, None], gallery.features[None], dim=2
    )
    for i in range(20):
        right = gallery.ids == query.ids[i]
        # Moved above 0: torchmetrics takes scores of 0 and less for "not retrieved".
        ap = functional.retrieval_average_precision(cosines[i] + 2, right)
        assert float(result.average_precision[i]) == pytest.approx(float(ap))
        for k in (1, 5, 10):
            hit = functional.retrieval_hit_rate(cosines[i] + 2, right, top_k=k)
            assert bool(result.first_hit[i] < k) == bool(hit)


def test_unknown_cameras_differ_from_all_others():
    query = at_angles([0], [1], [-1])
    for camera in (-1, 0, 3):
        gallery = at_angles([10, 20], [2, 1], [0, camera])
        assert retrieve(query, gallery).average_precision.tolist() == [0.5]
    known = at_angles([0], [1], [0])
    assert retrieve(known, at_angles([10, 20], [2, 1], [0, -1])).skipped == 0
    assert retrieve(known, at_angles([10, 20], [2, 1], [0, 0])).skipped == 1


def test_a_query_is_not_its_own_answer():
    people = at_angles([0, 10, 20, 90], [1, 2, 1, 3], [-1] * 4)
    result = retrieve(people, people, same_rows=True)
    assert result.queries.tolist() == [0, 2]
    assert result.average_precision.tolist() == [0.5, 0.5]
    assert result.skipped == 2
    assert retrieve(people, people).summary()["rank1"] == 1, "what forgetting it would give"


def test_distractors_and_junk_as_queries_are_skipped():
    gallery = at_angles([0, 1, 2], [0, -1, 1], [5, 5, 5])
    result = retrieve(at_angles([0, 0], [0, -1], [1, 1]), gallery)
    assert (len(result.queries), result.skipped) == (0, 2)


def test_ties_fall_in_the_gallery_s_order():
    query = at_angles([0], [1], [0])
    for ids, ap in (([1, 2, 3], 1), ([2, 1, 3], 1 / 2), ([2, 3, 1], 1 / 3)):
        gallery = at_angles([30, 30, 30], ids, [1, 1, 1])
        assert retrieve(query, gallery).average_precision.tolist() == pytest.approx([ap])


@pytest.mark.parametrize("scale", [1.0, 4.0, 2.0**-10])
def test_equal_pictures_tie_wherever_they_stand(scale):
    # Matrix products end in other instructions at their edges; a copy must tie nevertheless.
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 333, generator=generator).repeat(1003, 1)
    features[501:] *= scale
    gallery = Embeddings(features, torch.arange(1003) + 1, torch.ones(1003).long())
    query = Embeddings(
        torch.randn(7, 333, generator=generator),
        torch.tensor([1, 3, 500, 501, 502, 1000, 1003]),
        torch.zeros(7).long(),
    )
    assert retrieve(query, gallery).first_hit.tolist() == [0, 2, 499, 500, 501, 999, 1002]


def test_features_of_zeros_are_like_nothing():
    query = embeddings([[1.0, 0.0]], [1], [0])
    gallery = embeddings([[-1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], [3, 1, 2], [1, 1, 1])
    assert retrieve(query, gallery).first_hit.tolist() == [1]
    assert retrieve(embeddings([[0.0, 0.0]], [1], [0]), gallery).first_hit.tolist() == [1]


# The same examples each time: once in thousands, two cosines are one in single precision.
@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from([0.25, 1.0, 8.0]))
def test_blocks_lengths_and_order_change_nothing(seed, block, scale):
    generator = torch.Generator().manual_seed(seed)
    query, gallery = (
        Embeddings(
            torch.randn(n, 8, generator=generator),
            torch.randint(-1, 6, (n,), generator=generator),
            torch.randint(-1, 3, (n,), generator=generator),
        )
        for n in (11, 40)
    )
    result = retrieve(query, gallery)
    assert as_rows(retrieve(query, gallery, block=block)) == as_rows(result)
    order = torch.randperm(40, generator=generator)
    shuffled = Embeddings(*(part[order] for part in gallery))
    longer = query._replace(features=query.features * scale)
    again = retrieve(longer, shuffled, block=block)
    assert again.first_hit.tolist() == result.first_hit.tolist()
    assert again.average_precision.tolist() == pytest.approx(result.average_precision.tolist())
    assert retrieve(query._replace(features=query.features.double()), gallery).queries.tolist() == (
        result.queries.tolist()
    )


def test_empty():
    some, none = at_angles([0, 1], [1, 2], [0, 0]), at_angles([], [], [])
    none = Embeddings(none.features, none.ids.long(), none.cameras.long())
    nothing = retrieve(none, some)
    assert (nothing.skipped, nothing.summary()) == (0, {})
    assert len(nothing.queries) == len(nothing.average_precision) == 0
    unanswered = retrieve(some, none)
    assert (unanswered.skipped, unanswered.summary()) == (2, {})


def test_summary_of_chosen_rows():
    result = Retrieval(
        torch.tensor([1.0, 0.5, 0.1]).double(), torch.tensor([0, 1, 9]), torch.tensor([0, 3, 4]), 2
    )
    assert result.summary() == pytest.approx(
        {"map": 1.6 / 3, "rank1": 1 / 3, "rank5": 2 / 3, "rank10": 1}
    )
    assert result.summary(torch.tensor([2, 2])) == pytest.approx(
        {"map": 0.1, "rank1": 0, "rank5": 0, "rank10": 1}
    )
    assert result.summary(torch.zeros(0, dtype=torch.long)) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.rand(3)}, r"gallery features of shape \[3\]"),
        ({"features": torch.rand(3, 5)}, r"gallery features of shape \[3, 5\].*\[any, 2\]"),
        ({"features": torch.rand(4, 2)}, r"gallery ids of shape \[3\].*\[4\]"),
        ({"cameras": torch.zeros(2).long()}, r"gallery cameras of shape \[2\].*\[3\]"),
        ({"ids": torch.tensor([1, 2, -2])}, "gallery ids: value -2: must be at least -1"),
        ({"cameras": torch.tensor([1, 2, -7])}, "gallery cameras: value -7"),
        ({"ids": torch.rand(3)}, "gallery ids of type torch.float32"),
        ({"features": torch.ones(3, 2).long()}, "gallery features of type torch.int64"),
        ({"features": torch.full((3, 2), torch.nan)}, "gallery features: 6 of 6 values are NaN"),
        ({"features": torch.full((3, 2), torch.inf)}, "gallery features: infinite"),
    ],
)
def test_refuses(change, message):
    people = at_angles([0, 1, 2], [1, 2, 3], [0, 0, 0])
    with pytest.raises(InputError, match=message):
        retrieve(people, people._replace(**change))


def test_refuses_other_rows_and_no_block():
    people = at_angles([0, 1, 2], [1, 2, 3], [0, 0, 0])
    with pytest.raises(InputError, match="block=0: must be at least 1"):
        retrieve(people, people, block=0)
    with pytest.raises(InputError, match=r"same_rows, of shape \[2\]: must be of shape \[3\]"):
        retrieve(people, Embeddings(*(part[:2] for part in people)), same_rows=True)
    with pytest.raises(InputError, match="same_rows: query ids differ"):
        retrieve(people, people._replace(ids=people.ids.flip(0)), same_rows=True)
