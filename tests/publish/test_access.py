"""Asking before the work whether its push will be let in, against the loopback Hub."""

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from patchit_hf.common.errors import InputError
from patchit_hf.publish.access import check_push
from tests.hub.server import Hub

ID = "org/patchit"


def refusal(name=ID, **options) -> str:
    with pytest.raises(InputError) as error:
        check_push(name, **options)
    line = str(error.value)
    assert line.startswith(f"--hub-model-id '{name}': ")
    assert "\n" not in line
    return line


def test_one_request_where_the_repository_is(hub: Hub):
    hub.create(ID)
    check_push(ID)
    assert len(hub.log) == 1


@pytest.mark.parametrize("name", [ID, "tester/mine"])
def test_what_is_not_there_is_not_made(hub: Hub, name):
    check_push(name)
    assert hub.repos == {}
    assert len(hub.log) == 2


def test_the_name_of_somebody_else(hub: Hub):
    line = refusal("other/patchit")
    assert line.endswith("the token may not write to 'other', only to: tester, org")
    hub.create("other/patchit")
    assert "has no right to do that (403" in refusal("other/patchit")


@pytest.mark.parametrize("there", [True, False])
def test_tokens(hub: Hub, there, monkeypatch):
    if there:
        hub.create(ID)
    wrong, reads = HfApi(token="hf_wrong"), HfApi(token=hub.read_token)
    assert "does not accept the token (401)" in refusal(api=wrong)
    words = "has no right to do that (403" if there else "the token is read-only"
    assert words in refusal(api=reads)
    monkeypatch.delenv("HF_TOKEN")
    asked = len(hub.log)
    assert "pushing needs a token; log in with: hf auth login" in refusal()
    assert len(hub.log) == asked


def test_private(hub: Hub):
    check_push(ID, private=True)
    hub.create(ID)
    assert "the repository exists and is public" in refusal(private=True)
    hub.create(ID, private=True)
    check_push(ID, private=True)


@pytest.mark.parametrize("name", ["patchit", "a/b/c", "org/a b", ""])
def test_names(hub: Hub, name):
    assert "org/name" in refusal(name) or "not a valid repository name" in refusal(name)
    assert hub.log == []


def test_offline_mode(hub: Hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    line = refusal()
    assert "offline mode (HF_HUB_OFFLINE)" in line
    assert line.endswith(f"patchit push FOLDER {ID}")


@pytest.mark.parametrize("status", [429, 500, 503, None])
def test_a_hub_that_is_not_there_is_a_warning(hub: Hub, caplog, status):
    hub.fail("^/api/", status=status, times=None) if status else hub.stop()
    check_push(ID)
    (line,) = [r.getMessage() for r in caplog.records if r.name.startswith("patchit_hf")]
    assert line.endswith("; the run starts, and pushes when it can")


def test_a_hub_that_does_not_answer_is_a_warning(hub: Hub, caplog):
    hub.delay("^/api/", 0.5)
    check_push(ID, seconds=0.05)
    assert "no answer in 0 s; the run starts" in caplog.text


def test_data_sets(hub: Hub, caplog):
    check_push("org/crops", repo_type="dataset")
    hub.create("datasets/org/crops", {"README.md": b"-"})
    check_push("org/crops", repo_type="dataset")
    check_push("org/crops", private=True)  # a model of this name would be another repository
    named = "^--push-to-hub 'org/crops': "
    with pytest.raises(InputError, match=f"{named}it must be private"):
        check_push("org/crops", repo_type="dataset", private=True)
    with pytest.raises(InputError, match=f"{named}the token has no right to do that"):
        check_push("org/crops", repo_type="dataset", api=HfApi(token=hub.read_token))
    assert not caplog.records
    hub.delay("^/api/", 0.5)
    check_push("org/crops", repo_type="dataset", seconds=0.05)
    assert "no answer in 0 s; the crops are cut, and pushed when they are" in caplog.text


def test_offline_mode_of_data_sets(hub: Hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"give --output instead.*--push-to-hub later$"):
        check_push("org/crops", repo_type="dataset")
