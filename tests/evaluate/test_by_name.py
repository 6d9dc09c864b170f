"""An evaluation gives the same metrics however a data set numbers, orders and writes its labels."""

import datasets
import numpy as np
import pytest
from PIL import Image

from patchit_hf import FinetunedModel
from patchit_hf.common.errors import InputError
from patchit_hf.evaluate import evaluate, main

pytestmark = pytest.mark.e2e


@pytest.fixture
def rows(labelled_people):
    return datasets.load_dataset(labelled_people, split="test").select(range(24))


def metrics(model, rows, **options):
    return evaluate(model, rows, bootstrap=0, **options).metrics


def replaced(rows, name, values, feature=None):
    return rows.remove_columns(name).add_column(name, values, feature=feature)


def test_actions_in_another_order_and_number(finetuned, rows):
    model = FinetunedModel.from_pretrained(finetuned("action"))
    names = [rows.features["action"].names[v] for v in rows["action"]]
    own = datasets.ClassLabel(names=sorted(set(names), reverse=True))  # lacks some, turned round
    turned = replaced(rows, "action", [own.str2int(n) for n in names], own)
    expected = metrics(model, rows)
    assert metrics(model, turned) == expected
    assert metrics(model, replaced(rows, "action", names)) == expected
    words = ["fly", *names[1:]]
    with pytest.raises(InputError) as error:
        metrics(model, replaced(rows, "action", words))
    trained = ", ".join(model.task.label_names)
    assert str(error.value) == (
        "data set: column 'action', row 0: 'fly' is none of the classes that were trained "
        f"({trained}); the data set has {', '.join(sorted(set(words)))}"
    )


def test_attributes_in_words_floats_and_another_order(finetuned, rows):
    model = FinetunedModel.from_pretrained(finetuned("attributes"))
    expected = metrics(model, rows)
    other = rows.select_columns(sorted(rows.column_names, reverse=True))
    for name, write in (("hat", ["no", "yes"].__getitem__), ("glasses", float)):
        other = replaced(other, name, [write(int(v)) for v in rows[name]])
    for name in ("upper_colour", "lower_colour"):
        feature = rows.features[name]
        own = datasets.ClassLabel(names=feature.names[::-1])
        other = replaced(other, name, [own.str2int(feature.int2str(v)) for v in rows[name]], own)
    assert metrics(model, other) == expected


def test_people_by_name_in_query_and_gallery(finetuned, rows):
    model = FinetunedModel.from_pretrained(finetuned("reid"))
    people = [i % 4 for i in range(24)]
    both = replaced(replaced(rows, "person_id", people), "camera", [i // 4 % 2 for i in range(24)])
    query, gallery = both.select(range(8)), both.select(range(8, 24))
    expected = metrics(model, query, gallery=gallery)
    assert expected["map"] > 0
    named = datasets.ClassLabel(names=["3", "1", "0", "2"])
    ours = replaced(query, "person_id", [named.str2int(str(p)) for p in people[:8]], named)
    theirs = replaced(gallery, "person_id", [f"000{p}" for p in people[8:]])
    assert metrics(model, ours, gallery=theirs) == expected


def test_joints_in_another_order(finetuned, rows, tmp_path, capsys):
    model = FinetunedModel.from_pretrained(finetuned("pose"))
    expected = metrics(model, rows)
    turned = replaced(rows, "keypoints", [points[::-1] for points in rows["keypoints"]])
    names = model.task.joints[::-1]
    assert metrics(model, turned, joints=names) == expected
    assert metrics(model, turned.add_column("keypoint_names", [names] * 24)) == expected
    assert metrics(model, turned) != expected
    with pytest.raises(InputError, match=r"^--joints: only pose has joints$"):
        metrics(FinetunedModel.from_pretrained(finetuned("action")), rows, joints=names)
    turned.to_parquet(str(tmp_path / "d.parquet"))
    words = [str(finetuned("pose")), "--dataset", str(tmp_path), "--split", "train", "--bootstrap",
             "0", "--output-dir", str(tmp_path / "out"), "--joints", "nose"]  # fmt: skip
    assert main(words) == 2
    assert "joint 'nose' is none of those that were trained" in capsys.readouterr().err


def test_a_folder_of_query_and_gallery(finetuned, tmp_path):
    rng = np.random.default_rng(0)
    for part, names in {
        "bounding_box_train": ["0002_c1s1_000451_03.jpg"],
        "bounding_box_test": ["-1_c2s1_000401_03.jpg", "0000_c2s1_000151_01.jpg",
                              "0001_c2s1_000451_03.jpg", "0001_c1s1_000451_03.jpg"],
        "query": ["0001_c1s1_001051_00.jpg", "0005_c1s1_001051_00.jpg"],
    }.items():  # fmt: skip
        (tmp_path / "m" / part).mkdir(parents=True)
        for name in names:
            pixels = rng.integers(0, 255, (60, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "m" / part / name)
    found = evaluate(finetuned("reid"), tmp_path / "m", bootstrap=0)
    assert found.data == f"{tmp_path / 'm'} (query split)"
    assert found.crops == 6
    assert found.table == [{"queries": 1, "skipped": 1}]
    # of the four, junk and the query's own camera do not count: the match is first or second
    assert found.metrics["map"] in (1.0, 0.5)
