"""What people pass as data sets gives the right pixels, or one line; see docs/inputs.md."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset

from patchit_hf import InputError, load_crops
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.data.given_splits import given_splits
from patchit_hf.data.training_set import open_held_out, open_training

CANVAS = (20, 10)


def _images(count=6):
    """Images of one grey each, 10, 20, ..."""
    return [Image.new("RGB", (10, 20), (10 * n + 10,) * 3) for n in range(count)]


def _rows(count=6):
    return datasets.Dataset.from_dict({"image": _images(count)}).cast_column(
        "image", datasets.Image()
    )


class Torch(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class TorchStream(IterableDataset):
    def __iter__(self):
        return iter(_images())


def _tensors():
    return [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in _images()]


def _generated():
    yield from ({"image": image} for image in _images())


def _saved(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, image in enumerate(_images(20)):
        image.save(folder / f"{number:02}.png")
    return folder


ALL = [10, 20, 30, 40, 50, 60]
WORKS = {  # as in the table of docs/inputs.md
    "datasets.Dataset": (lambda p: _rows(), ALL),
    "datasets.IterableDataset": (lambda p: _rows().to_iterable_dataset(), ALL),
    "IterableDataset.map": (
        lambda p: _rows().to_iterable_dataset().map(lambda e: {"image": e["image"].rotate(180)}),
        ALL,
    ),
    "IterableDataset.from_generator": (
        lambda p: datasets.IterableDataset.from_generator(_generated),
        ALL,
    ),
    "DatasetDict": (lambda p: datasets.DatasetDict(train=_rows(), other=_rows(2)), ALL),
    "DatasetDict of one split": (lambda p: datasets.DatasetDict(any=_rows()), ALL),
    "IterableDatasetDict": (
        lambda p: datasets.IterableDatasetDict({"train": _rows().to_iterable_dataset()}),
        ALL,
    ),
    "list of PIL images": (lambda p: _images(), ALL),
    "list of arrays": (lambda p: [np.array(image) for image in _images()], ALL),
    "array [N, H, W, 3]": (lambda p: np.stack([np.array(image) for image in _images()]), ALL),
    "tensor [N, 3, H, W]": (lambda p: torch.stack(_tensors()), ALL),
    "list of paths": (lambda p: sorted(_saved(p).iterdir())[:6], ALL),
    "torch Dataset of PIL images": (lambda p: Torch(_images()), ALL),
    "torch Dataset of tensors": (lambda p: Torch(_tensors()), ALL),
    "torch Dataset of tensors in [0, 1]": (lambda p: Torch([t / 255 for t in _tensors()]), ALL),
    "torch Dataset of tuples": (lambda p: Torch([(t, 3) for t in _tensors()]), ALL),
    "torch Dataset of dictionaries": (
        lambda p: Torch([{"pixel_values": t, "label": 3} for t in _tensors()]),
        ALL,
    ),
    "torch Subset": (lambda p: Subset(Torch(_images()), [4, 0]), [50, 10]),
    "torch Subset of a datasets.Dataset": (lambda p: Subset(_rows(), [4, 0]), [50, 10]),
    "torch IterableDataset": (lambda p: TorchStream(), ALL),
    "with_transform": (
        lambda p: _rows().with_transform(
            lambda b: {"image": [i.point(lambda v: v + 1) for i in b["image"]]}
        ),
        [grey + 1 for grey in ALL],
    ),
    "with_transform to pixel_values": (
        lambda p: _rows().with_transform(
            lambda b: {"pixel_values": [np.array(i) / 255 for i in b["image"]]}
        ),
        ALL,
    ),
    'set_format("torch")': (lambda p: _rows().with_format("torch"), ALL),
    'set_format("numpy")': (lambda p: _rows().with_format("numpy"), ALL),
    'set_format("arrow")': (lambda p: _rows().with_format("arrow"), ALL),
    'set_format("pandas")': (lambda p: _rows().with_format("pandas"), ALL),
    "set_format of other columns": (
        lambda p: _rows().add_column("y", list(range(6))).with_format("torch", columns=["y"]),
        ALL,
    ),
    "folder, as text": (lambda p: str(_saved(p)), None),
    "folder, as a path": (_saved, None),
}
REFUSED = {
    "None": (lambda p: None, "train_dataset: a NoneType; must be a datasets.Dataset"),
    "a number": (lambda p: 7, "train_dataset: a int; must be a datasets.Dataset"),
    "one image": (lambda p: _images()[0], "train_dataset: a Image; must be a datasets.Dataset"),
    "empty DatasetDict": (lambda p: datasets.DatasetDict(), "a DatasetDict that is empty"),
    "DatasetDict of other splits": (
        lambda p: datasets.DatasetDict(a=_rows(), b=_rows()),
        "data set 'train_dataset' has no train split; choose one with --split: a, b",
    ),
    "list of words": (lambda p: [1, 2], "train_dataset, item 0: int: must be a PIL image"),
    "normalised tensors": (
        lambda p: Torch([t / 255 * 4 - 2 for t in _tensors()]),
        "train_dataset, item 0: tensor of values -1.84314 to -1.84314: must be uint8, or floats",
    ),
    "torch Dataset of labels": (
        lambda p: Torch([{"label": 3}]),
        "train_dataset, item 0: a dictionary without an image (keys: label)",
    ),
    "stream without images": (
        lambda p: datasets.IterableDataset.from_generator(lambda: iter([{"text": "a"}])),
        "train_dataset: the stream has no images (columns: text)",
    ),
    "stream of nothing": (
        lambda p: datasets.IterableDataset.from_generator(lambda: iter([])),
        "train_dataset: the stream holds no crops",
    ),
    "no such folder": (lambda p: p / "none", "no such folder"),
}


def _greys(value, limit=6):
    """Return the grey of every crop that a trainer reads, in order."""
    _, train, _ = given_splits(value, None)
    held_out = open_held_out(train, DecodeArguments(), CANVAS, name="data", limit=limit)
    assert held_out.crops.shape[1:] == (3, *CANVAS)
    assert (held_out.crops.float().std((1, 2, 3)) == 0).all()
    held_out_greys = held_out.crops[:, 0, 0, 0].tolist()
    source = open_training(train, DecodeArguments(dataloader_num_workers=0), CANVAS, name="data")
    crops = torch.cat(list(source.sample(limit)))
    assert sorted(crops[:, 0, 0, 0].tolist()) == sorted(held_out_greys)  # streams are shuffled
    return held_out_greys


@pytest.mark.parametrize("way", WORKS)
def test_what_works_gives_the_pixels(tmp_path, way):
    make, wanted = WORKS[way]
    if wanted is None:
        crops, train, held_out = given_splits(make(tmp_path), None)
        assert (len(train), len(held_out)) == (18, 2)
        assert crops.name == str(tmp_path / "folder")
    else:
        assert _greys(make(tmp_path)) == wanted


@pytest.mark.parametrize("way", REFUSED)
def test_what_does_not_is_one_line(tmp_path, way):
    make, message = REFUSED[way]
    with pytest.raises(InputError) as refused:
        _greys(make(tmp_path))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_images_that_were_changed_after_they_were_read_are_not_read_again(tmp_path):
    _images()[0].save(tmp_path / "image.png")
    changed = Image.open(tmp_path / "image.png")
    changed.paste((200, 200, 200), (0, 0, 10, 20))
    assert _greys([changed, changed], 2) == [200, 200]


def test_the_validation_split_that_comes_with_the_crops_is_held_out():
    both = datasets.DatasetDict(train=_rows(), validation=_rows(3), test=_rows(2))
    _, train, held_out = given_splits(both, None)
    assert (len(train), len(held_out)) == (6, 3)
    for given, size in ((_rows(2), 2), (both, 3), (_images(4), 4)):
        assert len(given_splits(both, given)[2]) == size
    only_test = datasets.DatasetDict(train=_rows(), test=_rows(2))
    assert len(given_splits(_rows(), only_test)[2]) == 2
    assert given_splits(only_test, None)[2] is None
    with pytest.raises(InputError, match=r"has the splits a, b; give one of them.*dataset\['a'\]"):
        given_splits(_rows(), datasets.DatasetDict(a=_rows(), b=_rows()))


def test_load_crops_takes_what_is_open_already():
    crops = load_crops(_rows(20))
    assert (len(crops.train), len(crops.held_out)) == (18, 2)
    assert crops.name == "dataset"
    assert not crops.meta["hub"]
    assert not crops.meta["rendered"]
    crops = load_crops(datasets.DatasetDict(train=_rows(4), validation=_rows(2)))
    assert (len(crops.train), len(crops.held_out)) == (4, 2)


def test_a_transform_is_said_and_recorded_and_not_cached(tmp_path, caplog):
    def darker(batch):
        return {"image": [image.point(lambda v: v // 2) for image in batch["image"]]}

    _rows().to_parquet(str(tmp_path / "rows.parquet"))
    rows = datasets.Dataset.from_parquet(str(tmp_path / "rows.parquet"))
    given = rows.with_transform(darker)
    source = open_training(given, DecodeArguments(dataloader_num_workers=0), CANVAS, name="data")
    plain = open_training(rows, DecodeArguments(dataloader_num_workers=0), CANVAS, name="data")
    assert "data: has a transform" in caplog.text
    assert torch.cat(list(source.sample(6)))[:, 0, 0, 0].tolist() == [5, 10, 15, 20, 25, 30]
    assert torch.cat(list(plain.sample(6)))[:, 0, 0, 0].tolist() == ALL
    assert source.fingerprint != plain.fingerprint


def test_a_transform_that_fails_is_one_line():
    def wrong(batch):
        raise KeyError("nothing")

    with pytest.raises(InputError, match=r"row 0: the data set's transform fails: KeyError"):
        _greys(_rows().with_transform(wrong))
    with pytest.raises(InputError, match=r"row 0: .* returns no 'image' \(columns: y\)"):
        _greys(_rows().with_transform(lambda batch: {"y": [1] * len(batch["image"])}))
