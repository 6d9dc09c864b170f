"""``patchit embed`` writes the features of every image, and whose they are."""

import csv

import datasets
import numpy as np
import pyarrow.parquet
import pytest

from patchit_hf import PatchTaskModel
from patchit_hf.predict import embed
from patchit_hf.shell.main import main


@pytest.fixture
def photos(tmp_path, export):
    rows = datasets.load_dataset("parquet", data_files=str(export.parent / "train.parquet"))
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, row in enumerate(rows["train"].select(range(5))):
        row["image"].save(folder / f"{number}.png")
    return folder


def test_each_format_has_the_features_and_the_files(photos, export, tmp_path, capsys):
    files = [str(photos / f"{i}.png") for i in range(5)]
    wanted = PatchTaskModel.from_pretrained(export).embed(files)
    for ending in ("parquet", "csv", "npy"):
        output = tmp_path / ending / f"v.{ending}"
        assert main(["embed", str(export), str(photos), "--output", str(output)]) == 0
        said = capsys.readouterr().err
        assert "5 embeddings with 96 dimensions" in said
        assert said.startswith("note: batch-norm statistics")
    table = pyarrow.parquet.read_table(tmp_path / "parquet" / "v.parquet")
    assert table.column_names == ["file", "embedding"]
    assert table["file"].to_pylist() == files
    np.testing.assert_allclose(table["embedding"].to_pylist(), wanted, atol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "npy" / "v.npy"), wanted, atol=1e-5)
    with (tmp_path / "npy" / "v.rows.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == files
    with (tmp_path / "csv" / "v.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == files
    read = [[float(row[f"e{i}"]) for i in range(96)] for row in rows]
    np.testing.assert_allclose(read, wanted, atol=1e-5)


def test_statistics_of_these_images(photos, export):
    model = PatchTaskModel.from_pretrained(export)
    files = [str(photos / f"{i}.png") for i in range(5)]
    found = embed(export, photos, reestimate_batch_norm=True)
    wanted = model.embed(files, reestimate_batch_norm=True)
    np.testing.assert_allclose(found.vectors, wanted, atol=1e-4)
    assert found.note is None


def test_a_backbone_by_its_name(photos):
    found = embed("test_resnet", [photos / "0.png"], init="random", input_size="64x32")
    assert found.vectors.shape == (1, 96)


def test_every_row_of_a_data_set(export):
    found = embed(export, export.parent)
    assert len(found) == 40
    assert found.about["row"] == list(range(40))


@pytest.mark.parametrize(
    ("run", "line"),
    [
        ("resnet81", "RUN_OR_BACKBONE 'resnet81': timm has no such model"),
        ("w.safetensors", "RUN_OR_BACKBONE 'w.safetensors': is a file of weights: give the name"),
    ],
)
def test_wrong_backbones(run, line, photos, capsys):
    assert main(["embed", run, str(photos)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {line}")
