"""Pushing while a training goes on, against the loopback Hub with the real client."""

import logging
import os
import threading

import pytest
import torch
from safetensors.torch import load

from patchit_hf.publish import contents
from patchit_hf.publish.background import BackgroundPush
from patchit_hf.publish.failures import Retry
from patchit_hf.publish.upload import push_folder
from tests.hub.server import Hub
from tests.publish.folders import EXPORT, QUICK, checkpoint_names, make_export, save, until

ID = "org/patchit"


@pytest.fixture
def push(hub: Hub):
    return BackgroundPush(ID, retry=QUICK)


@pytest.fixture
def gate(hub: Hub):
    """Commits wait until it is opened."""
    event = threading.Event()
    hub.on("/commit/", lambda request: event.wait(60), times=None)
    yield event
    event.set()


def names(hub: Hub) -> set[str]:
    return {name for name in hub.files(ID) if name != "metrics.jsonl"} if hub.repos else set()


def warnings(caplog) -> list[str]:
    found = [r for r in caplog.records if r.name.startswith("patchit_hf")]
    return [r.getMessage() for r in found if r.levelno >= logging.WARNING]


def committing(hub: Hub, count: int = 1):
    """Whether so many commits have begun: their files are there."""
    return lambda: hub.count("POST", "/lfs/objects/verify") >= 2 * count


def test_a_training_pushes_its_checkpoints(tmp_path, push, hub: Hub, caplog, capsys):
    for step in (2, 4, 6):
        model = save(tmp_path, step)  # and drop the one before
        push.submit(tmp_path, step)
        until(lambda step=step: push.pushed == step)
        assert names(hub) == checkpoint_names(step)
        stored = load(hub.files(ID)[f"checkpoints/step-{step:08d}/model.safetensors"])
        torch.testing.assert_close(stored, dict(model.state_dict()))
    assert push.finish(10, superseded=True)
    assert capsys.readouterr().err == ""  # no bars among those of the training
    push_folder(make_export(tmp_path), ID)
    assert set(hub.files(ID)) == EXPORT
    assert [c.title for c in hub.repo(ID).log()][1:3] == [
        f"resnet18 in training by position: checkpoint after {step} steps" for step in (6, 4)
    ]
    assert warnings(caplog) == []
    assert not list(tmp_path.glob(".push-*"))


def test_a_step_does_not_wait_and_the_newest_goes_next(tmp_path, push, hub: Hub, gate):
    save(tmp_path, 2)
    push.submit(tmp_path, 2)
    until(committing(hub))
    for step in (4, 6, 8):  # would never end if one of them waited for the first
        save(tmp_path, step)
        push.submit(tmp_path, step)
    assert not hub.files(ID)
    gate.set()
    assert push.finish(30)
    assert names(hub) == checkpoint_names(8)
    assert len(hub.repo(ID).log()) == 3  # made, 2, 8


def test_a_checkpoint_that_the_run_deletes_arrives_whole(tmp_path, push, hub: Hub):
    begin, files = threading.Event(), {}
    hub.on("^/api/models/", lambda request: begin.wait(60), times=None)
    save(tmp_path, 2)
    for path in (tmp_path / "checkpoints" / "step-00000002").iterdir():
        files[f"checkpoints/step-00000002/{path.name}"] = path.read_bytes()
    files["metrics.jsonl"] = (tmp_path / "metrics.jsonl").read_bytes()
    push.submit(tmp_path, 2)
    save(tmp_path, 4)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]
    begin.set()
    assert push.finish(30)
    assert hub.files(ID) == files


def test_a_snapshot_costs_no_space(tmp_path):
    save(tmp_path, 2)
    aside = contents.take_snapshot(tmp_path)
    for path in (tmp_path / "checkpoints").rglob("*.*"):
        assert os.path.samefile(path, aside / path.relative_to(tmp_path))
    assert not os.path.samefile(tmp_path / "metrics.jsonl", aside / "metrics.jsonl")


def test_what_a_killed_run_put_aside_is_deleted(tmp_path, push, hub: Hub):
    save(tmp_path, 2)
    contents.take_snapshot(tmp_path)
    push.submit(tmp_path, 2)
    assert push.finish(30)
    assert not list(tmp_path.glob(".push-*"))


def test_trouble_is_said_once_until_it_is_over(tmp_path, push, hub: Hub, caplog):
    caplog.set_level(logging.INFO, "patchit_hf")
    hub.stop()
    for step in (2, 4, 6):
        save(tmp_path, step)
        push.submit(tmp_path, step)
        assert not push.finish(30)
    assert push.pushed is None
    (line,) = warnings(caplog)
    assert "\n" not in line
    assert line.startswith(f"repository '{ID}': not pushed: the Hub cannot be reached: ")
    assert f"The checkpoint is safe in '{tmp_path}'; push it later with: " in line
    assert line.endswith(f"patchit push {tmp_path} {ID} (training continues)")
    hub.start()
    push.submit(tmp_path, 6)
    assert push.finish(30)
    assert caplog.messages[-1] == "the Hub has checkpoint 6; pushing works again"
    assert names(hub) == checkpoint_names(6)
    hub.fail("^/api/models/", status=403, times=None)
    for _ in range(2):
        push.submit(tmp_path, 6)
        push.finish(30)
    assert "has no right to do that (403" in warnings(caplog)[1]
    hub.heal()
    push.submit(tmp_path, 6)
    assert push.finish(30)
    hub.stop()
    push.submit(tmp_path, 6)
    assert not push.finish(30)
    assert "the Hub cannot be reached: " in warnings(caplog)[2]
    assert len(warnings(caplog)) == 3


def test_a_waiting_retry_makes_way_for_a_newer_checkpoint(tmp_path, hub: Hub):
    push = BackgroundPush(ID, retry=Retry(attempts=3, base_seconds=100, limit_seconds=1000))
    hub.fail("/commit/", times=1)
    save(tmp_path, 2)
    push.submit(tmp_path, 2)
    until(lambda: hub.count("POST", "/commit/", 503) == 1)
    save(tmp_path, 4)
    push.submit(tmp_path, 4)
    assert push.finish(30)
    assert names(hub) == checkpoint_names(4)
    assert len(hub.repo(ID).log()) == 2


def test_an_upload_that_takes_too_long_is_given_up(tmp_path, push, hub: Hub, gate, caplog):
    save(tmp_path, 2)
    push.submit(tmp_path, 2)
    until(committing(hub))
    assert not push.finish(0.05)
    (line,) = warnings(caplog)
    assert line.startswith("checkpoint 2 is not on the Hub yet: the upload was given up after 0 s.")
    assert line.endswith(f"push it later with: patchit push {tmp_path} {ID}")
    assert not list(tmp_path.glob(".push-*"))
    gate.set()


def test_a_superseded_checkpoint_is_dropped_in_silence(tmp_path, push, hub: Hub, gate, caplog):
    for step in (2, 4):
        save(tmp_path, step)
        push.submit(tmp_path, step)
        until(committing(hub))
    assert not push.finish(0.05, superseded=True)
    gate.set()
    until(lambda: push.pushed == 2)
    assert not push.finish(30)
    assert names(hub) == checkpoint_names(2)
    assert warnings(caplog) == []


def test_a_late_checkpoint_does_not_come_after_the_export(tmp_path, push, hub: Hub, caplog):
    gate = threading.Event()
    hub.on("/commit/", lambda request: gate.wait(60))
    save(tmp_path, 2)
    push.submit(tmp_path, 2)
    until(committing(hub))
    assert not push.finish(0.05, superseded=True)
    push_folder(make_export(tmp_path), ID, retry=QUICK)
    gate.set()
    until(lambda: hub.count("POST", "/commit/", 412) == 1)
    assert not push.finish(30)
    assert set(hub.files(ID)) == EXPORT
    assert warnings(caplog) == []


def test_what_cannot_be_put_aside(tmp_path, push, hub: Hub, caplog):
    push.submit(tmp_path, 2)
    push.submit(tmp_path, 4)
    (line,) = warnings(caplog)
    assert line.startswith("checkpoint 2 is not pushed: ")
    assert push.finish()
    assert hub.log == []
