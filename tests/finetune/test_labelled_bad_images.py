"""Labelled crops with bad images among them: finetuning and evaluation go on, labels stay right."""

import json

import datasets
import pyarrow.parquet
import pytest
import torch

from patchit_hf.data.canvas import load_canvas
from patchit_hf.downstream import create_downstream
from patchit_hf.evaluate.command import main as evaluate
from patchit_hf.finetune.arguments import FinetuningArguments
from patchit_hf.finetune.command import main as finetune
from patchit_hf.finetune.labelled import open_crops_of, open_labelled
from tests.conftest import some_people
from tests.data.spoilt import bad_files

ROWS, BAD = 40, (3, 7, 20)
GOOD = [row for row in range(ROWS) if row not in BAD]
COLUMNS = ["long_sleeves", "long_hair"]


def _spoilt(people):
    """Some rows' pictures cannot be read."""
    bad = list(bad_files().items())[: len(BAD)]
    images = list(people.cast_column("image", datasets.Image(decode=False))[:]["image"])
    for row, (name, (content, _)) in zip(BAD, bad, strict=True):
        images[row] = {"bytes": content, "path": name}
    return people.remove_columns("image").add_column("image", images, feature=datasets.Image())


@pytest.fixture(scope="module")
def people():
    return _spoilt(some_people().select(range(ROWS)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, people):
    folder = tmp_path_factory.mktemp("people")
    for name in ("train", "validation", "test"):
        people.to_parquet(str(folder / f"{name}-00000-of-00001.parquet"))
    return folder


@pytest.fixture(params=["cached", "lazy"])
def way(request):
    return {"cached": 8.0, "lazy": 0.0}[request.param]


def _opened(people, policy, cache, which="usable"):
    task = create_downstream("attributes", people, columns=COLUMNS)
    args = FinetuningArguments(on_bad_image=policy, crop_cache_gb=cache, dataloader_num_workers=0)
    return open_labelled(people, task, (50, 25), args, name="crops", which=which)


def _wanted(people, rows):
    """Crops and labels of rows, one by one."""
    values = people.cast_column("image", datasets.Image(decode=False))[:]["image"]
    crops = [torch.tensor(load_canvas(values[r], (50, 25), "squash", "")) for r in rows]
    people = people.remove_columns("image")
    labels = torch.tensor([[float(people[r][c]) for c in COLUMNS] for r in rows])
    return torch.stack(crops).permute(0, 3, 1, 2), labels


def _check(data, people, rows):
    assert data.split_rows.tolist() == rows
    (crops, targets), *more = data.batches(ROWS)
    assert not more
    wanted, labels = _wanted(people, rows)
    assert torch.equal(crops, wanted)
    assert torch.equal(targets.float(), labels)


def test_raise_says_which(people, way):
    with pytest.raises(ValueError, match=r"crops, row 3 \(file truncated.jpg\): not a readable"):
        list(_opened(people, "raise", way).batches(8))


def test_skip_leaves_them_out_with_their_labels(people, way):
    for which in ("usable", "scored", "all"):
        data = _opened(people, "skip", way, which)
        _check(data, people, GOOD)
        assert [image.row for image in data.store.bad.found.values()] == list(BAD)


def test_replace_takes_others_with_their_own_labels(people, way):
    data = _opened(people, "replace", way)
    rows = data.split_rows.tolist()
    assert len(rows) == ROWS
    assert not set(rows) & set(BAD)
    assert [r for i, r in enumerate(rows) if i not in BAD] == GOOD
    _check(data, people, rows)
    for image in data.store.bad.found.values():
        assert image.became == f"replaced by row {rows[image.row]}"
    _check(_opened(people, "replace", way, "scored"), people, GOOD)  # nothing is judged twice


def test_replace_makes_no_label_of_none(people, way):
    """A bad crop without a label is no sample, and nothing replaces it."""
    values = people.cast_column("image", datasets.Image(decode=False))[:]
    for column in COLUMNS:
        values[column] = [-1 if r in (3, 10) else int(v) for r, v in enumerate(values[column])]
    names = ["image", *COLUMNS]
    table = datasets.Dataset.from_dict({name: values[name] for name in names})
    table = table.cast_column("image", datasets.Image())
    rows = _opened(table, "replace", way).split_rows.tolist()
    assert len(rows) == ROWS - 2 - (10 in rows)
    assert not {3, 7, 20, 10} & set(rows)


def test_crops_without_labels(people, way):
    args = FinetuningArguments(on_bad_image="replace", crop_cache_gb=way, dataloader_num_workers=0)
    data = open_crops_of(people, (50, 25), args, "crops")
    assert data.split_rows.tolist() == GOOD


def _manifest(folder):
    return [json.loads(line) for line in (folder / "bad_images.jsonl").read_text().splitlines()]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("task", "policy"), [("attributes", "skip"), ("pose", "replace"), ("reid", "replace")]
)
def test_finetuning_and_evaluation_go_on_and_list_them(task, policy, folder, tmp_path, capsys):
    run = tmp_path / "run"
    words = [
        "--task", task, "--backbone", "test_resnet", "--input-size", "48x24", "--batch-size", "8",
        "--max-steps", "2", "--save-every", "0", "--dataset", str(folder), "--output-dir", str(run),
    ]  # fmt: skip
    assert finetune(words) == 2
    assert "row 3 (file truncated.jpg): not a readable image" in capsys.readouterr().err
    assert not run.exists()
    assert finetune([*words, "--on-bad-image", policy]) == 0
    record = json.loads((run / "patchit.json").read_text())
    assert record["data"]["bad_images"] == 2 * len(BAD)
    assert record["data"]["on_bad_image"] == policy
    assert record["data"]["eval_crops"] == ROWS - len(BAD)
    assert "| bad images | 6, " in (run / "README.md").read_text()
    found = _manifest(run)
    assert [(line["part"], line["row"]) for line in found] == [
        (part, row) for part in ("held_out", "train") for row in BAD
    ]
    assert {line["reason"] for line in found if line["file"] == "empty.jpg"} == {
        "the file is empty"
    }
    out = tmp_path / "evaluation"
    words = [str(run), "--dataset", str(folder), "--output-dir", str(out), "--bootstrap", "0"]
    assert evaluate(words) == 2
    assert evaluate([*words, "--on-bad-image", "skip"]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["bad_images"] == len(_manifest(out)) == len(BAD)
    table = pyarrow.parquet.read_table(out / "predictions.parquet").to_pydict()
    assert table["row"] == GOOD
    people = datasets.load_dataset(str(folder), split="test")
    assert table["person_id"] == people.select(table["row"])["person_id"][:]


@pytest.mark.e2e
def test_probes_and_embeddings_leave_them_out(folder, tmp_path):
    more = ["--dataset", str(folder), "--on-bad-image", "skip"]
    model = ["random", "--backbone", "test_resnet", "--input-size", "48x24"]
    out = tmp_path / "probe"
    words = ["--probe", "knn", "--column", "long_sleeves", "--output-dir", str(out)]
    assert evaluate([*model, *more, *words]) == 0
    assert json.loads((out / "metrics.json").read_text())["bad_images"] == 2 * len(BAD)
    file = tmp_path / "embeddings.parquet"
    assert evaluate([*model, *more, "--embed", str(file)]) == 0
    table = pyarrow.parquet.read_table(file).to_pydict()
    splits = sorted(set(table["split"]))
    for split in splits:
        rows = [r for r, name in zip(table["row"], table["split"], strict=True) if name == split]
        assert rows == GOOD, split
    assert len(table["embedding"]) == len(splits) * (ROWS - len(BAD))
