"""The `hub` fixture. `tests/conftest.py` imports it for all tests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from .server import Hub

SOON = SimpleNamespace(**vars(time) | {"sleep": lambda seconds: time.sleep(seconds / 20)})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running loopback Hub, without repositories.

    While it runs, this process has the environment of `hub.env()`, and a `huggingface_hub` that
    was imported before behaves as if it had been imported in it: its address, its token, its
    caches (under `tmp_path`), no Xet. It tries again after a twentieth of its usual wait. Other
    libraries that read `HF_ENDPOINT` or `HF_HOME` on import (transformers, datasets) want a process
    of their own: `hub.run`.
    """
    constants = import_module("huggingface_hub.constants")
    session = import_module("huggingface_hub.utils")
    # Its name in version 1, and before that.
    end_session = getattr(session, "close_session", None) or session.reset_sessions
    client = import_module("huggingface_hub.hf_api")
    server = Hub(tmp_path / "client").start()
    env = server.env()
    for name in os.environ.keys() - env.keys():
        monkeypatch.delenv(name)
    for name in env.keys() - {"PYTEST_CURRENT_TEST"}:
        monkeypatch.setenv(name, env[name])
    home = Path(env["HF_HOME"])
    template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": server.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value, raising=False)
    monkeypatch.setattr(client.api, "endpoint", server.endpoint)
    for name in ("file_download", "utils._http"):
        monkeypatch.setattr(f"huggingface_hub.{name}.time", SOON)
    end_session()
    yield server
    end_session()
    server.stop()
