"""Private names of other libraries: each is there, and where it vanishes something stands in."""

import ast
import importlib
import inspect
import logging
from pathlib import Path

import datasets
import pytest
import timm.optim.muon
import torch
from accelerate.state import AcceleratorState

import patchit_hf
from patchit_hf.common.errors import InputError
from patchit_hf.data import dataset_state, held_out, opened, picture_index, rows, source, store
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.training.accelerator import create_accelerator
from patchit_hf.training.optim import create_optimizer
from patchit_hf.training.orthogonal import MODULE, NAME, QuickMuon, timms_orthogonalize
from tests import own_process
from tests.conftest import make_crops

PACKAGE = Path(patchit_hf.__file__).parent
NAMES = {  # module and name; CONTRIBUTING says where each is used, and what stands in for it
    ("datasets.data_files", "FILES_TO_IGNORE"),
    ("datasets.packaged_modules", "_ALL_ALLOWED_EXTENSIONS"),
    ("datasets.packaged_modules", "_ALL_METADATA_FILENAMES"),
    ("datasets.packaged_modules.imagefolder.imagefolder", "ImageFolder"),
    ("datasets.iterable_dataset", "IterableDataset._resolve_features"),
    (MODULE, NAME),
    ("accelerate.state", "AcceleratorState._shared_state"),
    ("timm.models._registry", "_model_entrypoints"),
    ("timm.models._registry", "_model_has_pretrained"),
    ("timm.models._registry", "_model_pretrained_cfgs"),
    ("timm.models._registry", "_model_with_tags"),
}
OF_INSTANCES = {"_fingerprint", "_indices", "_model_args"}  # of data sets, and of timm's models
OURS = {"_exit", "_patchit_hf"}  # os._exit is documented; a mark of our own


@pytest.mark.parametrize(("module", "name"), sorted(NAMES))
def test_the_name_is_still_there(module, name):
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)


def test_names_of_instances_are_still_there(crops):
    assert crops._fingerprint
    assert crops._indices is None
    assert crops.shuffle(seed=0)._indices is not None


@pytest.mark.skipif(
    "pretrained_model_args" not in inspect.signature(timm.models.build_model_with_cfg).parameters,
    reason="timm 1.0.31 is the first whose models have it",
)
def test_the_name_of_timms_models_is_still_there():
    assert timm.create_model("test_resnet", num_classes=3)._model_args == {"num_classes": 3}


def test_there_are_no_others():
    """A new one goes into ``NAMES``, and into CONTRIBUTING's table, with what stands in for it."""
    known = {part for _, name in NAMES for part in name.split(".")} | OF_INSTANCES | OURS
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        own = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        for node in ast.walk(tree):
            used = set()
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") not in (
                "self",
                "cls",
            ):
                used = {node.attr}
            elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("patchit"):
                used = {alias.name for alias in node.names} | set((node.module or "").split("."))
            private = {name for name in used if name.startswith("_") and name[:2] != "__"}
            assert private - {"_registry", "_asdict"} <= known | own, f"{file.name}:{node.lineno}"


@pytest.mark.e2e
def test_the_package_imports_without_any(tmp_path):
    lines = ["import sys, importlib, pkgutil"]
    for module, name in sorted(NAMES):
        owner, _, last = name.rpartition(".")
        path = f"importlib.import_module({module!r})" + f".{owner}" * bool(owner)
        lines.append(f"vanishing = [*locals().get('vanishing', []), ({path}, {last!r})]")
    lines.append("for owner, name in vanishing: delattr(owner, name)")
    lines += [
        "import patchit_hf",
        "for found in pkgutil.walk_packages(patchit_hf.__path__, 'patchit_hf.'):",
        "    if not found.name.endswith('__main__'):",
        "        importlib.import_module(found.name)",
        "        print(found.name)",
    ]
    file = tmp_path / "without.py"
    file.write_text("\n".join(lines))
    done = own_process.run([file])
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 100


def test_a_large_folder_is_then_listed_by_datasets(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(opened, "FILES", 2)
    for i, image in enumerate(make_crops(4)):
        image.save(tmp_path / f"{i}.png")
    ours = source.open_splits(str(tmp_path))["train"]
    assert "pictures-" in ours.cache_files[0]["filename"]
    monkeypatch.delattr("datasets.packaged_modules._ALL_METADATA_FILENAMES")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / ".other")
    with caplog.at_level(logging.WARNING):
        assert picture_index.index_pictures(tmp_path, "state") is None
        theirs = source.open_splits(str(tmp_path))["train"]
    assert "_ALL_METADATA_FILENAMES" in caplog.text
    bare = datasets.Image(decode=False)
    assert theirs.cast_column("image", bare)[:] == ours.cast_column("image", bare)[:]


@pytest.fixture
def no_indices(monkeypatch):
    monkeypatch.setattr(dataset_state, "INDICES", "_vanished")


@pytest.mark.parametrize("on_disk", [False, True])
def test_rows_are_then_in_the_order_that_datasets_writes(crop_folder, crops, no_indices, on_disk):
    data = datasets.load_dataset(crop_folder, split="train") if on_disk else crops
    chosen = data.select([7, 3, 11, 0])
    expected = chosen.cast_column("image", datasets.Image(decode=False))["image"][:]
    found = rows.ImageRows(chosen, "image")
    assert [found[i]["bytes"] for i in range(4)] == [value["bytes"] for value in expected]
    assert len(found) == 4
    assert (found.place(2) is not None) is on_disk


def test_rows_are_then_held_out_alike(crops, monkeypatch):
    wanted = held_out.hold_out(crops.shuffle(seed=1), "x")
    monkeypatch.setattr(dataset_state, "INDICES", "_vanished")
    found = held_out.hold_out(crops.shuffle(seed=1), "x")
    for ours, theirs in zip(wanted[:2], found[:2], strict=True):
        assert ours["person_id"] == theirs["person_id"]


def test_a_folder_is_then_opened_anew_each_time(crop_folder, no_indices):
    first = source.open_splits(crop_folder)["train"]
    assert opened.recall(Path(crop_folder)) is None
    assert source.open_splits(crop_folder)["train"]["person_id"] == first["person_id"]


def test_another_fingerprint_tells_contents_apart(crops, monkeypatch):
    assert dataset_state.dataset_fingerprint(crops) == crops._fingerprint
    monkeypatch.setattr(dataset_state, "FINGERPRINT", "_vanished")
    words = {dataset_state.dataset_fingerprint(crops.select(range(n))) for n in (5, 5, 6, 7)}
    assert len(words) == 3
    assert store.open_crops(crops, "image", (50, 25), "pad").array.shape == (40, 50, 25, 3)


def test_features_of_a_stream_are_then_its_first_examples(crops, monkeypatch):
    def numbers():
        yield from ({"n": n, "word": str(n)} for n in range(3))

    stream = datasets.IterableDataset.from_generator(numbers)
    assert stream.features is None
    known = dataset_state.stream_features(stream)
    assert known == {"n": datasets.Value("int64"), "word": datasets.Value("string")}
    monkeypatch.setattr(dataset_state, "FEATURES", "_vanished")
    assert dataset_state.stream_features(stream) == known
    stream = datasets.IterableDataset.from_generator(lambda: iter(crops))
    assert source.find_image_column(stream, None, "x") == "image"


def test_muon_is_then_timms_own(monkeypatch, caplog):
    net = torch.nn.Linear(8, 16)
    assert type(create_optimizer(net, "muon", 0.01, 0.0)) is QuickMuon
    timms_orthogonalize.cache_clear()
    monkeypatch.delattr(timm.optim.muon, NAME)
    with caplog.at_level(logging.WARNING):
        assert type(create_optimizer(net, "muon", 0.01, 0.0)) is timm.optim.Muon
    assert NAME in caplog.text


def test_a_second_precision_is_then_refused(tmp_path, monkeypatch):
    """Accelerate itself needs the name in its present versions; we ask for another one."""
    create_accelerator(TrainingArguments(mixed_precision="no"), tmp_path)
    create_accelerator(TrainingArguments(mixed_precision="bf16"), tmp_path)
    monkeypatch.setattr("patchit_hf.training.accelerator.SHARED_STATE", "_vanished")
    with pytest.raises(InputError, match="--mixed-precision 'no'"):
        create_accelerator(TrainingArguments(mixed_precision="no"), tmp_path)
    assert AcceleratorState().mixed_precision == "bf16"


def test_batch_norms_are_found_by_their_public_classes():
    from patchit_hf.models.backbone import has_batch_norm

    for norm in (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm):
        assert has_batch_norm(torch.nn.Sequential(norm(3)))
    for name, expected in (("test_resnet", True), ("test_vit", False), ("test_convnext", False)):
        assert has_batch_norm(timm.create_model(name)) is expected
    private = torch.nn.modules.batchnorm._BatchNorm
    from timm.layers import norm_act

    kinds = [k for k in vars(norm_act).values() if isinstance(k, type) and issubclass(k, private)]
    assert kinds
    from patchit_hf.models.backbone import BATCH_NORMS

    assert all(issubclass(kind, BATCH_NORMS) for kind in kinds)
