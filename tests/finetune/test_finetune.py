"""Finetuning: every task end to end, exact resume, any init, checkpoints that load anywhere."""

import json
import signal
from pathlib import Path

import datasets
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

from patchit_hf import FinetunedModel, FinetuneTrainer, FinetuningArguments
from patchit_hf.data import people
from patchit_hf.finetune.command import main
from patchit_hf.metrics.names import NAMES
from patchit_hf.models.initial_weights import open_initial
from patchit_hf.models.layers import reinitialize_last_stage
from tests.conftest import some_people, write_people
from tests.forked import log_of
from tests.hub.server import Hub

SMALL = ["--backbone", "test_resnet", "--input-size", "48x24", "--batch-size", "16"]

# FLOORS[task] = (figure, floor, steps, options), far from what one step reaches:
#   attributes 0.20 to 0.32, then 0.48 to 0.49     reid 0.08, then 0.16 to 0.24
#   action 0.15 to 0.21, then 0.31 to 0.38         pose 0.05 to 0.06, then 0.27   (three seeds each)
# So small a network hardly tells what people do (0.25 after 250 steps, 0.17 after one); the same
# task learns another column that holds one label for each crop, of eight.
FLOORS = {
    "attributes": ("class_accuracy", 0.38, 50, ["columns=[lower_wear,long_sleeves,upper_colour]"]),
    "action": ("map", 0.27, 50, ["column=upper_colour"]),
    "reid": ("map", 0.13, 50, []),
    "pose": ("pck", 0.18, 50, ["width=32"]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rendered people with two splits, as parquet."""
    folder = tmp_path_factory.mktemp("people")
    return write_people(folder, train=range(480), validation=range(480, 540), test=range(540, 600))


def _run(*words):
    return main([str(word) for word in words])


def _without_times(file):
    times = ("seconds", "samples_per_second", "data_share")
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k not in times} for entry in entries]


def _record(folder):
    return json.loads((Path(folder) / "patchit.json").read_text())


@pytest.mark.e2e
@pytest.mark.parametrize("task", list(FLOORS))
def test_every_task_learns_from_the_embedded_default(task, tmp_path, monkeypatch):
    """End to end, on the first of the default people; the metric is of those held out."""
    some = some_people()
    monkeypatch.setattr(people, "load_people", lambda: some)
    figure, floor, steps, options = FLOORS[task]
    extra = ["--task-kwargs", *options] if options else []
    code = _run(
        "--task", task, "--backbone", "test_resnet", "--input-size", "64x32", "--max-steps", steps,
        "--batch-size", 32, "--learning-rate", "2e-3", "--eval-every", 0, "--output-dir",
        tmp_path / "run", *extra,
    )  # fmt: skip
    assert code == 0
    results = _record(tmp_path / "run")["results"]
    assert results["step"] == steps
    assert results[f"eval_{figure}"] > floor, results
    assert {key.removeprefix("eval_") for key in results if key.startswith("eval_")} <= set(NAMES)


@pytest.mark.e2e
@pytest.mark.parametrize("task", ["attributes", "action"])
def test_timm_and_transformers_load_the_head(task, finetuned):
    out = finetuned(task)
    mine = FinetunedModel.from_pretrained(out)
    picture = some_people()[599]["image"]
    network = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    config = timm.data.resolve_data_config(model=network)
    assert list(config["input_size"]) == [3, 48, 24]
    x = timm.data.create_transform(**config)(picture)[None]
    with torch.inference_mode():
        expected = mine.backbone(x)
        assert expected.shape == (1, mine.task.num_classes)
        assert torch.allclose(network(x), expected, atol=1e-6)
        classifier = AutoModelForImageClassification.from_pretrained(out).eval()
        assert torch.allclose(classifier(x).logits, expected, atol=1e-6)
        processor = AutoImageProcessor.from_pretrained(out)
        seen = processor(picture, return_tensors="pt")["pixel_values"]
        assert torch.allclose(seen, x, atol=1e-5)
    assert list(classifier.config.id2label.values()) == mine.task.label_names
    answers = pipeline("image-classification", model=str(out), top_k=100, device="cpu")(picture)
    scores = {answer["label"]: answer["score"] for answer in answers}
    shares = expected.sigmoid() if task == "attributes" else expected.softmax(1)
    for name, share in zip(mine.task.label_names, shares[0].tolist(), strict=True):
        assert scores[name] == pytest.approx(share, abs=1e-4)


@pytest.mark.e2e
@pytest.mark.parametrize("task", ["reid", "pose"])
def test_a_head_of_its_own_comes_back(task, finetuned):
    out = finetuned(task)
    model = FinetunedModel.from_pretrained(out)
    kept = {**load_file(out / "model.safetensors")}
    assert all(torch.equal(v, kept[k]) for k, v in model.backbone.state_dict().items())
    head = load_file(out / "head/model.safetensors")
    assert all(torch.equal(v, head[k]) for k, v in model.head.state_dict().items())
    backbone = timm.create_model(f"local-dir:{out}", pretrained=True, num_classes=0).eval()
    x = torch.rand(2, 3, 48, 24)
    with torch.inference_mode():
        features = backbone.forward_features(model.normalize(x))
        assert torch.allclose(features, model.features(x), atol=1e-5)
    card = (out / "README.md").read_text()
    assert "head/model.safetensors" in card
    assert task in card


@pytest.mark.e2e
def test_killed_and_continued_is_the_uninterrupted_run(tmp_path, folder, server):
    words = ["--task", "attributes", *SMALL, "--dataset", folder, "--max-steps", 8,
             "--save-every", 2, "--eval-every", 3, "--output-dir"]  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert _run(*words, whole) == 0
    half = ["finetune", *(str(word) for word in words), str(broken)]
    fourth = str(broken / "checkpoints" / "step-00000004")
    assert server.start(tmp_path, half, event=fourth) == [-signal.SIGKILL], log_of(tmp_path)
    assert not (broken / "patchit.json").exists()
    assert _run(*words, broken) == 0
    weights = [(run / "model.safetensors").read_bytes() for run in (whole, broken)]
    assert weights[0] == weights[1]
    metrics = [_without_times(run / "metrics.jsonl") for run in (whole, broken)]
    assert metrics[0] == metrics[1]


def test_weights_from_anywhere(export, tmp_path):
    mine = load_file(export / "model.safetensors")
    bare = tmp_path / "bare.safetensors"
    save_file(mine, bare)
    for source, backbone in ((str(export), None), (str(bare), "test_resnet")):
        initial = open_initial(source, backbone, 5)
        state = initial.backbone.state_dict()
        assert all(torch.equal(state[k], v) for k, v in mine.items())
        assert state["fc.weight"].shape[0] == 5
        assert initial.statistics is not None
    random = open_initial("random", "test_resnet", 5, seed=1)
    again = open_initial("random", "test_resnet", 5, seed=1)
    assert random.statistics is None
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            random.backbone.state_dict().values(), again.backbone.state_dict().values(), strict=True
        )
    )


@pytest.mark.e2e
def test_weights_from_the_hub(export, hub: Hub, tmp_path, folder):
    from patchit_hf.publish.upload import push_folder

    push_folder(str(export), "org/start")
    out = tmp_path / "run"
    assert _run("--init", "hf-hub:org/start", "--dataset", folder, "--input-size", "48x24",
                "--max-steps", 2, "--output-dir", out, "--push-to-hub", "--hub-model-id",
                "org/done", "--batch-size", 16) == 0  # fmt: skip
    model = FinetunedModel.from_pretrained("org/done")
    there = timm.create_model("hf-hub:org/done", pretrained=True).eval()
    x = torch.rand(1, 3, 48, 24, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(there(model.normalize(x)), model.eval()(x), atol=1e-5)
    assert "best.safetensors" not in "".join(p.name for p in out.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--init", "randm", "--backbone", "test_resnet"], "did you mean random"),
        (["--init", "random"], "needs --backbone"),
        (["--init", "missing.safetensors", "--backbone", "test_resnet"], "no such file"),
        (["--init", "random", "--backbone", "resnet1"], "similar names"),
        ([*SMALL, "--task", "cooking"], "must be one of action, attributes, pose, reid"),
        ([*SMALL, "--task-kwargs", "columns=[nose]"], "'nose'"),
        ([*SMALL, "--fraction", "2"], "--fraction 2"),
        ([*SMALL, "--subset-seed", "1"], "--subset-seed 1: needs --fraction or --shots"),
        ([*SMALL, "--augment", "spin=1"], "unknown option 'spin'"),
        ([*SMALL, "--layer-decay", "2"], "--layer-decay 2"),
        ([*SMALL, "--head-first", "3", "--max-steps", "3"], "--head-first 3: must leave steps"),
        (["--backbone", "test_resnet", "--input-size", "5x5"], "--input-size '5x5'"),
        ([*SMALL, "--learning-rate", "-1"], "--learning-rate -1.0"),
    ],
)
def test_bad_input_is_one_line(words, message, folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert _run(*words, "--dataset", folder, "--output-dir", out) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not out.exists()


def test_weights_of_another_network_are_refused(export, folder, tmp_path, capsys):
    code = _run("--init", export, "--backbone", "resnet18", "--dataset", folder, "--output-dir",
                tmp_path / "run")  # fmt: skip
    assert code == 2
    assert "holds a test_resnet" in capsys.readouterr().err
    code = _run("--init", export / "model.safetensors", "--backbone", "test_vit", "--dataset",
                folder, "--output-dir", tmp_path / "run")  # fmt: skip
    assert code == 2
    assert "these are not weights of test_vit" in capsys.readouterr().err


@pytest.mark.e2e
def test_a_frozen_backbone_stays(export, folder, tmp_path):
    out = tmp_path / "run"
    assert _run("--init", export, "--dataset", folder, "--input-size", "48x24", "--max-steps", 3,
                "--freeze", "--no-reestimate-batch-norm", "--output-dir", out) == 0  # fmt: skip
    before, after = load_file(export / "model.safetensors"), load_file(out / "model.safetensors")
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert not torch.equal(after["fc.weight"], torch.zeros_like(after["fc.weight"]))


@pytest.mark.e2e
def test_batch_statistics_become_those_of_whole_crops(export, folder, tmp_path):
    means = {}
    for flag in ("--reestimate-batch-norm", "--no-reestimate-batch-norm"):
        out = tmp_path / flag.strip("-")
        assert _run("--init", export, "--dataset", folder, "--input-size", "48x24", "--max-steps",
                    1, "--freeze", flag, "--output-dir", out) == 0  # fmt: skip
        means[flag] = load_file(out / "model.safetensors")["bn1.running_mean"]
    model = timm.create_model(f"local-dir:{export}", pretrained=True, num_classes=0)
    assert torch.equal(means["--no-reestimate-batch-norm"], model.bn1.running_mean)
    from patchit_hf.finetune.setup import sampled
    from patchit_hf.models.features import reestimate_batch_norm

    assert not torch.equal(means["--reestimate-batch-norm"], model.bn1.running_mean)
    assert reestimate_batch_norm(model, [torch.rand(4, 3, 48, 24)]) > 0
    assert sampled(5, 3).tolist() == [0, 2, 4]


@pytest.mark.parametrize("task", ["attributes", "reid"])  # timm's head, and one of its own
def test_only_the_head_is_trained_first(task, export, labelled_people, tmp_path):
    args = FinetuningArguments(
        output_dir=str(tmp_path / "run"), max_steps=4, head_first=0.5, train_batch_size=16,
        eval_steps=0, save_steps=0,
    )  # fmt: skip
    trainer = FinetuneTrainer(export, args, task, labelled_people, input_size=(48, 24))
    names = [f"backbone.{name}" for name in trainer.model.classifier_names()]
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    seen, after = [], trainer._after_step

    def look(step, means):
        now = dict(trainer.model.named_parameters())
        changed = {name for name in now if not torch.equal(now[name], before[name])}
        head = {name for name in changed if name.startswith("head.") or name in names}
        seen.append((bool(head), bool(changed - head)))
        return after(step, means)

    trainer._after_step = look
    trainer.train()
    assert seen == [(True, False), (True, False), (True, True), (True, True)]


@pytest.mark.parametrize("best", [True, False])
@pytest.mark.parametrize("task", ["attributes", "reid"])  # timm's head, and one of its own
def test_the_moving_average_is_chosen_and_exported(task, best, export, folder, tmp_path):
    class Weights:
        """Notes the average that there has to be after each step."""

        def __init__(self):
            self.average, self.noted = {}, []

        def on_step(self, trainer, step):
            decay = min(0.5, step / (9 + step))
            for name, value in trainer.model.state_dict().items():
                if value.is_floating_point() and not name.startswith("moving_average."):
                    before = self.average.get(name, begun[name])
                    self.average[name] = decay * before + (1 - decay) * value
            self.noted.append(dict(self.average))

    args = FinetuningArguments(
        output_dir=str(tmp_path / "run"), max_steps=6, train_batch_size=16, eval_steps=2, ema=0.5,
        learning_rate=0.02, load_best_model_at_end=best,
    )  # fmt: skip
    weights, splits = Weights(), datasets.load_dataset(str(folder))
    trainer = FinetuneTrainer(
        export, args, task, splits["train"], splits["validation"], input_size=(48, 24),
        callbacks=[weights],
    )  # fmt: skip
    begun = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    results = trainer.train()
    wanted = weights.noted[results["step"] - 1]
    assert best or results["step"] == 6
    for name, value in FinetunedModel.from_pretrained(tmp_path / "run").state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-5, msg=name)
    figure = f"eval_{trainer.task.primary_metric}"
    assert trainer.evaluate()[figure] == results[figure]
    card = (tmp_path / "run" / "README.md").read_text()
    assert "| moving average of the weights, decay | 0.5 |" in card


def test_deep_layers_learn_slower(export):
    from patchit_hf.models.finetuned_model import FinetunedModel as Model

    model = Model(open_initial(str(export), None, 4).backbone, None)
    groups = model.parameter_groups(0.05, 0.5)
    scales = sorted({group["lr_scale"] for group in groups if "lr_scale" in group})
    assert scales[-1] == 1
    assert scales[0] < 0.3
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))


def test_the_last_stage_is_new(export):
    backbone = open_initial(str(export), None, 4).backbone
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    name = reinitialize_last_stage(backbone, 0)
    changed = {
        k for k, v in backbone.state_dict().items() if v.ndim > 1 and not torch.equal(v, before[k])
    }
    assert name == "layer4"
    assert changed
    assert all(k.startswith("layer4.") for k in changed)


@pytest.mark.e2e
def test_the_best_weights_are_kept_and_it_stops_early(folder, tmp_path):
    out = tmp_path / "run"
    assert _run("--task", "action", *SMALL, "--dataset", folder, "--max-steps", 40, "--eval-every",
                2, "--early-stopping-patience", 2, "--early-stopping-threshold", 0.2,
                "--report-to", "tensorboard", "--output-dir", out) == 0  # fmt: skip
    record = _record(out)
    entries = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert record["training"]["steps"] < 40
    assert "no better accuracy" in record["training"]["stopped"]
    assert record["results"]["eval_accuracy"] == max(e["eval_accuracy"] for e in entries)
    events = EventAccumulator(str(next(out.rglob("events.out.tfevents.*")).parent)).Reload()
    tracked = [event.value for event in events.Scalars("eval_accuracy")]
    assert tracked == pytest.approx([e["eval_accuracy"] for e in entries])
    from patchit_hf.evaluate.command import main as evaluate

    assert (
        evaluate([str(out), "--dataset", folder, "--split", "validation", "--bootstrap", "0"]) == 0
    )
    found = json.loads((next((out / "evaluation").iterdir()) / "metrics.json").read_text())
    assert found["figures"]["accuracy"]["value"] == pytest.approx(
        record["results"]["eval_accuracy"], abs=1e-6
    )
