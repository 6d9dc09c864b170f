import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchit_hf.common.draws import Draws, crop_rows, epoch_order, philox


def _known(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    return [int(w) for w in philox(tuple(np.array(c, np.uint64) for c in counter), key)]


def test_philox_known_answers():
    # From the known-answer vectors of the authors' Random123 library.
    assert _known((0, 0, 0, 0), (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert _known((ones,) * 4, (ones,) * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert _known((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)) == [
        0xD16CFE09,
        0x94FDCCEB,
        0x5001E420,
        0x24126EA1,
    ]


def test_a_sample_draws_the_same_in_any_batch():
    whole = Draws(7, torch.arange(100))
    part = Draws(7, torch.tensor([93, 5]))
    for draw in (
        lambda d: d.integers("cell", 18),
        lambda d: d.integers("cell", 18, (5,)),
        lambda d: d.uniform("grayscale", (2, 3)),
        lambda d: d.permutations("tiles", 9),
    ):
        assert torch.equal(draw(whole)[[93, 5]], draw(part))


def test_streams_seeds_and_numbers_differ():
    numbers = torch.arange(1000)
    base = Draws(0, numbers).integers("cell", 2**31)
    for other in (
        Draws(0, numbers).integers("jitter", 2**31),
        Draws(1, numbers).integers("cell", 2**31),
        Draws(2**40, numbers).integers("cell", 2**31),
        Draws(0, numbers + 1000).integers("cell", 2**31),
        Draws(0, numbers + 2**33).integers("cell", 2**31),
    ):
        assert (base == other).sum() < 3


def test_integers_are_uniform():
    cells = Draws(3, torch.arange(180_000)).integers("cell", 18)
    counts = torch.bincount(cells, minlength=18).double()
    chi2 = ((counts - 10_000) ** 2 / 10_000).sum()
    assert chi2 < 45  # 17 degrees of freedom: above 45 for one seed in 5,000


def test_uniform_range_and_permutations():
    draws = Draws(0, torch.arange(2000))
    values = draws.uniform("u", (3,))
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.02
    assert torch.equal(draws.permutations("p", 7).sort(1).values, torch.arange(7).expand(2000, -1))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 300), st.integers(0, 2**63), st.integers(1, 40))
def test_every_epoch_visits_every_crop_once(size, seed, batch):
    rows = torch.cat([crop_rows(seed, n, size) for n in torch.arange(3 * size).split(batch)])
    for epoch in rows.split(size):
        assert torch.equal(epoch.sort().values, torch.arange(size))
    if size > 20:
        assert not torch.equal(rows[:size], rows[size : 2 * size])


def test_order_is_a_permutation_of_a_large_set():
    order = epoch_order(0, 5, 100_000)
    assert torch.equal(order.sort().values, torch.arange(100_000))
    correlation = torch.corrcoef(torch.stack([order.float(), torch.arange(100_000).float()]))[0, 1]
    assert abs(correlation) < 0.02
