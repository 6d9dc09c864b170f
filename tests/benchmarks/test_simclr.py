"""The contender of claim.py that is not ours: SimCLR's loss, views and rates."""

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import simclr


def test_the_loss_is_that_of_a_loop():
    embeddings = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    losses = []
    for here in range(6):
        similar = {there: math.exp(float(unit[here] @ unit[there]) / 0.1) for there in range(6)}
        del similar[here]
        losses.append(-math.log(similar[(here + 3) % 6] / sum(similar.values())))
    assert simclr.nt_xent(embeddings).item() == pytest.approx(sum(losses) / 6, rel=1e-5)


def test_views_are_of_the_asked_size_and_differ():
    torch.manual_seed(0)
    square = torch.randint(0, 256, (3, simclr.SIDE, simclr.SIDE), dtype=torch.uint8)
    view = simclr.views((48, 24), 0.67)
    one, two = view(square), view(square)
    assert one.shape == two.shape == (3, 48, 24)
    assert one.dtype == torch.float32
    assert not torch.equal(one, two)


def test_the_rate_rises_for_a_tenth_and_ends_near_zero():
    rates = [simclr.rate_at(step, 40, 0.3) for step in range(40)]
    assert max(rates) == rates[3] == rates[4] == 0.3
    assert rates[0] == pytest.approx(0.075)
    assert rates[-1] < 0.002
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_every_crop_is_seen_once_an_epoch():
    torch.manual_seed(0)
    rows = simclr.batches(10, 4)
    seen = [next(rows) for _ in range(4)]
    assert all(len(set(torch.cat(seen[i : i + 2]).tolist())) == 8 for i in (0, 2))
