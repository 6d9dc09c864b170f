"""Going on from a pushed checkpoint, against the loopback Hub with the real client."""

import huggingface_hub.constants
import pytest
import torch

from patchit_hf.common.errors import InputError
from patchit_hf.publish.fetch import fetch_checkpoint
from patchit_hf.publish.upload import push_folder
from patchit_hf.training.checkpoint import read_checkpoint, restore
from tests.hub.server import Hub
from tests.publish.folders import QUICK, make_export, save

ID = "org/patchit"


def fetch(name=f"hub:{ID}"):
    return fetch_checkpoint(name, retry=QUICK)


@pytest.fixture
def pushed(tmp_path, hub: Hub):
    """The model of a run of four steps that is on the Hub."""
    model = save(tmp_path / "run", 4)
    push_folder(tmp_path / "run", ID)
    return model


def read(folder, config=None):
    model = torch.nn.Linear(100, 50)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    config = config or {"backbone": "resnet18", "task": "position"}
    checkpoint = read_checkpoint(folder)
    restore(checkpoint, config, model, optimizer, None)
    return checkpoint.step, model, optimizer


def test_a_checkpoint_comes_back(pushed, tmp_path):
    step, model, optimizer = read(fetch())
    assert step == 4
    torch.testing.assert_close(model.state_dict(), pushed.state_dict())
    assert optimizer.state_dict()["state"][0]["momentum_buffer"].shape == (50, 100)
    assert (fetch().parent.parent / "metrics.jsonl").read_text() == '{"step": 4}\n'
    with pytest.raises(InputError, match="belongs to another run; these differ: task"):
        read(fetch(), {"backbone": "resnet18", "task": "pair"})


def test_the_newest_and_nothing_else_is_read(pushed, tmp_path, hub: Hub):
    names = [f"checkpoints/step-{n:08d}/{x}" for n in (2, 6, 8) for x in ("state.json", "evil.bin")]
    files = hub.files(ID) | dict.fromkeys([*names, "README.md"], b"{}")
    hub.create("org/other", files)
    folder = fetch("hub:org/other")
    found = {path.name for path in folder.parent.parent.rglob("*") if path.is_file()}
    assert (folder.name, found) == (
        "step-00000004",
        {"state.json", "model.safetensors", "optimizer.pt", "SHA256SUMS", "metrics.jsonl"},
    )


def test_a_revision(pushed, tmp_path, hub: Hub):
    first = hub.repo(ID).head()
    save(tmp_path / "run", 6)
    push_folder(tmp_path / "run", ID, revision="trial/a")
    make_export(tmp_path / "run")
    push_folder(tmp_path / "run", ID)
    hub.repo(ID).tags["v1"] = first
    assert read(fetch(f"hub:{ID}@trial/a"))[0] == 6
    assert read(fetch(f"hub:{ID}@{first}"))[0] == read(fetch(f"hub:{ID}@v1"))[0] == 4
    with pytest.raises(
        InputError, match=f"--resume 'hub:{ID}': it has no checkpoint; those of a finish"
    ):
        fetch()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hub:org/absent", "'hub:org/absent': no such repository, or the token has no"),
        (f"hub:{ID}@v2", "the repository has no revision 'v2'"),
        ("hub:patchit", "must be org/name, with the name of a user or an organisation"),
        ("hub:org/a b", "not a valid repository name"),
        ("hub:", "not a valid repository name"),
    ],
)
def test_what_is_not_there(pushed, name, words):
    with pytest.raises(InputError, match=r"^--resume 'hub:") as error:
        fetch(name)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_trouble_that_passes(pushed, hub: Hub):
    hub.fail("^/api/models/", method="GET", status=503, times=2)
    hub.cut("^/storage/", 1000, method="GET")
    assert read(fetch())[0] == 4


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not accept the token"),
        (403, "has no right to do that"),
        (500, "the Hub has an internal problem"),
    ],
)
def test_trouble_that_stays(pushed, hub: Hub, status, words):
    hub.fail("^/api/models/", status=status, times=None)
    with pytest.raises(InputError, match=words):
        fetch()


def test_a_dead_storage(pushed, hub: Hub):
    hub.fail("^/storage/", method="GET", status=404, times=None)
    with pytest.raises(InputError, match=r"^--resume 'hub:org/patchit': .*404"):
        fetch()


def test_somebody_pushes_in_between(pushed, tmp_path, hub: Hub):
    save(tmp_path / "run", 6)
    once = [lambda: push_folder(tmp_path / "run", ID)]
    hub.on("^/api/models/", lambda request: once.pop()() if once else None, after=1, times=None)
    assert read(fetch())[0] == 6


def test_without_a_network_the_cache_is_taken(pushed, hub: Hub, monkeypatch):
    folder = fetch()
    hub.stop()
    assert fetch() == folder
    with pytest.raises(
        InputError, match=r"cannot be reached: .*, and no checkpoint of it is cached"
    ):
        fetch("hub:org/other")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetch() == folder
    with pytest.raises(
        InputError, match=r"'hub:org/other': offline mode is on .*no checkpoint of it is cached"
    ):
        fetch("hub:org/other")
