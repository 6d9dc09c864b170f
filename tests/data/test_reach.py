"""A data set reads its own images, and no other file of the machine."""

import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile

import datasets
import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.data.canvas import load_canvas
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.data.pictures import PictureFolder
from patchit_hf.data.reach import Reach, check_links
from patchit_hf.data.source import load_crops, open_split
from patchit_hf.data.store import open_crops
from patchit_hf.data.training_set import open_held_out
from tests.conftest import make_crops
from tests.data.spoilt import saved

OUTSIDE = "which lies outside of the data set's folder"
ADDRESS = "which is an address, which is only read with --allow-urls"


def _named(folder, paths, content=None):
    """Write a folder with one parquet file whose images are these paths."""
    folder.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({"image": datasets.Image()})
    rows = [{"bytes": content, "path": str(path)} for path in paths]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"image": pyarrow.array(rows, kind)})
    about = json.dumps({"info": {"features": features.to_dict()}})
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"huggingface": about}), folder / "train.parquet"
    )
    return folder


@pytest.fixture
def secret(tmp_path):
    """An image outside of any data set."""
    file = tmp_path / "private" / "photo.png"
    file.parent.mkdir()
    file.write_bytes(saved(make_crops(1)[0]))
    return file


def _ways(secret, folder):
    return {
        str(secret): OUTSIDE,
        f"file://{secret}": OUTSIDE,
        f"{folder}/../private/photo.png": OUTSIDE,
        os.path.relpath(secret): OUTSIDE,
        f"zip://a.png::{secret.parent}/a.zip": OUTSIDE,
        f"zip://a.zip::zip://b.zip::file://{secret.parent}/a.zip": OUTSIDE,
        "http://127.0.0.1:1/a.png": ADDRESS,
        "zip://a.png::https://host/a.zip": ADDRESS,
        "s3://bucket/a.png": ADDRESS,
        "hf://datasets/org/other/a.png": ADDRESS,
        "data://text": ADDRESS,
    }


def test_a_row_names_no_image_outside_of_the_folder(secret, tmp_path):
    good = tmp_path / "crops" / "a.png"
    for number, (path, words) in enumerate(_ways(secret, tmp_path / "crops").items()):
        folder = _named(tmp_path / "crops" / str(number), [f"{good.parent}/{number}/a.png", path])
        assert words in f"which {Reach(str(folder)).problem(path)}", path
    for number in (0, 6):
        folder = tmp_path / "crops" / str(number)
        words = list(_ways(secret, tmp_path / "crops").values())[number]
        with pytest.raises(
            InputError, match=f"row 1 of column 'image' names the image .*, {words}"
        ):
            load_crops(str(folder))
        with pytest.raises(InputError, match=words):
            open_split(str(folder), "train")
        crops = load_crops(str(folder), streaming=True)
        with pytest.raises(InputError, match=f"a row of column 'image' names the image .*{words}"):
            list(crops.train)


def test_a_saved_data_set_is_checked_too(secret, tmp_path):
    saved_as = tmp_path / "saved"
    rows = {"image": [{"bytes": None, "path": str(secret)}] * 2}
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(saved_as))
    load_crops(str(saved_as))  # datasets has put the images into it
    table = _named(tmp_path / "x", [secret] * 2) / "train.parquet"
    made = datasets.Dataset.from_parquet(str(table), cache_dir=str(tmp_path / "cache"))
    (arrow,) = saved_as.glob("*.arrow")
    shutil.copy(made.cache_files[0]["filename"], arrow)
    with pytest.raises(InputError, match=OUTSIDE):
        load_crops(str(saved_as))


def test_addresses_are_read_where_they_are_allowed(tmp_path):
    image, address = make_crops(1, 50, 25)[0], "memory://patchit/a.png"
    with fsspec.open(address, "wb") as file:
        file.write(saved(image))
    folder = _named(tmp_path / "crops", [address] * 10)
    with pytest.raises(InputError, match=ADDRESS):
        load_crops(str(folder))
    crops = load_crops(str(folder), allow_urls=True)
    store = open_crops(crops.train, "image", (50, 25), "squash", main=False)
    shown = next(store.batches([torch.tensor([0])]))[0]
    assert np.array_equal(shown.permute(1, 2, 0).numpy(), np.asarray(image))
    with pytest.raises(InputError, match=ADDRESS):  # what was opened with it is checked again
        load_crops(str(folder))


def test_files_elsewhere_are_read_where_they_are_allowed(tmp_path, secret):
    """A table of paths that somebody made of his own images; not one from the Hub."""
    folder = _named(tmp_path / "crops", [str(secret)] * 10)
    with pytest.raises(InputError, match=f"{OUTSIDE}; put .*, or add --allow-urls if you trust"):
        load_crops(str(folder))
    crops = load_crops(str(folder), allow_urls=True)
    assert len(crops.train) == 9
    assert crops.train[0]["image"].tobytes() == Image.open(secret).convert("RGB").tobytes()
    assert Reach("org/crops", allow_urls=True).problem(str(secret)) is not None


def test_what_lies_in_the_folder_is_read_as_before(tmp_path, secret):
    images = make_crops(10)
    folder = tmp_path / "plain"
    folder.mkdir()
    for number, image in enumerate(images):
        (folder / f"{number}.png").write_bytes(saved(image))
    (folder / "linked.png").symlink_to(secret)  # whoever put it there has meant it
    assert len(load_crops(str(folder)).train) + len(load_crops(str(folder)).held_out) == 11
    assert sum(1 for _ in load_crops(str(folder), streaming=True).train) > 5
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    with zipfile.ZipFile(zipped / "crops.zip", "w") as archive:
        for number, image in enumerate(images):
            archive.writestr(f"{number}.png", saved(image))
    for streaming in (False, True):
        train = load_crops(str(zipped), streaming=streaming).train
        assert sum(1 for _ in train) >= 5
    held = _named(tmp_path / "held", ["/elsewhere/a.png"] * 10, saved(images[0]))
    assert len(load_crops(str(held)).train) == 9  # a name is no place if the image is there


def test_the_repository_itself_is_no_foreign_address():
    reach = Reach("org/crops")
    for path in (
        "hf://datasets/org/crops@main/a.png",
        "zip://a.png::hf://datasets/org/crops@1/z.zip",
    ):
        assert reach.problem(path) is None
    for path in ("hf://datasets/org/crops2@main/a.png", "/etc/passwd"):
        assert reach.problem(path) is not None


@pytest.mark.parametrize(
    "pattern", ["/etc/*.png", "../private/*.png", "http://127.0.0.1/a.parquet"]
)
def test_a_card_names_no_files_elsewhere(tmp_path, secret, pattern):
    folder = tmp_path / "crops"
    folder.mkdir()
    (folder / "a.png").write_bytes(secret.read_bytes())
    header = {
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": pattern}]}]
    }
    (folder / "README.md").write_text(f"---\n{json.dumps(header)}\n---\n")
    with pytest.raises(InputError, match=r"its README\.md names the data file"):
        load_crops(str(folder))


@pytest.mark.parametrize("target", ["/", "..", "."])
def test_a_link_to_a_folder_above_is_refused_at_once(tmp_path, secret, target):
    folder = tmp_path / "crops"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "a.png").write_bytes(secret.read_bytes())
    (folder / "a" / "others").symlink_to(secret.parent)
    check_links(folder, "--dataset")  # any other folder may be linked
    (folder / "a" / "link").symlink_to(target if target == "/" else folder / target)
    for open_it in (load_crops, PictureFolder):
        with pytest.raises(InputError, match=r"a/link' is a link to '/.*, which holds the folder"):
            open_it(str(folder))


def test_a_script_is_one_line_and_not_run(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.png").write_bytes(saved(make_crops(1)[0]))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for streaming in (False, True):
        with pytest.raises(InputError, match=r"holds mine\.py, .* scripts are not run"):
            load_crops(str(folder), streaming=streaming)
    assert not (tmp_path / "ran").exists()


class _Runs:
    def __reduce__(self):
        return os.system, ("touch ran-from-a-pickle",)


@pytest.mark.parametrize("kind", ["pth", "pkl", "npy"])
def test_pickles_in_archives_are_not_run(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "tars"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as archive:
        for number in range(12):
            for name, content in (("png", saved(make_crops(1)[0])), (kind, pickle.dumps(_Runs()))):
                info = tarfile.TarInfo(f"{number}.{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    for streaming in (False, True):
        if kind == "pkl":  # its bytes are not looked at
            assert sum(1 for _ in load_crops(str(folder), streaming=streaming).train) > 5
            continue
        with pytest.raises(InputError, match=r"holds a pickle|magic string"):
            load_crops(str(folder), streaming=streaming)
    assert not (tmp_path / "ran-from-a-pickle").exists()


def test_whatever_breaks_in_a_stream_is_one_line(tmp_path):
    """Here the damage lies behind the first rows, and shows only while the stream is read."""

    def rows():
        yield {"image": {"bytes": saved(make_crops(1)[0]), "path": None}}
        raise KeyError("deep inside a reader")

    features = datasets.Features({"image": datasets.Image()})
    stream = datasets.IterableDataset.from_generator(rows, features=features)
    with pytest.raises(InputError, match=r"mine: cannot be read: KeyError: 'deep inside a reader'"):
        open_held_out(stream, DecodeArguments(), (50, 25), name="mine", limit=10)
    value = {"bytes": b"x", "path": "\x1b[31mred.png"}
    with pytest.raises(InputError) as caught:
        load_canvas(value, (50, 25), "squash", "row 1")
    assert "\x1b" not in str(caught.value)
