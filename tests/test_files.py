"""Files that are either the old one or the whole new one."""

import os
import stat

import pytest
import torch
from safetensors.torch import load_file

from patchit_hf.files import save_weights


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_weights_have_the_mode_of_any_new_file(tmp_path, umask, monkeypatch):
    layer, path = torch.nn.Linear(2, 3), tmp_path / "model.safetensors"
    path.touch(0o600)
    asked = []
    real = os.umask
    # Other threads make files at the same time: nothing may touch what is the whole process's.
    monkeypatch.setattr(os, "umask", lambda mask: asked.append(mask) or real(mask))
    save_weights(layer, path)
    assert asked == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert torch.equal(load_file(path)["weight"], layer.weight)
    assert os.listdir(tmp_path) == ["model.safetensors"]
