"""The cache of decoded crops: damaged files are noticed, and what cannot be kept is not needed."""

import errno
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import replacing
from patchit_hf.data import crop_cache
from patchit_hf.data.canvas import to_canvas
from patchit_hf.data.source import load_crops
from patchit_hf.data.store import CropStore, LazyCrops, open_crops

CANVAS = (40, 20)


def cache_folder():
    return Path(datasets.config.HF_DATASETS_CACHE) / "patchit_hf"


def cache_file(ending):
    """The one file with this ending; a note about the folder is another thing."""
    found = [f for f in cache_folder().glob(f"*{ending}") if not f.name.endswith(".opened.json")]
    (file,) = found
    return file


@pytest.fixture
def train(crop_folder):
    return load_crops(crop_folder).train


@pytest.fixture
def wanted(train):
    canvases = [to_canvas(row["image"], CANVAS, "squash") for row in train]
    return torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2)


@pytest.fixture
def whole(train):
    """The fingerprint of the cache, once it is there."""
    return open_crops(train, "image", CANVAS, "squash").fingerprint


def reopened(train, **options):
    store = open_crops(train, "image", CANVAS, "squash", **options)
    return store, store[torch.arange(len(store))]


def truncated(file):
    file.write_bytes(file.read_bytes()[:-100])


def emptied(file):
    file.write_bytes(b"")


def zeroed(file):
    file.write_bytes(bytes(file.stat().st_size))


def deleted(file):
    file.unlink()


def halved(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("ending", "damage", "said"),
    [
        (".uint8", truncated, r"\.uint8 has 86,300 bytes, not 86,400"),
        (".uint8", deleted, r"No such file or directory: .*\.uint8"),
        (".uint8", emptied, r"\.uint8 has 0 bytes"),
        (".uint8", zeroed, r"\.uint8: crop 0 has other pixels"),
        (".json", emptied, r"\.json: is damaged"),
        (".json", halved, r"\.json: is damaged"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_damaged_cache_is_made_anew_with_one_line(
    train, wanted, whole, caplog, ending, damage, said
):
    damage(cache_file(ending))
    with caplog.at_level(logging.WARNING):
        store, crops = reopened(train)
    (line,) = caplog.messages
    assert line.startswith("data set: the cache of decoded crops is damaged and made anew: ")
    assert re.search(said, line), line
    assert torch.equal(crops, wanted)
    assert store.fingerprint == whole
    caplog.clear()
    reopened(train)
    assert not caplog.messages


def flip(file, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(bytes(content))


def test_a_flipped_byte_is_noticed_when_its_crop_is_read(train, wanted, whole, caplog, monkeypatch):
    """Crop 20 is not among those that are compared at the start."""
    monkeypatch.setattr(crop_cache, "SPREAD", 3)
    before = cache_file(".uint8").read_bytes()
    flip(cache_file(".uint8"), 20 * 2400 + 5)
    with caplog.at_level(logging.WARNING):
        store, crops = reopened(train)
    (line,) = caplog.messages
    assert line.startswith("data set: crop 20 of the cache ")
    assert torch.equal(crops, wanted)
    assert cache_file(".uint8").read_bytes() == before
    assert store.fingerprint == whole


def test_verify_notices_it_at_the_start(train, wanted, whole, caplog, monkeypatch):
    monkeypatch.setattr(crop_cache, "SPREAD", 3)
    flip(cache_file(".uint8"), 20 * 2400 + 5)
    with caplog.at_level(logging.WARNING):
        _, crops = reopened(train, verify=True)
    (line,) = caplog.messages
    assert "is damaged and made anew" in line
    assert torch.equal(crops, wanted)


def test_a_cache_that_becomes_short_while_it_is_read_is_mended(train, wanted, whole):
    store = open_crops(train, "image", CANVAS, "squash")
    os.truncate(cache_file(".uint8"), 10 * 2400 + 1)
    assert torch.equal(store[torch.arange(len(store))], wanted)


def test_a_damaged_crop_of_another_image_is_refused(train, whole, monkeypatch):
    monkeypatch.setattr(crop_cache, "SPREAD", 3)
    flip(cache_file(".uint8"), 20 * 2400 + 5)
    store = open_crops(train, "image", CANVAS, "squash")
    black = np.zeros((*CANVAS, 3), np.uint8)
    monkeypatch.setattr(crop_cache.CropCache, "again", lambda self, number: black)
    with pytest.raises(InputError, match=r"crop 20 is damaged, and its image is another one now"):
        store[torch.tensor([20])]


@pytest.mark.parametrize("damage", [deleted, truncated, lambda file: flip(file, 3)])
def test_checksums_that_are_missing_or_damaged_are_written_again(train, whole, caplog, damage):
    """A cache of an earlier version has none, and its note does not speak of them."""
    before = cache_file(".crc32").read_bytes()
    damage(cache_file(".crc32"))
    with caplog.at_level(logging.WARNING):
        store, _ = reopened(train)
    assert not caplog.messages
    assert store.fingerprint == whole
    assert cache_file(".crc32").read_bytes() == before


def test_a_zeroed_cache_of_an_earlier_version_is_noticed(train, wanted, whole, caplog):
    cache_file(".crc32").unlink()
    zeroed(cache_file(".uint8"))
    with caplog.at_level(logging.WARNING):
        _, crops = reopened(train)
    (line,) = caplog.messages
    assert line.endswith(".uint8 has other pixels than were written")
    assert torch.equal(crops, wanted)


def test_a_full_disk_is_no_bus_error(train, wanted, caplog, monkeypatch):
    """It is known before anything is decoded."""

    def full(descriptor, start, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with caplog.at_level(logging.WARNING):
        source = open_crops(train, "image", CANVAS, "squash", workers=0)
    assert isinstance(source, LazyCrops)
    (line,) = caplog.messages
    assert line.startswith("data set: decoded crops are not kept: ")
    assert "no space is left; " in line
    assert line.endswith("86,400 are needed; decoded on the fly")
    assert not list(cache_folder().glob("*.uint8"))
    assert not list(cache_folder().glob(".*.tmp"))
    assert torch.equal(next(iter(source.batches([torch.arange(36)]))), wanted)


def test_a_disk_that_becomes_full_meanwhile_is_noticed(train, caplog, monkeypatch):
    def full(descriptor, content, at):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with caplog.at_level(logging.WARNING):
        source = open_crops(train, "image", CANVAS, "squash", workers=0)
    assert isinstance(source, LazyCrops)
    assert "no space is left" in caplog.text
    assert not list(cache_folder().glob(".*.tmp"))


def test_a_cache_folder_that_cannot_be_made_is_named(train, caplog):
    if cache_folder().exists():
        for file in cache_folder().iterdir():
            file.unlink()
        cache_folder().rmdir()
    cache_folder().write_text("a file in its place")
    with caplog.at_level(logging.WARNING):
        source = open_crops(train, "image", CANVAS, "squash", workers=0)
    assert isinstance(source, LazyCrops)
    assert re.search("decoded crops are not kept: .* a file is in its place; dec", caplog.text)


def test_the_choice_of_held_out_crops_is_made_anew_where_it_is_damaged(crop_folder, caplog):
    first = load_crops(crop_folder).held_out

    def another_row(file):
        with np.load(file) as known:
            rows = known["rows"].tobytes()
        flip(file, file.read_bytes().index(rows))

    for damage in (emptied, halved, another_row):
        caplog.clear()
        damage(cache_file(".held-out.npz"))
        with caplog.at_level(logging.WARNING):
            again = load_crops(crop_folder).held_out
        (line,) = caplog.messages
        assert "held-out.npz is damaged and made anew" in line
        assert again["person_id"] == first["person_id"]


def test_a_damaged_list_of_bad_images_is_made_anew(train, caplog):
    from patchit_hf.data.bad import BadImages

    def opened():
        options = {"cache_gb": 0, "workers": 0, "bad": BadImages("skip")}
        return open_crops(train, "image", CANVAS, "squash", **options)

    opened()
    halved(cache_file(".bad.json"))
    emptied(cache_file(".bad.json"))
    with caplog.at_level(logging.WARNING):
        assert len(opened()) == 36
    assert "bad.json is damaged and made anew" in caplog.text


HOLD = """
import sys, time
from pathlib import Path
from patchit_hf.common.files import replacing

with replacing(Path(sys.argv[1]), shared=True) as draft:
    draft.write_bytes(bytes(1000))
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.e2e
def test_drafts_that_no_living_process_owns_go_at_the_next_start(train, crop_folder):
    target = cache_folder() / "x.uint8"
    command = [sys.executable, "-c", HOLD, str(target)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        with replacing(target, shared=True) as mine:
            mine.write_bytes(b"")
            drafts = sorted(cache_folder().glob(".*.tmp"))
            assert len(drafts) == 2
            load_crops(crop_folder)
            assert sorted(cache_folder().glob(".*.tmp")) == drafts  # both are being written
    finally:
        process.kill()
        process.wait()
    assert len(list(cache_folder().glob(".*.tmp"))) == 1
    load_crops(crop_folder)
    assert not list(cache_folder().glob(".*.tmp"))


def test_drafts_of_earlier_versions_go_after_a_day(train, crop_folder):
    old, new = (cache_folder() / f".{name}.uint8.123.abcd.tmp" for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"x")
    os.utime(old, (time.time() - 90_000,) * 2)
    load_crops(crop_folder)
    assert not old.exists()
    assert new.exists()


def test_a_store_without_a_guard_says_what_is_missing(tmp_path):
    (tmp_path / "x.uint8").write_bytes(bytes(4 * 24))
    array = np.memmap(tmp_path / "x.uint8", np.uint8, "r", shape=(4, 4, 2, 3))
    store = CropStore(array, "x")
    os.truncate(tmp_path / "x.uint8", 50)
    with pytest.raises(OSError, match="crop 3 is missing"):
        store[torch.tensor([3])]
