"""A run that goes on notices that its images changed, in every mode, and says which."""

import json
import os
import re
import shutil

import datasets
import numpy as np
import pytest

from patchit_hf.data import content_hashes
from patchit_hf.data.content_hashes import contents_of_folder, contents_of_rows
from patchit_hf.data.contents import Contents, read_contents, write_contents
from patchit_hf.data.rows import ImageRows
from patchit_hf.data.source import load_crops
from patchit_hf.data.store import open_crops
from patchit_hf.finetune import main as finetune
from patchit_hf.pretrain import main
from tests.conftest import make_crops
from tests.data.spoilt import saved

MODES = {"cached": [], "on the fly": ["--crop-cache-gb", "0"], "streamed": ["--streaming"]}


@pytest.fixture
def folder(tmp_path):
    """Images in two splits, with labels."""
    root = tmp_path / "crops"
    for number, image in enumerate(make_crops(30)):
        part = "validation" if number % 5 == 0 else "train"
        file = root / part / "ab"[number % 2] / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(saved(image))
    return root


def _train(folder, run, *more):
    return main([
        "--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "8", "--max-steps",
        "4", "--task-kwargs", "rows=3", "cols=2", "patch_size=8", "--no-figures", "--no-audit",
        "--workers", "0", "--save-every", "1", "--save-limit", "9", "--eval-every", "0",
        "--dataset", str(folder),
        "--output-dir", str(run), *more,
    ])  # fmt: skip


@pytest.fixture
def begun(folder, tmp_path):
    """A function: a run of two steps of four, in a mode."""

    def begin(mode):
        run = tmp_path / mode
        assert _train(folder, run, *MODES[mode]) == 0
        (run / "patchit.json").unlink()  # as if it had been stopped
        for step in ("step-00000003", "step-00000004"):
            shutil.rmtree(run / "checkpoints" / step, ignore_errors=True)
        return run

    return begin


def _keep_time(file, content):
    state = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def _changed_train(folder):
    _keep_time(folder / "train" / "b" / "01.png", saved(make_crops(1, seed=9)[0]))
    return r"(train: 1 changed \(b/01.png\)|the stream: 1 changed \(b/01.png\))"


def _changed_validation(folder):
    _keep_time(folder / "validation" / "a" / "10.png", saved(make_crops(1, seed=9)[0]))
    return r"validation: 1 changed|1 changed \(a/10.png\)"


def _removed(folder):
    (folder / "train" / "b" / "03.png").unlink()
    return r"1 gone \(b/03.png\)"


def _added(folder):
    (folder / "train" / "b" / "99.png").write_bytes(saved(make_crops(1, seed=9)[0]))
    return r"1 new \(b/99.png\)"


CHANGES = {
    "cached": (_changed_train, _changed_validation),
    "on the fly": (_changed_train, _changed_validation, _added),
    "streamed": (_removed, _changed_validation),
}


def _refused(folder, run, mode, capsys):
    """Start a run that is refused, and return the line that says why."""
    capsys.readouterr()
    assert _train(folder, run, *MODES[mode]) == 2
    said = capsys.readouterr().err.splitlines()
    (line,) = [text for text in said if text.startswith("error: ")]
    assert "the data changed since this checkpoint: " in line
    assert "add --allow-changed-data" in line
    return line


@pytest.mark.e2e
@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_run_says_what_changed(begun, folder, tmp_path, capsys, mode):
    run = begun(mode)
    whole = shutil.copytree(folder, tmp_path / "whole")
    for change in CHANGES[mode]:
        words = change(folder)
        assert re.search(words, _refused(folder, run, mode, capsys)), change
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
    for file in folder.rglob("*.png"):
        os.utime(file)  # only touched
    if mode == "cached":
        assert _train(folder, run, "--crop-cache-gb", "0") == 0  # and read in another way
        return
    assert _train(folder, run, *MODES[mode]) == 0


@pytest.mark.e2e
def test_changed_data_are_used_where_that_is_asked_for(begun, folder):
    run = begun("on the fly")
    _changed_train(folder)
    assert _train(folder, run, *MODES["on the fly"], "--allow-changed-data") == 0
    (change,) = json.loads((run / "patchit.json").read_text())["training"]["changes"]
    assert change["after_step"] == 2
    ((name, (before, after)),) = change["values"].items()
    assert name == "contents of train"
    assert before != after
    assert "changed after step 2" in (run / "README.md").read_text()
    state = json.loads((run / "checkpoints/step-00000004/state.json").read_text())
    assert state["config"]["data_contents"]["train"] == after


@pytest.mark.e2e
def test_a_run_from_before_there_were_contents_goes_on(begun, folder, caplog):
    run = begun("cached")
    step = run / "checkpoints" / "step-00000002"
    state = json.loads((step / "state.json").read_text())
    del state["config"]["data_contents"]
    data = load_crops(str(folder)).train
    store = open_crops(data, "image", (50, 25), "squash", main=False)
    state["config"]["data_fingerprint"] = store.fingerprint
    state["notes"].pop("data_known_as", None)
    (step / "state.json").write_text(json.dumps(state))
    (step / "SHA256SUMS").unlink()
    (run / "checkpoints" / ".data.npz").unlink()
    with caplog.at_level("INFO"):
        assert _train(folder, run) == 0
    assert "continuing after step 2 of 4" in caplog.text
    state = json.loads((run / "checkpoints/step-00000004/state.json").read_text())
    assert set(state["config"]["data_contents"]) == {"train", "validation"}


def test_contents_are_the_same_for_the_same_images_only(folder):
    def now():
        data = load_crops(str(folder)).train
        return contents_of_rows(ImageRows(data, "image"))

    first = now()
    assert len(first.digests) == 24
    assert now().fingerprint == first.fingerprint
    file = folder / "train" / "b" / "01.png"
    os.utime(file)
    assert now().fingerprint == first.fingerprint
    _keep_time(file, file.read_bytes()[:-1] + b"x")  # of the same size, with the old time
    assert now().changes_since(first) == "1 changed (b/01.png)"


def test_in_memory_and_in_a_table_an_image_has_the_same_hash(tmp_path, crops):
    first = contents_of_rows(ImageRows(crops, "image"))
    (tmp_path / "table").mkdir()
    crops.to_parquet(str(tmp_path / "table" / "train.parquet"))
    table = load_crops(str(tmp_path / "table"))
    rows = [*table.train["person_id"], *table.held_out["person_id"]]
    found = [contents_of_rows(ImageRows(part, "image")) for part in (table.train, table.held_out)]
    assert len(rows) == 40
    every = np.concatenate([part.digests for part in found])
    assert set(every.tolist()) == set(first.digests.tolist())
    chosen = contents_of_rows(ImageRows(crops, "image"), [3, 5])
    assert chosen.digests.tolist() == first.digests[[3, 5]].tolist()


def test_files_of_a_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(content_hashes, "WHOLE", 1000)
    monkeypatch.setattr(content_hashes, "SAMPLE", 64)
    big = np.random.default_rng(0).bytes(5000)
    (tmp_path / "a.tar").write_bytes(big)
    (tmp_path / "README.md").write_text("a card")
    first = contents_of_folder(tmp_path)
    assert first.names == ("a.tar",)
    (tmp_path / "README.md").write_text("another card")
    assert contents_of_folder(tmp_path).fingerprint == first.fingerprint
    for changed in (big + b"x", big[:-1] + b"x", b"x" + big[1:]):
        (tmp_path / "a.tar").write_bytes(changed)
        assert contents_of_folder(tmp_path).changes_since(first) == "1 changed (a.tar)"
    (tmp_path / "a.tar").rename(tmp_path / "b.tar")
    assert contents_of_folder(tmp_path).changes_since(first) == "1 gone (a.tar), 1 new (b.tar)"


def test_what_changed_is_said_without_names_too(tmp_path):
    old = Contents(np.array([1, 2, 3, 3], np.uint64))
    assert Contents(np.array([1, 2, 4, 5], np.uint64)).changes_since(old) == (
        "2 changed (row 2, row 3)"
    )
    assert Contents(np.array([1, 2, 3], np.uint64)).changes_since(old) == "1 gone"
    assert Contents(np.array([9, 1, 2, 3, 3], np.uint64)).changes_since(old) == "1 new (row 0)"
    parts = {"train": old, "validation": Contents(np.array([7], np.uint64), ("\udcff.png",))}
    write_contents(tmp_path / "data.npz", parts)
    found = read_contents(tmp_path / "data.npz")
    assert {k: v.fingerprint for k, v in found.items()} == {
        k: v.fingerprint for k, v in parts.items()
    }
    (tmp_path / "data.npz").write_bytes(b"PK no archive")
    assert read_contents(tmp_path / "data.npz") == {}


@pytest.mark.e2e
def test_a_finetuning_notices_other_labels(labelled_people, tmp_path, capsys):
    data = tmp_path / "people"
    data.mkdir()
    people = datasets.load_dataset(labelled_people, split="train").select(range(60))
    people.to_parquet(str(data / "train.parquet"))
    words = [
        "--task", "action", "--backbone", "test_resnet", "--input-size", "48x24", "--batch-size",
        "8", "--max-steps", "2", "--save-every", "1", "--eval-every", "0", "--dataset", str(data),
        "--output-dir", str(tmp_path / "run"),
    ]  # fmt: skip
    assert finetune(words) == 0
    (tmp_path / "run" / "patchit.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000002")
    actions = list(people["action"])
    other = [*actions[:-1], next(a for a in actions if a != actions[-1])]
    column = people.features["action"]
    people.remove_columns("action").add_column("action", other).cast_column(
        "action", column
    ).to_parquet(str(data / "train.parquet"))
    capsys.readouterr()
    assert finetune(words) == 2
    said = capsys.readouterr().err
    assert "the data changed since this checkpoint: labels of " in said
    assert "train: 1 changed" in said or "validation: 1 changed" in said
