"""Pushing a run's folder, against the loopback Hub with the real client."""

import dataclasses
import re
import shlex
import signal
import sys
import threading
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import huggingface_hub.constants
import pytest
import timm
import torch

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task, figures
from patchit_hf.common.errors import InputError
from patchit_hf.publish.contents import SHOWS_PEOPLE
from patchit_hf.publish.failures import Retry
from patchit_hf.publish.hub import main
from patchit_hf.publish.upload import NotPushedError, push_folder
from tests import own_process
from tests.conftest import train_and_kill
from tests.hub.server import Hub
from tests.publish.folders import (
    EXPORT,
    PICTURES,
    QUICK,
    checkpoint_names,
    make_export,
    save,
    until,
)

ID = "org/patchit"
FILES = {"README.md", "config.json", "head/model.safetensors", "model.safetensors", "patchit.json"}


@pytest.fixture
def folder(tmp_path):
    return make_export(tmp_path / "my run")


def push(folder, **options):
    return push_folder(folder, ID, **{"retry": QUICK, **options})


def put_count(hub: Hub, status=200) -> int:
    return hub.count("PUT", "^/storage/", status)


def commits(hub: Hub, revision="main") -> list[str]:
    return [commit.title for commit in hub.repo(ID).log(revision)]


# What goes up.


@pytest.mark.e2e
def test_a_run_pushes_its_export_which_timm_loads(tmp_path, crops, small, hub: Hub):
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"), max_steps=3, train_batch_size=8, save_steps=2,
        hub_model_id=ID, push_to_hub=True,
    )  # fmt: skip
    task = create_task("position", (50, 25), **small)
    PatchTaskTrainer("test_resnet", args, task, crops).train()
    files = set(hub.files(ID))
    assert files >= FILES | {"metrics.jsonl"}
    assert not {name for name in files if name.startswith("checkpoints/") or name == "run.json"}
    there, here = (
        timm.create_model(source, pretrained=True).eval()(torch.ones(1, 3, 32, 32))
        for source in (f"hf-hub:{ID}", f"local-dir:{tmp_path / 'run'}")
    )
    torch.testing.assert_close(there, here)


def test_an_export_is_one_commit(folder, hub: Hub):
    url = push(folder)
    assert hub.files(ID) == {name: (folder / name).read_bytes() for name in EXPORT}
    title = "resnet18 pretrained with position on crops: held-out accuracy 43.2%"
    assert commits(hub) == [title, "initial commit"]
    assert url == f"{hub.endpoint}/{ID}/commit/{hub.repo(ID).head()}"


def test_a_message_of_ones_own(folder, hub: Hub):
    push(folder, message="As in the paper")
    assert commits(hub)[0] == "As in the paper"


def test_pushing_again_sends_nothing(folder, hub: Hub):
    url = push(folder)
    sent = list(hub.repo(ID).uploads)
    assert push(folder) == url
    assert hub.repo(ID).uploads == sent
    assert hub.count("POST", "/commit/") == 1


def test_only_what_changed_is_sent(folder, hub: Hub):
    push(folder)
    puts, sent = put_count(hub), len(hub.repo(ID).uploads)
    (folder / "config.json").write_text('{"a": 1}')
    push(folder)
    assert len(hub.repo(ID).uploads) == sent + 1
    assert put_count(hub) == puts
    assert hub.files(ID)["config.json"] == b'{"a": 1}'


def test_files_of_others_stay(folder, hub: Hub):
    hub.create(ID, {"LICENSE": b"mine", "checkpoints/mine.txt": b"a", "figures/a.txt": b"b"})
    push(folder)
    assert set(hub.files(ID)) == EXPORT | {"LICENSE", "checkpoints/mine.txt", "figures/a.txt"}


def test_people_are_shown_only_if_asked(folder, hub: Hub):
    push(folder, include_people=True)
    assert set(hub.files(ID)) == EXPORT | PICTURES
    push(folder)
    assert set(hub.files(ID)) == EXPORT


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"name": "people"}, True),
        ({"name": "people", "rendered": False}, False),
        ({"rendered": True}, True),
    ],
)
def test_rendered_people_may_be_shown(tmp_path, hub: Hub, data, shown):
    push(make_export(tmp_path / "run", **data))
    assert (PICTURES <= set(hub.files(ID))) is shown


def test_an_unfinished_run_pushes_its_newest_checkpoint(tmp_path, hub: Hub):
    for step in (2, 4):
        save(tmp_path, step, limit=2)
    (tmp_path / "checkpoints" / "step-00000005").mkdir()  # not whole
    push(tmp_path)
    assert set(hub.files(ID)) == checkpoint_names(4) | {"metrics.jsonl"}
    assert commits(hub)[0] == "resnet18 in training by position: checkpoint after 4 steps"
    save(tmp_path, 6)
    push(tmp_path)
    assert set(hub.files(ID)) == checkpoint_names(6) | {"metrics.jsonl"}


def test_the_finished_export_takes_the_place_of_checkpoints(tmp_path, hub: Hub):
    save(tmp_path, 4)
    push(tmp_path)
    push(make_export(tmp_path))
    assert set(hub.files(ID)) == EXPORT
    assert len(commits(hub)) == 3
    before = hub.repo(ID).log()[1]
    assert set(hub.files(ID, before.oid)) == checkpoint_names(4) | {"metrics.jsonl"}


def test_what_is_no_run_is_not_pushed(tmp_path):
    with pytest.raises(
        InputError, match=r"not an export: it has neither patchit\.json nor a checkp"
    ):
        push(tmp_path)


def test_the_figures_that_show_people():
    assert figures.SHOWS_PEOPLE == SHOWS_PEOPLE


# Where to.


def test_private(folder, hub: Hub):
    push(folder, private=True)
    assert hub.repo(ID).private
    push(folder, private=True)


def test_what_is_to_be_private_does_not_become_public(folder, hub: Hub):
    hub.create(ID)
    with pytest.raises(InputError, match="the repository exists and is public"):
        push(folder, private=True)
    assert hub.files(ID) == {}


def test_a_branch(folder, hub: Hub):
    push(folder, revision="trial/a")
    assert hub.files(ID) == {}
    push(folder, revision="main")
    push(folder, revision="trial/b")
    assert set(hub.files(ID, "trial/a")) == set(hub.files(ID, "trial/b")) == EXPORT
    assert put_count(hub) == 3  # of two weights and a picture, once each


def test_a_tag_is_no_branch(folder, hub: Hub):
    push(folder)
    hub.repo(ID).tags["v1"] = hub.repo(ID).head()
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match="'v1' is not a branch"):
        push(folder, revision="v1")


@pytest.mark.parametrize("name", ["patchit", "a/b/c", "a b/c", "org/x--y"])
def test_what_is_no_repository(folder, hub: Hub, name):
    with pytest.raises(InputError, match=f"repository '{name}': not pushed: "):
        push_folder(folder, name)
    assert hub.log == []


# Trouble that passes.

TROUBLE = {
    "create, 500": lambda hub: hub.fail("/repos/create", status=500, times=2),
    "info, 503": lambda hub: hub.fail("^/api/models/[^/]+/[^/]+$", status=503, times=2),
    "info, 429": lambda hub: hub.fail("^/api/models/", status=429, headers={"Retry-After": "0"}),
    "info, cut": lambda hub: hub.cut("^/api/models/", 10, method="GET"),
    "info, unreadable": lambda hub: hub.cut("/validate-yaml", 3),
    "commit, 409": lambda hub: hub.fail("/commit/", status=409),
    "commit, 500": lambda hub: hub.fail("/commit/", status=500, times=2),
    "commit, 502": lambda hub: hub.fail("/commit/", status=502),
    "commit, 504": lambda hub: hub.fail("/commit/", status=504),
    "commit, cut": lambda hub: hub.cut("/commit/", 1000, upload=True),
    "preupload, 503": lambda hub: hub.fail("/preupload/", status=503),
    "preupload, cut": lambda hub: hub.cut("/preupload/", 10),
    "batch, 500": lambda hub: hub.fail("/objects/batch", status=500),
    "batch, cut": lambda hub: hub.cut("/objects/batch", 10),
    "verify, 503": lambda hub: hub.fail("/objects/verify", status=503),
    "storage, link run out": lambda hub: hub.fail("^/storage/", method="PUT", status=403, after=1),
    "storage, 500": lambda hub: hub.fail("^/storage/", method="PUT", status=500),
    "storage, cut": lambda hub: hub.cut("^/storage/", 1000, method="PUT", upload=True),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_that_passes(folder, hub: Hub, name):
    TROUBLE[name](hub)
    push(folder)
    assert set(hub.files(ID)) == EXPORT
    assert len(commits(hub)) == 2
    assert put_count(hub) == 3  # nothing that arrived was sent twice


def test_a_lost_answer_makes_no_second_commit(folder, hub: Hub):
    hub.cut("/commit/", None)
    push(folder)
    assert len(commits(hub)) == 2


def test_somebody_pushes_in_between(folder, hub: Hub):
    push(folder)
    (folder / "config.json").write_text("[]")
    hub.on("/preupload/", lambda request: hub.advance(ID, path="LICENSE"))
    push(folder)
    assert hub.count("POST", "/commit/", 412) == 1
    assert set(hub.files(ID)) == EXPORT | {"LICENSE"}
    assert hub.files(ID)["config.json"] == b"[]"


def test_somebody_takes_the_checkpoint_away_in_between(tmp_path, hub: Hub):
    save(tmp_path, 2)
    push(tmp_path)
    save(tmp_path, 4)

    def delete(request):
        names = [{"key": "deletedFile", "value": {"path": name}} for name in checkpoint_names(2)]
        hub.repo(ID).commit("main", names, {}, {"summary": "tidied"})

    hub.on("/preupload/", delete)
    push(tmp_path)
    assert set(hub.files(ID)) == checkpoint_names(4) | {"metrics.jsonl"}


# Trouble that stays.


def refusal(folder, **options) -> str:
    """The one line of a push that fails, after a look at what it promises."""
    with pytest.raises(NotPushedError) as error:
        push(folder, **options)
    line = str(error.value)
    assert "\n" not in line
    assert "Traceback" not in line
    assert f"The export is safe in {str(folder)!r}; push it later with: " in line
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*")} >= FILES
    return line


@pytest.mark.parametrize(
    "route", ["^/api/models/", "/validate-yaml", "/preupload/", "/objects/batch", "/commit/"]
)
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, r"the Hub rejects the request \(400: Injected failure\)"),
        (401, r"does not accept the token \(401\); log in with: hf auth login"),
        (403, r"has no right to do that \(403: Injected failure\)"),
    ],
)
def test_a_refusal_is_not_tried_again(folder, hub: Hub, route, status, words):
    if (route, status) == ("/validate-yaml", 400):
        words = "Invalid metadata in README.md"
    hub.create(ID)
    hub.fail(route, status=status, times=None)
    assert re.search(words, refusal(folder))
    assert sum(entry.status == status for entry in hub.log) == 1
    assert hub.files(ID) == {}
    hub.heal()
    push(folder)
    assert set(hub.files(ID)) == EXPORT


@pytest.mark.parametrize(
    ("route", "status", "words"),
    [
        ("/commit/", 409, "another operation is in progress there (409: Injected failure)"),
        ("/commit/", 412, "someone else keeps pushing at the same time (412)"),
        ("/commit/", 429, "too many requests to the Hub (429)"),
        ("/commit/", 503, "the Hub has an internal problem (503: Injected failure)"),
    ],
)
def test_trouble_that_stays(folder, hub: Hub, route, status, words):
    hub.fail(route, status=status, times=None)
    assert words in refusal(folder)
    assert hub.count("POST", route, status) == QUICK.attempts
    assert hub.files(ID) == {}
    hub.heal()
    puts = put_count(hub)
    push(folder)
    assert set(hub.files(ID)) == EXPORT
    assert put_count(hub) == puts == 3


def test_a_bad_card_is_refused(folder, hub: Hub):
    hub.yaml_errors = ["library_name must be a string"]
    assert "Invalid metadata in README.md. - library_name must be a string." in refusal(folder)


def test_a_wrong_token(folder, hub: Hub):
    line = refusal(folder, api=huggingface_hub.HfApi(endpoint=hub.endpoint, token="hf_wrong"))
    assert "does not accept the token (401)" in line
    line = refusal(folder, api=huggingface_hub.HfApi(endpoint=hub.endpoint, token=hub.read_token))
    assert "has no right to do that (403" in line


def test_someone_elses_private_repository(folder, hub: Hub):
    hub.create(ID, private=True)
    token = hub.add_user("stranger")
    line = refusal(folder, api=huggingface_hub.HfApi(endpoint=hub.endpoint, token=token))
    assert "has no right to do that (403" in line


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_a_wait_that_is_too_long_is_not_waited_for(folder, hub: Hub, kind):
    date = format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True)
    value = {"seconds": "3600", "date": date}[kind]
    hub.fail("/commit/", status=429, times=None, headers={"Retry-After": value})
    assert re.search(r"the Hub \(429\) and asks to wait for 3[56]\d\d s\.", refusal(folder))
    assert hub.count("POST", "/commit/", 429) == 1


def test_a_rate_limit_says_when_it_ends(folder, hub: Hub):
    headers = {"RateLimit": '"api";r=0;t=1800'}
    hub.fail("/commit/", status=429, times=None, headers=headers)
    assert "asks to wait for 1800 s" in refusal(folder)


def test_a_wait_that_was_asked_for_is_kept(folder, hub: Hub):
    hub.fail("/commit/", status=503, headers={"Retry-After": "0"})
    push(folder, retry=Retry(attempts=2, base_seconds=1000, limit_seconds=20))
    assert set(hub.files(ID)) == EXPORT


def test_no_network(folder, hub: Hub):
    hub.stop()
    assert "the Hub cannot be reached: " in refusal(folder)
    hub.start()
    push(folder)
    assert set(hub.files(ID)) == EXPORT


def test_the_network_comes_back(folder, hub: Hub):
    hub.stop()
    timer = threading.Timer(0.2, hub.start)
    timer.start()
    push(folder, retry=Retry(attempts=50, base_seconds=0.01, limit_seconds=60))
    timer.join()
    assert set(hub.files(ID)) == EXPORT


def test_offline_mode_asks_nobody(folder, hub: Hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "offline mode is on (HF_HUB_OFFLINE)" in refusal(folder)
    assert hub.log == []


def test_no_token(folder, hub: Hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "does not accept the token (401); log in with: hf auth login" in refusal(folder)


# Interrupted, and the command line.


@pytest.mark.e2e
def test_a_killed_upload_goes_on_where_it_was(folder, hub: Hub):
    process = own_process.start(["-m", "patchit_hf.publish.hub", folder, ID], env=hub.env())
    begun = []

    def act(request):
        begun.append(request)
        if len(begun) == 2:
            process.kill()

    hub.on("^/storage/", act, method="PUT", times=None)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    until(lambda: hub.count("PUT", "^/storage/") == len(begun))
    hub.heal()
    assert hub.files(ID) == {}
    arrived, puts = len(hub.repo(ID).lfs), len(begun)
    assert arrived >= 1
    assert main([str(folder), ID]) == 0
    assert set(hub.files(ID)) == EXPORT
    assert hub.count("PUT", "^/storage/") - puts == 3 - arrived


@pytest.mark.e2e
def test_the_command_that_a_refusal_names(folder, hub: Hub):
    hub.create(ID, private=True)
    hub.fail("/commit/", status=403)
    line = refusal(folder, private=True, revision="trial", message="It's", include_people=True)
    words = shlex.split(line.partition("push it later with: ")[2])
    assert words[:2] == ["patchit", "push"]
    done = hub.run([sys.executable, "-m", "patchit_hf", *words[1:]])
    assert done.stdout == f"{hub.endpoint}/{ID}/commit/{hub.repo(ID).head('trial')}\n"
    assert done.stderr == ""
    assert set(hub.files(ID, "trial")) == EXPORT | PICTURES
    assert commits(hub, "trial")[0] == "It's"


def test_the_command_says_what_is_wrong(tmp_path, hub: Hub, capsys):
    assert main([str(tmp_path), ID]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: '{tmp_path}': not an export")


# While training.


def _args(folder, **kwargs):
    return TrainingArguments(
        output_dir=str(folder), max_steps=6, train_batch_size=8, save_steps=2, hub_model_id=ID,
        push_to_hub=True, figures=False, **kwargs,
    )  # fmt: skip


@pytest.mark.e2e
def test_a_killed_run_goes_on_elsewhere_from_what_it_pushed(tmp_path, crops, small, hub: Hub):
    """Bit for bit the uninterrupted run, from the Hub alone."""
    task = create_task("position", (50, 25), **small)
    plain = dataclasses.replace(_args(tmp_path / "plain"), push_to_hub=False)
    whole = PatchTaskTrainer("test_resnet", plain, task, crops)
    whole.train()
    killed = PatchTaskTrainer("test_resnet", _args(tmp_path / "killed"), task, crops)

    def second_checkpoint_is_up():
        assert killed.hub.background.finish(30)

    train_and_kill(killed, 3, second_checkpoint_is_up)
    assert any(name.startswith("checkpoints/step-00000004/") for name in hub.files(ID))
    elsewhere = _args(tmp_path / "elsewhere", resume_from_checkpoint=f"hub:{ID}")
    resumed = PatchTaskTrainer("test_resnet", elsewhere, task, crops)
    resumed.train()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    names = set(hub.files(ID))
    assert names >= FILES
    assert not any(name.startswith("checkpoints/") for name in names)
