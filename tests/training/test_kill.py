"""SIGKILL at any instant: the next start ends as if nothing had happened. See ``tests/kill.py``."""

import pytest

from tests.kill import FINETUNE, PRETRAIN, kills_at_events, random_kills


@pytest.mark.e2e
def test_a_killed_run_ends_as_an_uninterrupted_one(server):
    """At one of every thirty events; the slow test takes all."""
    result = kills_at_events(server, PRETRAIN, every=30, first=12)
    assert result["events"] >= 40
    assert result["kills"] >= 1
    assert result["other ends"] == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [PRETRAIN, FINETUNE], ids=lambda words: words[0])
def test_at_every_event(server, words):
    result = kills_at_events(server, words)
    assert result["kills"] == result["events"]
    assert result["other ends"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "processes", "kills"),
    [(PRETRAIN, 1, 50), (PRETRAIN, 2, 25), (FINETUNE, 1, 25)],
    ids=["pretrain", "two processes", "finetune"],
)
def test_at_random_instants(server, words, processes, kills):
    result = random_kills(server, words, kills, 7, processes)
    assert result["kills"] == kills
    assert result["other ends"] == []
