"""Files that are either the old one or the whole new one."""

import os
import stat

import pytest
import torch
from safetensors.torch import load_file

from patchit_hf.common.files import (
    adding_to,
    replacing,
    replacing_folder,
    save_weights,
    write_json,
)
from patchit_hf.training.checkpoint import save_checkpoint


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


class FailureError(Exception):
    pass


def fail_after(file):
    file.write_text("half")
    raise FailureError


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_replaced_as_a_whole(tmp_path, shared):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with replacing(file, shared=shared) as draft:
        draft.write_text("new")
        assert tmp_path in draft.parents
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    with pytest.raises(FailureError), replacing(file, shared=shared) as draft:
        fail_after(draft)
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_several_writers_have_drafts_of_their_own(tmp_path):
    file = tmp_path / "a.txt"
    with replacing(file, shared=True) as one, replacing(file, shared=True) as other:
        one.write_text("one")
        other.write_text("other")
    assert file.read_text() == "one"  # which was moved last


@pytest.mark.parametrize("shared", [False, True])
def test_a_folder_is_there_as_a_whole(tmp_path, shared):
    folder = tmp_path / "below" / "a"
    with pytest.raises(FailureError), replacing_folder(folder, shared=shared) as draft:
        fail_after(draft / "half")
    assert os.listdir(folder.parent) == []
    with replacing_folder(folder, shared=shared) as draft:
        (draft / "whole").touch()
        assert not folder.exists()
    assert (os.listdir(folder.parent), os.listdir(folder)) == (["a"], ["whole"])
    with pytest.raises(OSError), replacing_folder(folder, shared=shared):  # noqa: PT011
        pass
    assert (os.listdir(folder.parent), os.listdir(folder)) == (["a"], ["whole"])


def test_what_a_killed_process_left_of_a_folder_goes(tmp_path):
    (tmp_path / ".a.tmp").mkdir()
    (tmp_path / ".a.tmp" / "half").touch()
    with replacing_folder(tmp_path / "a") as draft:
        (draft / "whole").touch()
    assert (os.listdir(tmp_path), os.listdir(tmp_path / "a")) == (["a"], ["whole"])


def test_files_are_added_once_all_are_whole(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").write_text("old")
    with pytest.raises(FailureError), adding_to(tmp_path) as draft:
        fail_after(draft / "a")
    assert (tmp_path / "a").read_text() == "old"
    with adding_to(tmp_path) as draft:
        (draft / "a").write_text("new")
        (draft / "c").write_text("new")
    kept = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert kept == {"a": "new", "b": "old", "c": "new"}


def test_a_json_file_that_cannot_be_written_leaves_no_draft(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": 1\n}\n'
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_checkpoint_that_cannot_be_written_leaves_no_draft(tmp_path):
    layer = torch.nn.Linear(2, 3)
    optimizer = torch.optim.SGD(layer.parameters())
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 1, {}, layer, optimizer, None, {"seconds": object()}, 2)
    assert os.listdir(tmp_path) == []
    save_checkpoint(tmp_path, 1, {}, layer, optimizer, None, {"seconds": 1}, 2)
    assert os.listdir(tmp_path) == ["step-00000001"]
