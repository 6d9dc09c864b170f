"""Loading an export: every line of the table in ``docs/load.md``, and what is refused."""

import functools
import inspect
import io
import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import timm.models
import torch
from datasets import Dataset
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import EntryNotFoundError
from PIL import Image

import patchit_hf
from patchit_hf import (
    InputError,
    PatchTaskModel,
    PatchTaskTrainer,
    TrainingArguments,
    build_model,
    create_task,
)
from patchit_hf.average.build import average
from patchit_hf.models.exported import Location, locate
from patchit_hf.models.initial_weights import open_initial
from patchit_hf.predict.embeddings import embed
from patchit_hf.publish import registry
from patchit_hf.publish.upload import push_folder
from tests.conftest import make_crops
from tests.hub.server import Hub

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "load.md"
SMALL = {"rows": 3, "cols": 2, "patch_size": 8, "jitter": 2, "input_scale": 4}
KEEPS_ARGUMENTS = pytest.mark.skipif(
    "pretrained_model_args" not in inspect.signature(timm.models.build_model_with_cfg).parameters,
    reason="timm 1.0.31 is the first whose names keep a vision transformer's arguments",
)


def _train(folder, backbone="test_vit", seed=0, **options):
    args = TrainingArguments(
        output_dir=str(folder),
        max_steps=2,
        train_batch_size=8,
        seed=seed,
        crop_cache_gb=0,
        figures=False,
    )
    task = create_task("position", (50, 25), **{**SMALL, **options})
    crops = Dataset.from_dict({"image": make_crops(8)})
    trainer = PatchTaskTrainer(backbone, args, task, crops, data_info={"name": "made up"})
    trainer.train()
    return trainer.model.cpu().eval().to(memory_format=torch.contiguous_format)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A trained model, in memory and as an export."""
    folder = tmp_path_factory.mktemp("load") / "run"
    return _train(folder), folder


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of the export that a test may damage."""
    return Path(shutil.copytree(exported[1], tmp_path / "export"))


def _change(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.e2e
@pytest.mark.parametrize(
    "architectures",
    [
        ["test_resnet", "test_vit"],
        pytest.param(["resnet18", "convnext_atto", "vit_tiny_patch16_224"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_every_line_of_the_table(hub: Hub, tmp_path, architectures):
    argv = [sys.executable, str(HERE / "ways.py"), str(PAGE), *architectures]
    shown = hub.run(argv, tmp_path, cwd=tmp_path, timeout=600).stdout
    table, _, _ = PAGE.read_text(encoding="utf-8").partition("## Older versions")
    lines = table.splitlines()
    ways = [line for line in lines if line.startswith("| ") and line.count("`") == 2]
    assert len(ways) >= 20
    for way in ways:
        assert f": {way.split('|')[1].strip()}: " in shown, way


@pytest.mark.e2e
def test_pretraining_goes_on_from_an_export(exported, tmp_path):
    model, folder = exported
    loaded = PatchTaskModel.from_pretrained(folder)
    assert not loaded.training
    args = TrainingArguments(output_dir=str(tmp_path / "more"), max_steps=1, train_batch_size=8)
    crops = Dataset.from_dict({"image": make_crops(8)})
    trainer = PatchTaskTrainer(loaded, args, loaded.task, crops)
    before = {name: p.detach().cpu().clone() for name, p in trainer.model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert torch.equal(before[name], parameter.contiguous()), name
    trainer.train()
    after = trainer.model.cpu().named_parameters()
    assert any(not torch.equal(before[name], p) for name, p in after)


@pytest.mark.e2e
def test_revisions(hub: Hub, exported, tmp_path, monkeypatch):
    model, folder = exported
    old = _train(tmp_path / "old", seed=1)
    push_folder(tmp_path / "old", "org/x")
    HfApi().create_tag("org/x", tag="v1")
    push_folder(folder, "org/x")
    inputs = torch.randn(2, 3, 32, 32)
    for source, revision, wanted in (
        ("org/x", None, model),
        ("hf-hub:org/x", "main", model),
        ("org/x@v1", None, old),
        ("org/x", "v1", old),
        (f"local-dir:{tmp_path / 'old'}", None, old),
    ):
        loaded = PatchTaskModel.from_pretrained(source, revision)
        torch.testing.assert_close(loaded(inputs), wanted(inputs))
    kept = {"cache_dir": tmp_path / "elsewhere", "token": False}
    assert PatchTaskModel.from_pretrained("org/x", "v1", **kept).spec.name == "test_vit"
    assert (tmp_path / "elsewhere" / "models--org--x").is_dir()
    assert patchit_hf.model_args("org/x", "v1", **kept) == patchit_hf.model_args("org/x@v1")
    args = patchit_hf.model_args("org/x@v1")
    usual, there = (patchit_hf.pretrained_cfg("org/x", "v1", **how) for how in ({}, kept))
    assert usual["hf_hub_id"] == "org/x@v1"
    assert there["hf_hub_id"] is None
    assert Path(there["file"]).is_relative_to(tmp_path / "elsewhere")
    for cfg in (usual, there):
        loaded = timm.create_model("test_vit", pretrained=True, pretrained_cfg=cfg, **args).eval()
        torch.testing.assert_close(loaded(inputs), old.backbone(inputs))
    _other_loaders(hub, old, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.stop()
    cached = PatchTaskModel.from_pretrained("org/x")
    torch.testing.assert_close(cached(inputs), model(inputs))


def _other_loaders(hub, old, tmp_path):
    """Every loader reads a private repository by its token alone, from where it is told to."""
    repo = hub.repo("org/x")
    repo.private, token = True, hub.token
    weights = old.backbone.state_dict()
    Image.new("RGB", (25, 50), (90, 40, 10)).save(tmp_path / "image.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_TOKEN")
        kept = {"cache_dir": tmp_path / "private", "token": token}
        ways = {
            "open_initial": lambda how: (
                open_initial("org/x", None, 0, revision="v1", **how).backbone
            ),
            "build_model": lambda how: (
                build_model(None, old.task, 0, init="org/x", revision="v1", **how).backbone
            ),
            "register": lambda how: timm.create_model(
                patchit_hf.register("org/x", "private", revision="v1", **how), pretrained=True
            ),
            "from_pretrained": lambda how: PatchTaskModel.from_pretrained("org/x", "v1", **how),
            "embed": lambda how: embed("org/x", tmp_path / "image.png", revision="v1", **how),
            "average": lambda how: average(
                ["org/x@v1", f"org/x@{repo.head('v1')}"], tmp_path / "average", dataset=None, **how
            ),
        }
        for name, way in ways.items():
            with pytest.raises(InputError, match=r"401|Repository Not Found"):
                way({"cache_dir": tmp_path / "none", "token": False})
            found = way(kept)
            if name == "embed":
                wanted = old.embed(tmp_path / "image.png")
                np.testing.assert_allclose(found.vectors[0], wanted, atol=1e-5)
                continue
            if name == "average":
                found = timm.create_model(f"local-dir:{found}", pretrained=True)
            state = getattr(found, "backbone", found).state_dict()
            for key, value in weights.items():
                torch.testing.assert_close(state[key], value, msg=f"{name}: {key}")
    assert not (tmp_path / "none").exists() or not list((tmp_path / "none").rglob("*.safetensors"))
    repo.private = False


def test_a_revision_of_what_has_none_is_one_line(exported, tmp_path):
    folder = exported[1]
    for load in (
        functools.partial(PatchTaskModel.from_pretrained, folder),
        functools.partial(patchit_hf.register, folder),
        functools.partial(patchit_hf.pretrained_cfg, folder),
        functools.partial(open_initial, str(folder), None, 0),
        functools.partial(open_initial, str(folder / "model.safetensors"), "test_vit", 0),
        functools.partial(open_initial, "random", "test_vit", 0),
        functools.partial(open_initial, timm.create_model("test_vit"), None, 0),
    ):
        with pytest.raises(InputError, match="is not on the Hub, so it has no revision 'v1'"):
            load(revision="v1")


@KEEPS_ARGUMENTS
def test_a_name_in_timm(exported, tmp_path):
    model, folder = exported
    before = timm.list_models(pretrained=True)
    plain = timm.create_model("test_vit")
    register = functools.partial(patchit_hf.register, timm_name=True)
    assert register(folder) == "test_vit.patchit_made_up"
    assert register(folder) == "test_vit.patchit_made_up"
    assert register(folder, tag="mine") == "test_vit.mine"
    added = {"test_vit.patchit_made_up", "test_vit.mine"}
    assert set(timm.list_models(pretrained=True)) == {*before, *added}
    inputs = torch.randn(2, 3, 32, 32)
    loaded = timm.create_model("test_vit.mine", pretrained=True, img_size=(64, 32)).eval()
    larger = torch.randn(2, 3, 64, 32)
    torch.testing.assert_close(loaded(larger), model.backbone(larger), rtol=1e-4, atol=1e-5)
    loaded = timm.create_model("test_vit.mine", pretrained=True).eval()
    torch.testing.assert_close(loaded(inputs), model.backbone(inputs))
    timm.models.save_for_hf(loaded, tmp_path / "again", safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path / 'again'}", pretrained=True).eval()
    torch.testing.assert_close(again(inputs), model.backbone(inputs))
    untouched = timm.create_model("test_vit")
    assert untouched.global_pool == plain.global_pool == "token"
    assert untouched.pretrained_cfg == plain.pretrained_cfg


@pytest.fixture
def no_names(monkeypatch):
    """Forget what other tests registered."""
    for known in ("_cfgs", "_locations"):
        monkeypatch.setattr(registry, known, {})


@KEEPS_ARGUMENTS
def test_an_architecture_of_its_own_name(exported, tmp_path, recwarn, no_names):
    """The public way: nothing of timm's own is changed."""
    model, folder = exported
    before, entrypoint = timm.list_models(pretrained=True), timm.models.model_entrypoint("test_vit")
    other = _train(tmp_path / "other", seed=1)
    register = patchit_hf.register
    names = [register(folder), register(tmp_path / "other", tag="other"), register(folder)]
    assert names == ["patchit_test_vit.made_up", "patchit_test_vit.other", names[0]]
    assert not [w for w in recwarn if "Overwriting" in str(w.message)]
    ours = {*names, "patchit_test_vit"}
    assert set(timm.list_models("patchit_*", pretrained=True)) == set(names)
    assert set(timm.list_pretrained("patchit_*")) == set(names)
    assert timm.list_models("patchit_*") == ["patchit_test_vit"]
    assert set(timm.list_models(pretrained=True)) - set(before) <= ours
    assert timm.models.model_entrypoint("test_vit") is entrypoint
    inputs, larger = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 64, 32)
    for name, wanted in (
        ("patchit_test_vit", model),
        ("patchit_test_vit.made_up", model),
        ("patchit_test_vit.other", other),
    ):
        loaded = timm.create_model(name, pretrained=True).eval()
        torch.testing.assert_close(loaded(inputs), wanted.backbone(inputs))
    sized = timm.create_model("patchit_test_vit.other", pretrained=True, img_size=(64, 32)).eval()
    torch.testing.assert_close(sized(larger), other.backbone(larger), rtol=1e-4, atol=1e-5)
    classifier = timm.create_model("patchit_test_vit", pretrained=True, num_classes=7).eval()
    assert classifier(inputs).shape == (2, 7)
    empty = timm.create_model("patchit_test_vit", num_classes=0).eval()
    assert empty.global_pool == "avg"
    assert not torch.allclose(empty(inputs), model.backbone(inputs))
    data = timm.data.resolve_data_config(model=loaded)
    assert data["mean"] == pytest.approx(other.task.transform.mean)
    timm.models.save_for_hf(loaded, tmp_path / "again", safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path / 'again'}", pretrained=True).eval()
    torch.testing.assert_close(again(inputs), other.backbone(inputs))
    with pytest.raises(InputError, match=r"'patchit_test_vit\.absent': not registered"):
        timm.create_model("patchit_test_vit.absent", pretrained=True)
    with pytest.raises(InputError, match=r"stands for .*; choose another tag"):
        register(tmp_path / "other", tag="made_up")


@KEEPS_ARGUMENTS
def test_an_export_of_the_hub_has_a_name_of_its_own(hub: Hub, exported):
    model, folder = exported
    push_folder(folder, "org/x")
    name = patchit_hf.register("org/x", tag="hub")
    inputs = torch.randn(2, 3, 32, 32)
    loaded = timm.create_model(name, pretrained=True).eval()
    torch.testing.assert_close(loaded(inputs), model.backbone(inputs))


@KEEPS_ARGUMENTS
@pytest.mark.parametrize("part", ["_model_has_pretrained", "_model_with_tags"])
def test_without_timms_private_registry_there_is_the_public_way(exported, monkeypatch, part):
    class Rest:
        _model_entrypoints, _model_pretrained_cfgs = {}, {}
        _model_has_pretrained, _model_with_tags = set(), {}

    delattr(Rest, part)
    monkeypatch.setattr(timm.models, "_registry", Rest)
    with pytest.raises(
        InputError, match=rf"{part}'; register.* gives the name patchit_test_vit\.late"
    ):
        patchit_hf.register(exported[1], tag="late", timm_name=True)
    assert patchit_hf.register(exported[1], tag="late") == "patchit_test_vit.late"
    inputs = torch.randn(2, 3, 32, 32)
    loaded = timm.create_model("patchit_test_vit.late", pretrained=True).eval()
    torch.testing.assert_close(loaded(inputs), exported[0].backbone(inputs))


@KEEPS_ARGUMENTS
def test_published_checkpoints_are_listed_without_a_network(exported, monkeypatch):
    """None is published yet: the list is empty, and this is what an entry does."""
    assert registry.PUBLISHED == {}
    config = json.loads((exported[1] / "config.json").read_text())
    name = registry.enter(config, locate("org/published"), tag="published")
    assert timm.models.is_model_pretrained(name)
    assert timm.get_pretrained_cfg(name).hf_hub_id == "org/published"


@KEEPS_ARGUMENTS
def test_a_taken_name_is_refused(exported, folder):
    patchit_hf.register(exported[1], timm_name=True)
    with pytest.raises(InputError, match=r"'test_vit\.patchit_made_up' already .*tag='mine'"):
        patchit_hf.register(folder, timm_name=True)
    with pytest.raises(InputError, match="a checkpoint of timm's"):
        patchit_hf.register(folder, timm_name=True, tag="r160_in1k")
    with pytest.raises(InputError, match=r"tag 'a\.b\*' .*are allowed"):
        patchit_hf.register(folder, timm_name=True, tag="a.b*")


def test_the_whole_configuration_leaves_nothing_of_timms(exported):
    _, folder = exported
    cfg = patchit_hf.pretrained_cfg(folder)
    args = patchit_hf.model_args(folder)
    overlaid = timm.create_model("test_vit", pretrained=True, pretrained_cfg_overlay=cfg, **args)
    from_folder = timm.create_model(f"local-dir:{folder}", pretrained=True)
    places = {"file", "source"}
    assert {k: v for k, v in overlaid.pretrained_cfg.items() if k not in places} == {
        k: v for k, v in from_folder.pretrained_cfg.items() if k not in places
    }


class _Malice:
    def __reduce__(self):
        return (open, ("stolen", "w"))


def _pickled():
    stream = io.BytesIO()
    torch.save({"x": _Malice()}, stream)
    return stream.getvalue()


@pytest.mark.parametrize("data", [pickle.dumps(_Malice()), _pickled()], ids=["pickle", "torch"])
@pytest.mark.parametrize("file", ["model.safetensors", "head/model.safetensors"])
def test_a_pickle_in_the_place_of_weights_is_refused(folder, monkeypatch, file, data):
    monkeypatch.chdir(folder)
    (folder / file).write_bytes(data)
    with pytest.raises(InputError, match=rf"{file} cannot be read"):
        PatchTaskModel.from_pretrained(folder)
    if file == "model.safetensors":
        cfg = patchit_hf.pretrained_cfg(folder)
        with pytest.raises(Exception, match="header"):
            timm.create_model("test_vit", pretrained=True, pretrained_cfg=cfg)
    assert not (folder / "stolen").exists()


def test_a_pickle_beside_missing_weights_is_not_looked_at(hub: Hub, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(_pickled())
    HfApi().create_repo("org/x")
    HfApi().upload_folder(repo_id="org/x", folder_path=folder)
    for source in (str(folder), "org/x"):
        with pytest.raises(InputError, match=r"model\.safetensors"):
            PatchTaskModel.from_pretrained(source)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        patchit_hf.pretrained_cfg(folder)

    def load():
        cfg = patchit_hf.pretrained_cfg("org/x")  # for old timm, this fetches the weights
        return timm.create_model("test_vit", pretrained=True, pretrained_cfg=cfg)

    with pytest.raises((EntryNotFoundError, InputError), match=r"model\.safetensors"):
        load()
    assert not (folder / "stolen").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file", "../outside/model.safetensors"),
        ("file", "/etc/passwd"),
        ("url", "https://example.org/x.pth"),
        ("hf_hub_id", "other/y"),
        ("hf_hub_filename", "other.bin"),
        ("custom_load", True),
        ("source", "local-dir"),
    ],
)
def test_a_configuration_that_points_elsewhere_is_refused(folder, key, value):
    _change(folder / "config.json", lambda c: c["pretrained_cfg"].update({key: value}))
    for read in (patchit_hf.pretrained_cfg, patchit_hf.model_args, patchit_hf.register):
        with pytest.raises(InputError, match=rf"{key}={value!r}; only model.safetensors may"):
            read(folder)


@pytest.mark.parametrize("key", ["checkpoint_path", "pretrained_cfg", "cache_dir"])
def test_arguments_that_read_files_are_refused(folder, key):
    _change(folder / "config.json", lambda c: c["model_args"].update({key: "../x.pth"}))
    with pytest.raises(InputError, match=rf"config\.json: '{key}' is not allowed"):
        patchit_hf.register(folder)
    _change(folder / "patchit.json", lambda c: c["backbone"]["args"].update({key: "../x.pth"}))
    with pytest.raises(InputError, match=rf"patchit\.json: '{key}' is not allowed"):
        PatchTaskModel.from_pretrained(folder)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("patchit.json", lambda c: c.update(format_version=99), "has format 99; .* reads 1"),
        ("patchit.json", lambda c: c.pop("task"), "damaged: KeyError: 'task'"),
        ("patchit.json", lambda c: c.update(backbone=[]), "damaged: TypeError"),
        ("patchit.json", lambda c: c["task"].update(name="os"), "'os': unknown task"),
        ("patchit.json", lambda c: c["task"]["kwargs"].update(rows=5), "head.*size mismatch"),
        ("patchit.json", lambda c: c["backbone"].update(name="no.net"), "has no network 'no.net'"),
        (
            "config.json",
            lambda c: c.update(architecture="hf-hub:a/b"),
            "has no network 'hf-hub:a/b'",
        ),
        ("config.json", lambda c: c.update(model_args=[1]), r"must be named, not \[1\]"),
        ("config.json", lambda c: c.pop("pretrained_cfg"), "has no pretrained_cfg"),
        ("config.json", lambda c: c["pretrained_cfg"].update(x=1), "timm does not know 'x'"),
    ],
)
def test_a_damaged_export_is_one_line(folder, file, change, message):
    _change(folder / file, change)
    own = file == "patchit.json"
    read = PatchTaskModel.from_pretrained if own else patchit_hf.pretrained_cfg
    with pytest.raises(InputError, match=message) as error:
        read(folder)
    assert "\n" not in str(error.value)


def test_what_is_no_export_is_named(hub: Hub, tmp_path, monkeypatch):
    hub.create("org/x", {"README.md": b"# x\n"})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # beside which there is no x
    for source, message in (
        (tmp_path, r"not an export: it has no config\.json"),
        (f"local-dir:{tmp_path}/absent", "no such folder"),
        ("no such folder", "neither a folder nor a repository"),
        ("org/x", r"no such folder, and its config\.json cannot be read from the Hub: .*404"),
        ("org/absent", "no such folder, .*Repository Not Found"),
        ("org/x@absent", "no such folder, .*Revision Not Found"),
        ("../x", "no such folder$"),
    ):
        with pytest.raises(InputError, match=message) as error:
            patchit_hf.pretrained_cfg(source)
        assert "\n" not in str(error.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"its patchit\.json cannot be read from the Hub"):
        PatchTaskModel.from_pretrained("org/x")


def test_a_folder_goes_before_the_hub(tmp_path, monkeypatch):
    (tmp_path / "org" / "x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("org/x") == Location("org/x", Path("org/x"))
    assert locate("hf-hub:org/x") == Location("hf-hub:org/x", None, "org/x")
    assert locate("org/x@v1") == Location("org/x@v1", None, "org/x", "v1")
