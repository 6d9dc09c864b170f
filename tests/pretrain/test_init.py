"""Pretraining from weights that there are: which are taken, which refused, what is said of them."""

import contextlib
import dataclasses
import itertools
import json
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file, save, save_file
from torch import distributed

from patchit_hf import (
    FinetunedModel,
    InputError,
    PatchTaskModel,
    PatchTaskTrainer,
    TrainingArguments,
    create_task,
)
from patchit_hf.common import cli
from patchit_hf.finetune.command import main as finetune
from patchit_hf.models.build import build_model
from patchit_hf.models.given_model import unwrapped
from patchit_hf.models.initial_weights import open_initial
from patchit_hf.models.origin import labels_of_tag
from patchit_hf.pretrain.arguments import RECIPES, recipe_for
from patchit_hf.pretrain.command import ARGUMENTS, main
from patchit_hf.publish.model_card import base_model, metadata, render_card
from tests.conftest import train_and_kill, write_people
from tests.hub.server import Hub

GRID = ["--task", "position", "--task-kwargs", "rows=3", "cols=2", "patch_size=8", "jitter=2"]
SMALL = [
    "--canvas",
    "50x25",
    "--batch-size",
    "16",
    "--max-steps",
    "3",
    "--no-figures",
    "--no-audit",
]
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.fixture(scope="module")
def task():
    return create_task("position", (50, 25), rows=3, cols=2, patch_size=8, jitter=2)


def _network(name="test_resnet", seed=7, **kwargs):
    """A network whose weights and batch statistics are unlike those that timm draws."""
    torch.manual_seed(seed)
    model = timm.create_model(name, **kwargs)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(0.02 * torch.rand(value.shape))
    return model


def _file(path, **changes):
    state = {**_network().state_dict(), **changes}
    kept = {name: value.contiguous() for name, value in state.items() if value is not None}
    save_file(kept, path)
    return path


def _timm_repository(hub: Hub, name, tag, **cfg):
    """Put a network of timm's on the loopback Hub, with its classifier, as timm's own are."""
    network = _network(name)
    config = {
        "architecture": name, "num_classes": 1000, "num_features": network.num_features,
        "pretrained_cfg": {**IMAGENET, "tag": tag, "input_size": [3, 160, 160],
                           "classifier": "fc", "first_conv": "conv1.0", **cfg},
    }  # fmt: skip
    hub.create(
        f"timm/{name}.{tag}",
        {
            "config.json": json.dumps(config).encode(),
            "model.safetensors": save(network.state_dict()),
            "README.md": b"---\nlicense: apache-2.0\n---\n",
        },
    )
    return network


def _run(capsys, *argv):
    capsys.readouterr()
    code = main([str(word) for word in argv])
    return code, capsys.readouterr().err


def _errors(text):
    return [line for line in text.splitlines() if line.startswith("error:")]


def _record(folder):
    return json.loads((folder / "patchit.json").read_text())


def _assert_has(model, state):
    mine = model.state_dict()
    assert mine
    for name, value in mine.items():
        assert torch.equal(value, state[name]), name


def _args(folder, **kwargs):
    options = {"max_steps": 2, "train_batch_size": 16, "figures": False, "audit": False}
    return TrainingArguments(output_dir=str(folder), **{**options, **kwargs})


# What is taken.


def test_every_weight_and_statistic_of_a_file_is_taken(tmp_path, task):
    file = _file(tmp_path / "mine.safetensors")
    model = build_model("test_resnet", task, 0, init=str(file))
    _assert_has(model.backbone, load_file(file))
    assert model.backbone.training
    assert model.origin.source == "mine.safetensors"
    assert not model.origin.labels_known
    assert model.origin.license is None
    cfg = timm.get_pretrained_cfg("test_resnet")
    assert model.statistics == (tuple(cfg.mean), tuple(cfg.std))


def test_the_head_and_random_weights_are_as_they_were(tmp_path, task):
    file = _file(tmp_path / "mine.safetensors")
    plain, started = (
        build_model("test_resnet", task, 3),
        build_model("test_resnet", task, 3, init=str(file)),
    )
    assert plain.origin is None
    assert plain.statistics is None
    for name, value in plain.head.state_dict().items():
        assert torch.equal(value, started.head.state_dict()[name])


def test_an_export_brings_its_network_and_statistics(export, task):
    model = build_model(None, task, 0, init=str(export))
    _assert_has(model.backbone, load_file(export / "model.safetensors"))
    assert model.spec.name == "test_resnet"
    data = _record(export)["data"]
    assert model.statistics == (tuple(data["mean"]), tuple(data["std"]))
    assert model.origin.labels_known
    assert model.origin.labels == ()


def test_a_vision_transformer_for_patches_keeps_its_weights(tmp_path):
    """Positions are resampled to the patches' size; all else is the file's."""
    network = _network("test_vit")
    save_file(network.state_dict(), tmp_path / "vit.safetensors")
    task = create_task("position", (200, 100))
    model = build_model("test_vit", task, 0, init=str(tmp_path / "vit.safetensors"))
    assert model.spec == build_model("test_vit", task, 0).spec
    state = network.state_dict()
    mine = model.backbone.state_dict()
    assert mine["pos_embed"].shape != state["pos_embed"].shape
    del mine["pos_embed"]
    assert all(torch.equal(value, state[name]) for name, value in mine.items())


@contextlib.contextmanager
def _one_process(tmp_path):
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


@pytest.mark.e2e
@pytest.mark.parametrize("way", ["plain", "compiled", "distributed", "both", "channels_last"])
def test_a_model_in_any_wrapper(tmp_path, task, crops, way):
    given = _network(num_classes=5).eval()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    with contextlib.ExitStack() as stack:
        wrapped = given
        if way == "channels_last":
            wrapped = given.to(memory_format=torch.channels_last)
        if way in ("distributed", "both"):
            stack.enter_context(_one_process(tmp_path))
            wrapped = torch.nn.parallel.DistributedDataParallel(given)
        if way in ("compiled", "both"):
            wrapped = torch.compile(wrapped)
        assert unwrapped(wrapped) is given
        model = build_model(None, task, 0, init=wrapped)
    _assert_has(model.backbone, before)
    trainer = PatchTaskTrainer(given, _args(tmp_path / "run"), task, crops)
    _assert_has(trainer.model.backbone, before)
    assert trainer.args.learning_rate == 1e-3
    assert trainer.run.config["init"] == "a timm model given in Python"
    assert not given.training
    for name, value in given.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_model_that_an_export_could_not_rebuild_is_refused(task):
    with pytest.raises(InputError, match="other arguments than timm's defaults"):
        build_model(None, task, 0, init=_network(act_layer="gelu"))
    with pytest.raises(InputError, match="other drop rates"):
        build_model(None, task, 0, init=_network(drop_path_rate=0.3))
    dropping = _network(drop_path_rate=0.3)
    model = build_model(None, task, 0, {"drop_path_rate": 0.3}, init=dropping)
    _assert_has(model.backbone, dropping.state_dict())
    with pytest.raises(InputError, match="model: a Linear; expected a model of timm"):
        build_model(None, task, 0, init=torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"conv1\.0\.weight \(16x1x3x3 there"):
        build_model(None, task, 0, init=_network(in_chans=1))


def test_timms_weights_by_tag(hub: Hub, task):
    network = _timm_repository(hub, "test_resnet", "r160_in1k")
    for source in ("timm", "timm:r160_in1k"):
        model = build_model("test_resnet", task, 0, init=source)
        _assert_has(model.backbone, network.state_dict())
        origin = model.origin
        assert origin.source == "test_resnet.r160_in1k"
        assert origin.hub_id == "timm/test_resnet.r160_in1k"
        assert origin.license == "apache-2.0"
        assert origin.labels == ("ImageNet",)
    for source in ("timm/test_resnet.r160_in1k", "hf-hub:timm/test_resnet.r160_in1k"):
        other = build_model(None, task, 0, init=source)
        _assert_has(other.backbone, network.state_dict())
        assert other.origin.fingerprint == model.origin.fingerprint
        assert other.origin.hub_id == "timm/test_resnet.r160_in1k"
        assert other.origin.license == "apache-2.0"
        assert other.origin.labels == ("ImageNet",)


@pytest.mark.parametrize(
    ("tag", "labels"),
    [
        ("in1k", ("ImageNet",)),
        ("a1_in1k", ("ImageNet",)),
        ("fb_inw21k", ("ImageNet",)),
        ("mim_in22k_ft_in1k", ("ImageNet",)),
        ("sw_in12k", ("ImageNet",)),
        ("mim_in22k", ()),
        ("in22k_ijepa", ()),
        ("lvd142m", ()),
        ("openai", ()),
        ("", ()),
    ],
)
def test_tags_with_imagenets_labels(tag, labels):
    assert labels_of_tag(tag) == labels


# What is refused.


def test_other_weights_are_one_line_and_nothing_is_written(tmp_path, crop_folder, capsys, export):
    conv = _network().conv1[0].weight.detach()
    files = {
        "shape": _file(tmp_path / "shape.safetensors", **{"conv1.0.weight": conv[:, :, :1, :1]}),
        "grey": _file(tmp_path / "grey.safetensors", **{"conv1.0.weight": conv[:, :1]}),
        "missing": _file(tmp_path / "missing.safetensors", **{"layer2.0.conv1.weight": None}),
        "surplus": _file(tmp_path / "surplus.safetensors", **{"layer9.weight": torch.ones(2)}),
        "nan": _file(tmp_path / "nan.safetensors", **{"conv1.0.weight": conv * float("nan")}),
    }
    (tmp_path / "damaged.safetensors").write_bytes(b"damaged")
    files["damaged"] = tmp_path / "damaged.safetensors"
    grey = tmp_path / "grey"
    _export_elsewhere(grey, _network(in_chans=1), {"in_chans": 1})
    network = ["--backbone", "test_resnet"]
    cases = [
        ([*network, "--init", files["shape"]], "conv1.0.weight (16x3x1x1 there, 16x3x3x3 in"),
        ([*network, "--init", files["grey"]], "conv1.0.weight (16x1x3x3 there, 16x3x3x3 in"),
        ([*network, "--init", files["missing"]], "are missing, such as layer2.0.conv1.weight"),
        ([*network, "--init", files["surplus"]], "no place for 1 of the tensors, such as layer9"),
        ([*network, "--init", files["nan"]], "are not finite"),
        ([*network, "--init", files["damaged"]], "cannot be read"),
        ([*network, "--init", tmp_path / "none.safetensors"], "no such file"),
        ([*network, "--init", "tim"], "did you mean timm?"),
        ([*network, "--init", "timm:nonsense"], "nonsense"),
        (["--init", files["grey"]], "needs --backbone"),
        (["--init", "timm"], "needs --backbone"),
        (["--init", grey], "takes 1 input channels; person crops have 3"),
        (["--backbone", "resnet18", "--init", export], "holds a test_resnet, and --backbone asks"),
        (["--backbone", "test_resnet.r160_in1k"], "--backbone test_resnet --init timm:r160_in1k"),
        ([*network, "--freeze-stages", "4"], "test_resnet has 4 stages, of which the last"),
        ([*network, "--head-first", "3"], "--head-first 3: must leave steps"),
        ([*network, "--layer-decay", "2"], "--layer-decay 2.0: must be above 0 and at most 1"),
    ]
    out = tmp_path / "run"
    for words, message in cases:
        code, text = _run(
            capsys, *SMALL, *GRID, *words, "--dataset", crop_folder, "--output-dir", out
        )
        assert code == 2, (words, text)
        assert len(_errors(text)) == 1, (words, text)
        assert message in _errors(text)[0], (words, text)
        assert "Traceback" not in text
        assert not out.exists()


def _export_elsewhere(folder, network, args, **cfg):
    folder.mkdir()
    config = {
        "architecture": "test_resnet", "num_classes": 1000, "model_args": args,
        "pretrained_cfg": {**IMAGENET, "input_size": [args.get("in_chans", 3), 160, 160],
                           "classifier": "fc", "first_conv": "conv1.0", **cfg},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    save_file(network.state_dict(), folder / "model.safetensors")


def test_tensors_that_timm_leaves_out_are_no_reason_to_refuse(tmp_path):
    network = _network("test_vit")
    extra = {"mask_token": torch.zeros(1, 1, 64)}  # of a masked pretraining
    save_file({**network.state_dict(), **extra}, tmp_path / "vit.safetensors")
    model = build_model(
        "test_vit", create_task("position"), 0, init=str(tmp_path / "vit.safetensors")
    )
    assert torch.equal(model.backbone.cls_token, network.cls_token)


def test_a_tag_is_refused_everywhere(task):
    for build in (
        lambda: build_model("resnet18.a1_in1k", task, 0),
        lambda: open_initial("random", "resnet18.a1_in1k", 0),
    ):
        with pytest.raises(InputError, match="--backbone resnet18 --init timm:a1_in1k"):
            build()


# What is trained.


def test_patches_are_normalised_as_the_weights_expect(tmp_path, task, crops):
    file = _file(tmp_path / "mine.safetensors")
    model = build_model("test_resnet", task, 0, init=str(file))
    model.statistics = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    trainer = PatchTaskTrainer(model, _args(tmp_path / "run"), task, crops)
    assert trainer.task.transform.mean == (0.1, 0.2, 0.3)
    assert trainer.task.transform.std == (0.4, 0.5, 0.6)
    part = next(trainer._parts(0))
    plain = task.with_statistics((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    trainer.task = plain
    image = next(trainer._parts(0)).inputs
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    expected = (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    assert torch.allclose(part.inputs, expected, atol=1e-6)


def test_only_the_head_is_trained_first(tmp_path, task, crops):
    def trained(steps, **kwargs):
        trainer = PatchTaskTrainer(
            "test_resnet", _args(tmp_path / f"{steps}", max_steps=4, **kwargs), task, crops
        )
        before = {n: p.clone() for n, p in trainer.model.named_parameters()}
        seen = []
        after = trainer._after_step

        def look(step, means):
            now = dict(trainer.model.named_parameters())
            changed = {n for n in now if not torch.equal(now[n], before[n])}
            seen.append(any(n.startswith("backbone.") for n in changed))
            assert any(n.startswith("head.") for n in changed)
            return after(step, means)

        trainer._after_step = look
        trainer.train()
        return seen, [trainer.lr_at(step) for step in range(4)]

    seen, rates = trained(2, head_first=2)
    assert seen == [False, False, True, True]
    assert rates[0] == rates[1] == 4e-3
    assert trained(0.25, head_first=0.25)[0] == [False, True, True, True]
    assert trained(0, head_first=0.0)[0][1:] == [True, True, True]


def test_frozen_stages_stay_with_their_statistics(tmp_path, task, crops):
    args = _args(tmp_path / "run", freeze_stages=2, max_steps=3)
    trainer = PatchTaskTrainer("test_resnet", args, task, crops)
    before = {n: v.clone() for n, v in trainer.model.backbone.state_dict().items()}
    trainer.train()
    after = trainer.model.backbone.state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"layer3", "layer4"}
    assert trainer.notes["gradient"]["untouched"] == []


@pytest.mark.e2e
def test_the_initial_weights_are_mixed_in_at_the_end(tmp_path, task, crops):
    file = _file(tmp_path / "mine.safetensors")

    def trained(name, **options):
        model = build_model("test_resnet", task, 0, init=str(file))
        trainer = PatchTaskTrainer(
            model, _args(tmp_path / name, max_steps=3, **options), task, crops
        )
        begun = {n: v.clone() for n, v in model.backbone.state_dict().items()}
        trainer.train()
        return trainer, begun, load_file(tmp_path / name / "model.safetensors")

    _, initial, plain = trained("plain", freeze_stages=1)
    trainer, _, kept = trained("kept", freeze_stages=1, keep_initial=0.25)
    parameters = dict(trainer.model.backbone.named_parameters())
    assert any(not torch.equal(plain[name], initial[name]) for name in parameters)
    for name in parameters:
        expected = 0.25 * initial[name] + 0.75 * plain[name]
        torch.testing.assert_close(kept[name], expected, rtol=1e-5, atol=1e-6)

    for name, value in kept.items():
        if name.startswith(("conv1", "bn1", "layer1")):  # the frozen stages
            assert torch.equal(value, initial[name]), name
    card = (tmp_path / "kept" / "README.md").read_text()
    assert "| share of the initial weights in these | 0.25 |" in card
    assert "share of the initial weights" not in (tmp_path / "plain" / "README.md").read_text()

    # Batch statistics are those of the first 16 batches: seen at the first layer.
    trainer, _, kept = trained("all", keep_initial=0.25)
    inputs = [part.inputs.flatten(0, -4) for part in itertools.islice(trainer._parts(0), 16)]
    first = trainer.model.backbone.conv1[0]
    maps = [F.conv2d(x, first.weight, None, first.stride, first.padding) for x in inputs]
    means = [values.mean((0, 2, 3)) for values in maps]
    torch.testing.assert_close(
        kept["conv1.1.running_mean"], torch.stack(means).mean(0).detach(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--keep-initial", "0.5"], "nothing to keep in random weights; give --init"),
        (["--keep-initial", "1"], "--keep-initial 1.0: must be a number from 0 to below 1"),
        (
            ["--keep-initial", "0.5", "--early-stopping-patience", "2"],
            "not possible with --early-stopping-patience",
        ),
    ],
)
def test_initial_weights_that_cannot_be_kept(tmp_path, capsys, options, words):
    out = tmp_path / "run"
    code = main(["--backbone", "test_resnet", *SMALL, *GRID, *options, "--output-dir", str(out)])
    assert code == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_deep_layers_learn_faster(tmp_path, task, crops):
    args = _args(tmp_path / "run", layer_decay=0.5, optim="adamw")
    trainer = PatchTaskTrainer("test_resnet", args, task, crops)
    rates = {}
    groups = trainer.optimizer.param_groups
    names = {id(p): n for n, p in trainer.model.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            rates[names[id(parameter)]] = group.get("lr_scale", 1.0)
    assert rates["backbone.conv1.0.weight"] < rates["backbone.layer2.0.conv1.weight"]
    assert rates["backbone.layer2.0.conv1.weight"] < rates["backbone.layer4.0.conv1.weight"]
    assert {rate for name, rate in rates.items() if name.startswith("head.")} == {1.0}
    trained = {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert set(rates) == trained


def test_defaults_follow_the_initial_weights(tmp_path, export, task):
    for init, rate in (("random", 4e-3), (str(export), 1e-3)):
        model = build_model("test_resnet", task, 0, init=init)
        settled = TrainingArguments().settled(random=model.origin is None)
        assert settled.learning_rate == rate
    assert TrainingArguments(learning_rate=0.5).settled(random=False).learning_rate == 0.5


# What is said.


def _parsed(*words):
    return cli.parse(
        "", list(words), *ARGUMENTS, prog="pretrain", recipes=RECIPES, recipe_for=recipe_for
    )


def test_a_recipe_is_task_and_settings_and_flags_win():
    what, args = _parsed("--recipe", "embed", "--init", "timm", "--backbone", "resnet10t")
    assert (what.recipe, what.task) == ("embed", "octaves")
    assert what.task_kwargs.items() >= {"details": 0, "position_weight": 0}.items()
    assert (args.keep_initial, args.num_train_epochs) == (0.0, 14)
    what, args = _parsed(
        "--recipe", "embed", "--task-kwargs", "light=0.5", "position_weight=1", "--epochs", "3"
    )
    wanted = {"details": 0, "position_weight": 1, "light": 0.5, "tint": 0.2}
    assert what.task_kwargs.items() >= wanted.items()
    assert args.num_train_epochs == 3
    what, args = _parsed("--recipe", "adapt", "--init", "timm", "--keep-initial", "0.5")
    assert (what.task, what.task_kwargs, args.keep_initial) == ("octaves", {}, 0.5)


def test_given_weights_are_adapted_unless_a_task_is_given(tmp_path):
    adapted = {
        ("--init", "timm"): "adapt",
        ("--init", "timm", "--recipe", "embed"): "embed",
        ("--init", "timm", "--task", "position"): None,
        ("--init", "timm", "--task-kwargs", "light=0"): "adapt",
        ("--init", "random"): None,
        (): None,
    }
    for words, recipe in adapted.items():
        what, _ = _parsed(*words)
        assert what.recipe == recipe
        assert what.task == ("octaves" if recipe else "position")
    file = tmp_path / "mine.yaml"
    file.write_text("init: timm\ntask: pt8\n")
    assert _parsed("--config", str(file))[0].task == "pt8"


def test_options_of_another_task_name_the_recipe(tmp_path, crop_folder, capsys):
    file = _file(tmp_path / "mine.safetensors")
    words = ["--backbone", "test_resnet", "--init", str(file), "--dataset", crop_folder]
    out = tmp_path / "run"
    assert main([*words, "--task-kwargs", "rows=3", "--output-dir", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: --task-kwargs: task 'octaves' has no option 'rows'")
    assert error.endswith("--init takes the recipe adapt unless you give --task)")
    assert not out.exists()


def test_a_recipe_is_a_file_that_config_takes(tmp_path):
    for name in ("adapt", "embed"):
        named, by_file = (
            _parsed("--init", "timm", flag, value)
            for flag, value in (("--recipe", name), ("--config", str(RECIPES / f"{name}.yaml")))
        )
        assert dataclasses.replace(named[0], recipe=None) == by_file[0]
        assert named[1] == by_file[1]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("options", "name", "kept"),
    [([], "adapt", 0.0), (["--recipe", "embed", "--keep-initial", "0.5"], "embed", 0.5)],
)
def test_what_recipes_run(options, name, kept, tmp_path, crop_folder, capsys, monkeypatch):
    """The default with initial weights asks for places and persons, embed for persons alone."""
    monkeypatch.chdir(tmp_path)
    file = _file(tmp_path / "mine.safetensors")
    words = ["--backbone", "test_resnet", *SMALL, "--init", str(file), "--dataset", crop_folder]
    assert main([*words, *options]) == 0, capsys.readouterr().err
    said = capsys.readouterr().err
    assert ("from-mine: held-out accuracy " in said) == (name == "adapt")
    assert ("% find their own person" in said) == (name == "embed")
    folder = Path(f"runs/test_resnet-{name}-crops-from-mine")
    record = json.loads((folder / "patchit.json").read_text())
    assert record["task"]["name"] == "octaves"
    assert (record["task"]["kwargs"]["position_weight"] == 0) == (name == "embed")
    assert record["config"].get("keep_initial", 0.0) == kept
    card = (folder / "README.md").read_text()
    assert ("| share of the initial weights in these | 0.5 |" in card) == bool(kept)


@pytest.mark.e2e
def test_several_phases_are_several_commands(tmp_path, crop_folder, capsys, export):
    first, second, third = export, tmp_path / "second", tmp_path / "third"
    words = [*SMALL, "--dataset", crop_folder]
    code, text = _run(
        capsys, *words, "--init", first, "--task", "pair", *GRID, "--output-dir", second
    )
    assert code == 0, text
    code, text = _run(
        capsys, *words, "--init", second, "--task", "scale", "--output-dir", third,
        "--task-kwargs", "sizes=[12,20]", "patch_size=12", "jitter=2",
    )  # fmt: skip
    assert code == 0, text
    records = [_record(folder) for folder in (first, second, third)]
    assert records[0]["initial_weights"] is None
    assert records[1]["data"]["mean"] == records[0]["data"]["mean"] == records[2]["data"]["mean"]
    config = json.loads((third / "config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == records[0]["data"]["mean"]
    start = records[2]["initial_weights"]
    assert start["source"] == "second"
    assert [entry["source"] for entry in start["earlier"]] == [first.name]
    assert start["labels_known"]
    assert start["labels"] == []
    weights = load_file(third / "model.safetensors")
    loaded = timm.create_model(f"local-dir:{third}", pretrained=True, num_classes=0)
    _assert_has(loaded, weights)
    card = (third / "README.md").read_text()
    assert "learnt without any label, too" in card
    data = Path(records[0]["data"]["name"]).name
    trained = f"trained by position on {data} (licence of the data: none is stated)"
    assert f"| which had started from | `{first.name}`, {trained} (licence: " in card
    again = PatchTaskModel.from_pretrained(third)
    assert [entry["source"] for entry in again.origin.earlier] == ["second", first.name]


@pytest.mark.e2e
def test_a_run_from_other_weights_does_not_continue(tmp_path, crop_folder, capsys):
    file = _file(tmp_path / "mine.safetensors")
    words = [*SMALL, *GRID, "--backbone", "test_resnet", "--init", file, "--dataset", crop_folder]
    out = tmp_path / "run"
    assert _run(capsys, *words, "--output-dir", out)[0] == 0
    config = json.loads((out / "run.json").read_text())["config"]
    assert config["init"] == str(file)
    (out / "patchit.json").unlink()
    code, text = _run(capsys, *words, "--output-dir", out)
    assert code == 0, text
    (out / "patchit.json").unlink()
    _file(file, **{"conv1.0.weight": torch.zeros(16, 3, 3, 3) + 0.01})
    code, text = _run(capsys, *words, "--output-dir", out)
    assert code == 2
    assert "these differ: initial_weights (" in _errors(text)[0]
    code, text = _run(capsys, *words, "--init", "random", "--output-dir", out)
    assert code == 2
    assert "init (" in _errors(text)[0]
    assert "learning_rate (0.001 there, 0.004 here)" in _errors(text)[0]


@pytest.mark.e2e
def test_the_card_names_imagenets_labels_licence_and_base_model(
    tmp_path, crop_folder, capsys, hub: Hub
):
    _timm_repository(hub, "test_resnet", "r160_in1k")
    first, second = tmp_path / "first", tmp_path / "second"
    words = [*SMALL, *GRID, "--dataset", crop_folder]
    code, text = _run(
        capsys, *words, "--backbone", "test_resnet", "--init", "timm", "--output-dir", first
    )
    assert code == 0, text
    assert _run(capsys, *words, "--init", first, "--output-dir", second)[0] == 0
    for folder in (first, second):
        card = (folder / "README.md").read_text()
        assert "without any label" not in card
        assert "**Labels are in these weights:**" in card
        assert "ImageNet" in card
        top = yaml.safe_load(card.split("---")[1])
        assert top["base_model"] == "timm/test_resnet.r160_in1k"
        assert top["license"] == "other"
        assert top["license_name"] == "see-the-data-set-and-the-initial-weights"
        assert "self-supervised" not in top["tags"]
    card = (first / "README.md").read_text()
    assert "| licence of the initial weights | apache-2.0 |" in card
    assert "| mean | 0.5, 0.5, 0.5 |" in card  # timm's of this network
    assert "| mean and standard deviation | those of the initial weights |" in card
    record, config = _record(first), json.loads((first / "config.json").read_text())
    assert record["data"]["mean"] == record["data"]["std"] == [0.5, 0.5, 0.5]
    assert config["pretrained_cfg"]["mean"] == config["pretrained_cfg"]["std"] == [0.5, 0.5, 0.5]
    assert config["pretrained_cfg"]["interpolation"] == "bilinear"
    assert record["initial_weights"]["source"] == "test_resnet.r160_in1k"
    assert record["config"]["init"] == "timm"


def test_the_card_says_what_is_not_known(export):
    record, config = _record(export), json.loads((export / "config.json").read_text())
    start = {
        "init": "x.safetensors", "architecture": "test_resnet", "source": "x.safetensors",
        "trained": None, "hub_id": None, "license": None, "labels": [], "labels_known": False,
        "fingerprint": "0", "earlier": [],
    }  # fmt: skip
    random = render_card(record, config)
    old = {key: value for key, value in record.items() if key != "initial_weights"}
    assert render_card(old, config) == random
    assert "**without any label**" in random
    card = render_card({**record, "initial_weights": start}, config)
    assert "without any label" not in card
    assert "is not known" in card
    assert "| licence of the initial weights | none is stated |" in card
    assert base_model({"initial_weights": start}) is None


def test_licences_are_only_one_where_both_are(export):
    def licence(data, start):
        entry = {
            "license": start,
            "labels": [],
            "labels_known": True,
            "earlier": [],
            "hub_id": None,
        }
        record = {**_record(export), "initial_weights": entry}
        record["data"] = {**record["data"], "license": data}
        return metadata(record).license

    assert licence("cc-by-4.0", "cc-by-4.0") == "cc-by-4.0"
    assert licence("cc-by-4.0", "cc-by-nc-4.0") == "other"
    assert licence("cc-by-4.0", None) == "other"
    assert licence(None, "mit") == "other"


@pytest.mark.e2e
def test_a_finetuned_model_as_initial_weights_tells_of_its_labels(tmp_path, export, task):
    folder = tmp_path / "people"
    folder.mkdir()
    data = write_people(folder, train=range(60), validation=range(60, 80))
    out = tmp_path / "finetuned"
    words = [
        "--task", "attributes", "--init", str(export), "--dataset", data, "--input-size", "48x24",
        "--max-steps", "1", "--batch-size", "16", "--output-dir", str(out),
    ]  # fmt: skip
    assert finetune(words) == 0
    assert _record(out)["initial_weights"]["source"] == export.name
    model = build_model(None, task, 0, init=str(out))
    weights = FinetunedModel.from_pretrained(out).backbone.state_dict()
    _assert_has(model.backbone, weights)
    assert model.origin.labels == ("people",)
    assert [entry["source"] for entry in model.origin.earlier] == [export.name]


def test_an_earlier_run_continues(tmp_path, task, crops):
    """The configuration of a run from random weights has no more keys than it had."""
    trainer = PatchTaskTrainer("test_resnet", _args(tmp_path / "run"), task, crops)
    new = {
        "init",
        "initial_weights",
        "layer_decay",
        "freeze_stages",
        "head_first",
        "keep_initial",
        "ema",
    }
    assert not new & set(trainer.run.config)
    assert trainer.run.config["learning_rate"] == 4e-3


@pytest.mark.e2e
def test_a_killed_run_from_weights_ends_as_the_uninterrupted_one(tmp_path, task, crops):
    file = _file(tmp_path / "mine.safetensors")
    options = {
        "max_steps": 8, "save_steps": 3, "head_first": 4, "freeze_stages": 1, "layer_decay": 0.7,
        "keep_initial": 0.3, "ema": 0.8,
    }  # fmt: skip

    def trainer(name):
        model = build_model("test_resnet", task, 0, init=str(file))
        return PatchTaskTrainer(model, _args(tmp_path / name, **options), task, crops)

    trainer("whole").train()
    for stop in (3, 6):  # before and after the backbone's first step
        train_and_kill(trainer("killed"), stop)
    trainer("killed").train()
    for name in ("model.safetensors", "head/model.safetensors"):
        whole, killed = (load_file(tmp_path / run / name) for run in ("whole", "killed"))
        assert whole.keys() == killed.keys()
        assert all(torch.equal(whole[key], killed[key]) for key in whole)
