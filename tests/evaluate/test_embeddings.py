"""``--embed``: every crop of every split, with where it is from, in three kinds of files."""

import csv

import datasets
import numpy as np
import pytest
from PIL import Image

from patchit_hf.data.source import open_splits
from patchit_hf.evaluate import main
from patchit_hf.evaluate.embeddings import embed_splits
from patchit_hf.evaluate.features import open_extractor
from patchit_hf.finetune.labelled import open_crops_of
from patchit_hf.training.arguments import LoopArguments

WORDS = ["random", "--backbone", "test_resnet", "--input-size", "48x24"]


@pytest.fixture
def folder(tmp_path):
    """Twelve images in two splits and two classes."""
    rng = np.random.default_rng(0)
    for i in range(12):
        path = tmp_path / "d" / ("val" if i % 3 == 2 else "train") / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (50, 25, 3), dtype=np.uint8)).save(path)
    return tmp_path / "d"


def embed(folder, file, *words):
    assert main([*WORDS, "--dataset", str(folder), "--embed", str(file), *words]) == 0


FILES = [
    *(f"train/a/{i:02}.png" for i in (0, 4, 6, 10)), *(f"train/b/{i:02}.png" for i in (1, 3, 7, 9)),
    *(f"val/a/{i:02}.png" for i in (2, 8)), *(f"val/b/{i:02}.png" for i in (5, 11)),
]  # fmt: skip


def test_all_three_kinds_of_files_say_the_same(folder, tmp_path, capsys):
    for ending in ("parquet", "npy", "csv"):
        embed(folder, tmp_path / f"out/{ending}/e.{ending}")
    table = datasets.Dataset.from_parquet(str(tmp_path / "out/parquet/e.parquet"))
    assert table.column_names == ["file", "split", "row", "label", "embedding"]
    assert table["file"][:] == FILES
    assert table["split"][:] == ["train"] * 8 + ["validation"] * 4
    assert table["row"][:] == [*range(8), *range(4)]
    assert table.features["embedding"].feature.dtype == "float32"
    vectors = np.array(table["embedding"][:], np.float32)
    stored = np.load(tmp_path / "out/npy/e.npy")
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, vectors)
    with (tmp_path / "out/npy/e.rows.csv").open() as file:
        beside = list(csv.DictReader(file))
    assert [row["file"] for row in beside] == FILES
    assert list(beside[0]) == ["file", "split", "row", "label"]
    with (tmp_path / "out/csv/e.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == FILES
    found = [[row[f"e{i}"] for i in range(vectors.shape[1])] for row in rows]
    np.testing.assert_array_equal(np.array(found, np.float32), vectors)
    assert (
        f"{tmp_path}/out/npy/e.npy, {tmp_path}/out/npy/e.rows.csv: 12 embeddings with "
        f"{vectors.shape[1]} dimensions (train, validation)"
    ) in capsys.readouterr().err


def test_the_vectors_are_those_of_the_crops(folder):
    extractor = open_extractor("random", "test_resnet", (48, 24))
    splits, how = open_splits(str(folder)), LoopArguments()
    found = embed_splits(extractor, splits, how, name="d", reestimate=False)
    parts = [
        extractor(crops for crops, _ in
                  open_crops_of(rows, extractor.geometry.canvas, how, "d").batches(5)).numpy()
        for rows in splits.values()
    ]  # fmt: skip
    np.testing.assert_allclose(found.vectors, np.concatenate(parts), atol=1e-5)
    assert found.vectors.std(0).max() > 0


def test_the_split_that_is_asked_for(folder, tmp_path):
    embed(folder, tmp_path / "e.parquet", "--split", "val")
    table = datasets.Dataset.from_parquet(str(tmp_path / "e.parquet"))
    assert (table["file"][:], set(table["split"])) == (FILES[8:], {"validation"})


def test_a_damaged_image_is_left_out_with_its_row(folder, tmp_path):
    (folder / "train/a/04.png").write_bytes(b"no image")
    embed(folder, tmp_path / "e.parquet", "--on-bad-image", "skip")
    table = datasets.Dataset.from_parquet(str(tmp_path / "e.parquet"))
    assert table["file"][:] == [file for file in FILES if file != "train/a/04.png"]
    assert table["row"][:8] == [0, 2, 3, 4, 5, 6, 7, 0]


def test_the_source_stands_in_for_a_file(tmp_path, crops):
    rows = crops.add_column("source", [f"video {i}" for i in range(40)])
    rows.save_to_disk(str(tmp_path / "d"))
    embed(tmp_path / "d", tmp_path / "e.parquet")
    table = datasets.Dataset.from_parquet(str(tmp_path / "e.parquet"))
    assert table["file"][:3] == ["video 0", "video 1", "video 2"]
    assert len(table) == 40
    assert table["person_id"][:] == rows["person_id"][:]


def test_another_ending_is_refused(folder, capsys):
    assert main([*WORDS, "--dataset", str(folder), "--embed", "e.txt"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: --embed 'e.txt': must end in .parquet, .npy or .csv"
    )
