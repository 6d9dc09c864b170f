"""A Hub that cannot be reached costs a moment, not forty seconds."""

import logging
import socket

import pytest
from huggingface_hub import constants

from patchit_hf.common import online
from patchit_hf.common.errors import InputError
from patchit_hf.models.names import check_init


@pytest.fixture
def closed_port(monkeypatch):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(online, "getproxies", dict)


def test_the_cache_is_used_where_the_hub_cannot_be_reached(closed_port, caplog):
    caplog.set_level(logging.WARNING)
    assert online.unreachable().startswith("127.0.0.1 cannot be reached (")
    with online.cached_if_unreachable("--init org/name"):
        assert online.offline()
    assert not online.offline()
    (record,) = caplog.records
    assert record.getMessage().startswith("--init org/name: 127.0.0.1 cannot be reached")
    assert record.getMessage().endswith("only what is in the cache can be used")


def test_a_proxy_is_left_to_the_client(closed_port, monkeypatch):
    monkeypatch.setattr(online, "getproxies", lambda: {"http": "http://proxy"})
    assert online.unreachable() is None


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("tim", "did you mean timm?"),
        ("runs/mien", "no such folder; did you mean runs/mine? (hf-hub:runs/mien asks the Hub)"),
        ("w.safetensors", "no such file"),
        ("runs/w.safetensorz/x", "neither a folder nor a known source"),
    ],
)
def test_initial_weights_that_cannot_be(source, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    with pytest.raises(InputError) as error:
        check_init(source)
    assert line in str(error.value)


@pytest.mark.parametrize(
    "source", ["random", "timm", "timm:a1", "org/name", "org/name@v1", "hf-hub:runs/x", "runs/mine"]
)
def test_initial_weights_that_may_be(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    check_init(source)
