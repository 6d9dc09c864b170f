"""The ruler: who is held out, pairs and intervals by hand, records that are not run again."""

import dataclasses
import json
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_model

from patchit_hf import InputError
from tests.conftest import write_people

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))  # the scripts import each other by their names

import claim  # noqa: E402
import claim_data  # noqa: E402
import claim_figures as figures  # noqa: E402
import frozen_retrieval  # noqa: E402
from claim_commands import jobs_of  # noqa: E402
from claim_jobs import Bench, layers  # noqa: E402
from claim_plan import STARTS, TRIALS  # noqa: E402


def test_held_out_persons_follow_from_their_names_alone():
    persons = [f"p{i // 3}" for i in range(300)] + [None, -1, -1]
    chosen = figures.held_out_persons(persons)
    assert len(chosen) == 15
    assert None not in chosen
    assert -1 not in chosen
    assert figures.held_out_persons(list(reversed(persons)) * 2) == chosen
    fewer = {person for person in persons if person not in sorted(chosen)[:5]}
    assert len(figures.held_out_persons(fewer) & chosen) == 10  # others do not change sides
    assert len(figures.held_out_persons(["a", "b"])) == 1


def test_difference_and_interval_by_hand():
    one = {(42, 0): 41.0, (42, 1): 42.0, (43, 0): 43.0, (43, 1): 50.0}
    other = {(42, 0): 40.0, (42, 1): 40.0, (43, 0): 40.0, (44, 0): 0.0}
    found = figures.difference(one, other)
    assert found.pairs == (1.0, 2.0, 3.0)  # the fourth of each has no partner
    assert (found.mean, found.deviation) == (2.0, 1.0)
    # t(0.975, 2) = 4.3027; 4.3027 / sqrt(3) = 2.4842
    assert found.interval == pytest.approx((2 - 2.4842, 2 + 2.4842), abs=1e-4)
    assert str(found) == "+2.0 ± 1.0 (-0.5 to +4.5)"
    assert figures.difference({(42, 0): 1.0}, {(43, 0): 1.0}) is None
    once = figures.difference({(42,): 3.5}, {(42,): 1.0})
    assert (str(once), once.interval) == ("+2.5", None)


def test_one_measurement_is_the_partner_of_every_seed():
    found = figures.difference({(42,): 24.0, (43,): 26.0}, {(42,): 20.0})
    assert found.pairs == (4.0, 6.0)


def _record(kind, start, metrics, seed=42, cpu=60.0, **asked):
    asked = {"start": start, "backbone": "net", "seed": seed, **asked}
    return {"kind": kind, "asked": asked, "metrics": metrics, "cpu_seconds": cpu}


RECORDS = [
    _record("pretrain", "mine", {"eval_accuracy": 0.5}, cpu=90.0),
    _record("finetune", "mine", {"attributes_map": 0.42}, draw=0),
    _record("finetune", "mine", {"attributes_map": 0.44}, draw=1),
    _record("finetune", "base", {"attributes_map": 0.41}, draw=0),
    _record("finetune", "base", {"attributes_map": 0.41}, draw=1),
    _record("retrieval", "mine", {"person_map": 0.24, "person_rank1": 0.5}),
    _record("retrieval", "base", {"person_map": 0.2, "person_rank1": 0.45}),
]


def test_table_and_differences_by_hand():
    assert figures.table(RECORDS, ["base", "mine"]).splitlines() == [
        "| start | pretraining, CPU-min | attributes, mAP | same person, mAP | "
        "same person, rank 1 | attributes, each run |",
        "|---|---|---|---|---|---|",
        "| base |  | 41.0 | 20.0 | 45.0 | 41.0 / 41.0 |",
        "| mine | 1.5 | 43.0 | 24.0 | 50.0 | 42.0 / 44.0 |",
    ]
    # Pairs 1 and 3: mean 2, deviation sqrt(2); t(0.975, 1) = 12.7062, so that 12.7062 * 1 = 12.7.
    assert figures.differences(RECORDS, [("mine", "base")]).splitlines()[2:] == [
        "| mine - base | attributes, mAP | +2.0 ± 1.4 (-10.7 to +14.7) | 2 |",
        "| mine - base | same person, mAP | +4.0 | 1 |",
        "| mine - base | same person, rank 1 | +5.0 | 1 |",
    ]
    assert figures.differences(RECORDS, [("mine", "nobody")]) == ""


def test_retrieval_by_hand():
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [0.7, 0.7]])
    found = frozen_retrieval.same_person(features, ["a", "a", "b", "b", None])
    assert found["map"] == found["rank1"] == 1.0
    assert found["queries"] == 4  # the unknown person is nobody's match, and no query
    mixed = frozen_retrieval.same_person(features[:4], ["a", "b", "b", "a"])
    # Each finds its neighbour first, which is the other person; a's second and b's second are right
    # (for 0: 1, 3, 2 and 3 is right: 1/2; for 1: 0, 3, 2 and 2 is right: 1/3), and so for 2 and 3.
    assert mixed["map"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 3 + 1 / 2) / 4, abs=0.05)
    assert mixed["rank1"] == 0.0
    told = frozen_retrieval.same_source(features[:4], ["a", "a", "b", "b"], neighbours=1)
    assert told == {"knn": 1.0, "most_frequent": 0.5}
    told = frozen_retrieval.same_source(features[:4], ["a", "b", "b", "b"], neighbours=1)
    assert told == {"knn": 0.5, "most_frequent": 0.75}
    across = frozen_retrieval.across_cameras(features[:4], ["a", "a", "b", "b"], [1, 2, 1, 2])
    assert (across["map"], across["queries"]) == (1.0, 2)
    assert frozen_retrieval.numbered(["b", None, "a", -1]).tolist() == [2, -1, 1, -1]


def test_colours_by_hand():
    crops = torch.zeros(1, 3, 16, 4, dtype=torch.uint8)
    crops[0, 0, :8], crops[0, 2, 8:, ::2] = 100, 50  # red above, blue stripes below
    found = frozen_retrieval.colours(crops, count=2)[0]
    deviation = 50 * (0.25 * 32 / 31) ** 0.5
    wanted = [100, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, deviation]
    assert found.tolist() == pytest.approx(wanted)


def test_every_trial_names_starts_that_there_are():
    text = claim.plan(claim.arguments([]))
    for name, trial in TRIALS.items():
        assert set(trial.starts) <= STARTS.keys()
        assert f"claim.py --run {name}`" in text
        assert trial.question.endswith("?")
        assert trial.prediction
    for start in STARTS.values():
        assert {name for name, _ in start.average} | {start.parent} <= STARTS.keys()
    assert claim.possible("random", "resnet10t") is None
    assert claim.possible("position", "resnet10t") is None


def _bench(tmp_path, data, **options):
    return Bench(
        backbone="test_resnet", data=data, split="validation", cameras=None, imagenet="none",
        name="dev", work=tmp_path / "work", results=tmp_path / "results", size="48x24",
        labels=10, **options,
    )  # fmt: skip


def test_only_final_trials_see_the_test_split():
    args = claim.arguments([])
    for trial in TRIALS.values():
        bench = claim.bench_of(args, trial)
        assert (bench.split == "test") == trial.final == (bench.cameras is not None)
        assert (bench.data == args.peta) == trial.final
        assert len(claim.seeds_of(trial)) == (3 if trial.final else 1)


def test_the_runs_of_starts(tmp_path, crop_folder):
    bench = _bench(tmp_path, crop_folder)
    jobs = jobs_of(bench, ["random", "imagenet-position", "imagenet-average"], (42, 43), (0, 1))
    kinds = [job.kind for job in jobs]
    assert kinds.count("finetune") == 3 * 2 * 2
    assert kinds.count("retrieval") == 1 + 2 + 1  # only what differs by seed is done for each
    # Two of position for the start itself, one of each kind for the average.
    assert (kinds.count("pretrain"), kinds.count("average")) == (4, 1)
    assert "benchmarks/frozen_retrieval.py" in [job.commands[0][0] for job in jobs]
    groups = layers(jobs)
    assert [{job.kind for job in group} for group in groups] == [
        {"pretrain", "finetune", "retrieval"},  # those of random weights need nothing
        {"average", "finetune", "retrieval"},
        {"finetune", "retrieval"},
    ]
    assert all(job in [j for g in groups[:i] for j in g] for i, group in enumerate(groups)
               for other in group for job in other.needs)  # fmt: skip
    draws = {
        word.partition("--subset-seed ")[2][0]
        for job in jobs if job.kind == "finetune" for word in [" ".join(job.commands[0])]
    }  # fmt: skip
    assert draws == {"0", "1"}


def test_a_phase_begins_when_the_one_before_it_has_ended(tmp_path, crop_folder):
    jobs = jobs_of(_bench(tmp_path, crop_folder), ["imagenet-phases"], (42,), (0,))
    groups = [{job.kind for job in group} for group in layers(jobs)]
    assert groups == [{"pretrain"}, {"pretrain"}, {"finetune", "retrieval"}]
    first, second = jobs[:2]
    assert str(first.folder) in second.commands[0]
    assert [job.folder for job in jobs[:2]] == [job.output.parent for job in jobs[:2]]


def test_another_finetuning_of_the_same_weights(tmp_path, crop_folder):
    names = ("imagenet-octaves", "imagenet-octaves+vectors", "imagenet+half")
    jobs = jobs_of(_bench(tmp_path, crop_folder), names, (42, 43), (0, 1))
    kinds = [job.kind for job in jobs]
    assert (kinds.count("pretrain"), kinds.count("retrieval")) == (2, 2)  # once for both
    words = {job.name: " ".join(job.commands[0]) for job in jobs if job.kind == "finetune"}
    assert len(words) == 3 * 2 * 2
    changed = [text for name, text in words.items() if "+vectors" in name]
    assert all("imagenet-octaves-seed" in text for text in changed)
    assert all("--learning-rate 0.002 --optimizer-args fallback_lr" in text for text in changed)
    halves = [text for name, text in words.items() if "+half" in name]
    assert all("--learning-rate 0.001 " in text and "--init none " in text for text in halves)
    needed = {other.name for job in jobs if "+vectors" in job.name for other in job.needs}
    assert needed == {job.name for job in jobs if job.kind == "pretrain"}


def test_columns_of_other_tasks(tmp_path, crop_folder):
    columns = ("attributes-800", "reid", "pose")
    bench = dataclasses.replace(
        _bench(tmp_path, crop_folder), split="test", cameras="viper", others={"lspet": "lspet"}
    )
    with pytest.raises(InputError, match="--labels 800: must be above 0 and below 40"):
        jobs_of(bench, ["random"], (42,), (0, 1), columns)
    jobs = jobs_of(bench, ["random"], (42,), (0, 1), columns[1:])
    reid, pose = (job for job in jobs if job.kind == "finetune")  # one draw each
    assert (reid.asked["column"], reid.asked["labels"]) == ("reid", "25 %")
    assert [name.name for name in reid.outputs.values()] == ["metrics.json"] * 2
    assert list(reid.outputs) == ["reid_", "reid_cameras_"]
    train, here, there = (" ".join(words) for words in reid.commands)
    assert "--fraction 0.25 --subset-seed 0 --seed 42" in train
    assert f"--dataset {crop_folder} --split test" in here
    assert "--dataset viper --split test" in there
    trained, judged = (" ".join(words) for words in pose.commands)
    assert "--task pose --input-size 128x128" in trained
    assert "--dataset lspet" in trained
    assert "--dataset lspet --split test" in judged
    assert len({job.name for job in jobs}) == len(jobs)


def test_what_is_recorded_is_not_run_again(tmp_path, crop_folder):
    bench = _bench(tmp_path, crop_folder)
    jobs = jobs_of(bench, ["position"], (42,), (0,))
    pretrain, finetune, retrieval = jobs
    bench.results.mkdir()
    for job in (finetune, retrieval):
        job.file.write_text(json.dumps({"asked": job.asked}))
    assert layers(jobs) == [[pretrain]]
    pretrain.file.write_text(json.dumps({"asked": pretrain.asked}))
    assert layers(jobs) == []
    retrieval.file.unlink()  # its weights are gone, so they are made again
    assert layers(jobs) == [[pretrain], [retrieval]]
    other = dataclasses.replace(bench, epochs=3)
    with pytest.raises(InputError, match="recorded with options"):
        layers(jobs_of(other, ["position"], (42,), (0,)))


def test_labels_must_be_fewer_than_crops(tmp_path, crop_folder):
    with pytest.raises(InputError, match="--labels 999: must be above 0 and below 40"):
        _bench(tmp_path, crop_folder).fraction(999)


@pytest.fixture
def peta(tmp_path):
    (tmp_path / "peta").mkdir()
    splits = {"train": range(160), "validation": range(160, 200), "test": range(200, 260)}
    return write_people(tmp_path / "peta", **splits)


@pytest.mark.e2e
def test_the_data_of_a_search(peta, tmp_path):
    found = claim_data.search_folder(peta, tmp_path / "search")
    train, dev = (
        datasets.load_dataset(str(tmp_path / "search"), split=name)
        for name in ("train", "validation")
    )
    before = datasets.load_dataset(peta, split="train")
    assert len(train) + found["held_out_crops"] == len(before)
    assert len(dev) == found["held_out_crops"] + 40
    assert not set(train["person_id"]) & set(dev["person_id"])
    assert found["held_out_persons"] == round(0.15 * len(set(before["person_id"])))
    row = before["person_id"][:].index(train[0]["person_id"])
    assert np.array_equal(np.asarray(before[row]["image"]), np.asarray(train[0]["image"]))
    assert claim_data.search_folder(peta, tmp_path / "search") == found
    with pytest.raises(InputError, match="use another --work"):
        claim_data.search_folder("elsewhere", tmp_path / "search")


@pytest.mark.slow
def test_a_trial_on_the_embedded_people(peta, tmp_path, monkeypatch, capsys):
    """The quick trial, in a tiny setting: records, table, differences; then nothing more."""
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    network = timm.create_model("test_resnet", num_classes=0)
    save_model(network, str(tmp_path / "test_resnet.imagenet.safetensors"))
    results = tmp_path / "results"
    words = [
        "--quick", "--backbone", "test_resnet", "--peta", peta, "--work", str(tmp_path / "work"),
        "--results", str(results), "--size", "48x24", "--labels", "60", "--epochs", "1",
        "--steps", "2", "--weights", str(tmp_path), "--jobs", "2",
    ]  # fmt: skip
    assert claim.main(words) == 0
    first = capsys.readouterr().out
    assert "| random |" in first
    assert "| imagenet - random | attributes, mAP |" in first
    assert "| imagenet - random | same person, mAP |" in first
    files = {file.name: file.read_bytes() for file in results.iterdir()}
    record = json.loads(files["finetune-quick-dev-test_resnet-imagenet-seed42-draw1.json"])
    assert record["cpu_seconds"] > 0
    assert record["machine"]["threads"] == 1
    assert record["asked"]["labels"] == 60
    assert 0 < record["metrics"]["attributes_map"] <= 1
    assert record["versions"]["torch"]
    assert "python -m patchit_hf.finetune" in record["commands"][0]
    assert claim.main(words) == 0
    again = capsys.readouterr()
    assert again.out == first
    assert "patchit_hf.finetune" not in again.err
    assert files == {file.name: file.read_bytes() for file in results.iterdir()}


def test_a_command_that_fails_is_one_line(peta, tmp_path, capsys):
    words = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    assert claim.main([*words, "--run", "position", "--peta", peta, "--labels", "999"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len([line for line in error if line.startswith("error: ")]) == 1
