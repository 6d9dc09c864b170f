import io
import sys
import time

import pytest

from patchit_hf.common import progress
from patchit_hf.common.console import say
from patchit_hf.common.progress import Log, Progress, _Bar


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(progress, "SOON", 2.0)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (
            100,
            "training:  18% 12.8k/71.9k, 427 patches/s, 02:18 left, accuracy 12.3% (chance 5.6%)",
        ),
        (60, "training:  18% 02:18 left, accuracy 12.3% (chance 5.6%)"),
        (46, "training:  18%, accuracy 12.3% (chance 5.6%)"),
    ],
)
def test_the_bar_gives_way_before_the_accuracy(width, shown):
    bar = _Bar(
        total=71936, unit=" patches", unit_scale=True, desc="training", file=Terminal(), ncols=width
    )
    bar.start_t, bar.n = bar._time() - 29.995, 12800
    bar.set_postfix_str("accuracy 12.3% (chance 5.6%)", refresh=False)
    assert str(bar) == shown


def test_a_wide_terminal_has_a_bar_as_wide_as_it_is():
    bar = _Bar(total=10, desc="decoding", file=Terminal(), ncols=120)
    assert len(str(bar)) == 120
    assert str(bar).startswith("decoding:   0% |  ")


def test_a_log_has_a_line_every_half_minute():
    log = Log("training", 71936, "patches", 0, now=100.0)
    lines = {}
    for second in range(100, 200):
        log.done += 256
        line = log.line(float(second), "accuracy 12.3% (chance 5.6%)")
        if line is not None:
            lines[second - 100] = line
    assert list(lines) == [2, 32, 62, 92]
    assert lines[92] == (
        "training: 23,808 of 71,936 patches (33 %), 259/s, 3 min 06 s left, "
        "accuracy 12.3% (chance 5.6%)"
    )
    assert log.end(200.0) == "training: 25,600 patches in 1 min 40 s"


def test_a_log_without_a_total_says_how_long_it_takes():
    log = Log("auditing", None, "", 0, now=0.0)
    assert [log.line(1.9), log.line(2.0), log.line(31.0), log.line(32.0)] == [
        None, "auditing: 2.0 s", None, "auditing: 32 s",
    ]  # fmt: skip


def test_what_goes_on_from_before_has_the_rate_of_now():
    log = Log("training", 1000, "crops", 500, now=0.0)
    log.done = 600
    assert log.line(10.0) == "training: 600 of 1,000 crops (60 %), 10.0/s, 40 s left"


def test_nothing_is_said_of_what_is_short_and_no_carriage_return(monkeypatch, capsys):
    with Progress("short", 3, "crops") as short:
        short.update(3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "SOON", 0.0)
    monkeypatch.setattr(progress, "TICK", 0.01)
    with Progress("longer", 4, "crops") as longer:
        longer.update(2, "half")
        while not longer.log.named:
            time.sleep(0.01)
        longer.update(2)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("longer: 2 of 4 crops (50 %), ")
    assert first.endswith(" s left, half")
    assert last.startswith("longer: 4 crops in 0.")


def test_a_terminal_is_told_that_it_goes_on(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "TICK", 0.01)
    with Progress("auditing") as bar:
        drawn = terminal.getvalue()
        bar.bar.start_t -= 3
        while terminal.getvalue() == drawn:
            time.sleep(0.01)
    assert "auditing: 00:03" in terminal.getvalue()


def test_other_processes_say_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SOON", 0.0)
    with Progress("hidden", 4, "crops", shown=False) as hidden:
        hidden.update(4)
        assert not hidden._thread.is_alive()
    assert capsys.readouterr().err == ""


def test_one_within_another_takes_its_place_and_lines_stand_above(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "_open", [])
    with Progress("training", 10, "crops"):
        before = len(terminal.getvalue())
        with Progress("evaluating", 4, "crops", leave=False) as inner:
            assert progress._open[-1] is inner
            inner.update(4)
        say("a line")
        written = terminal.getvalue()[before:]
    assert "\n" not in written.partition("a line\n")[0]  # nothing is left of the inner bar
    assert written.rpartition("a line\n")[0].endswith("\r")
    assert written.rpartition("a line\n")[2].lstrip("\r").startswith("training:   0% |")
    assert progress._open == []


def test_an_error_ends_it_without_a_line_of_its_own(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SOON", 0.0)
    opening = Progress("opening", 4, "crops")
    opening.log.named = True
    opening.__exit__(ValueError, ValueError("wrong"), None)
    assert capsys.readouterr().err == ""
