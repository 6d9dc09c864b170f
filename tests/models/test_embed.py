"""Embeddings of whole images: those of the command, of whole crops, and none that leaves traces."""

import datasets
import numpy as np
import pytest
import torch

from patchit_hf import (
    InputError,
    PatchTaskModel,
    PatchTaskTrainer,
    TrainingArguments,
    create_task,
)
from patchit_hf.data.store import open_crops
from patchit_hf.evaluate.command import main
from patchit_hf.models.features import crop_backbone, crop_features
from tests.conftest import make_crops

OPTIONS = {"rows": 3, "cols": 2, "patch_size": 8, "jitter": 2, "input_scale": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on a small part of its canvas, whose images cover it."""
    folder = tmp_path_factory.mktemp("embed") / "run"
    args = TrainingArguments(
        output_dir=str(folder), max_steps=4, train_batch_size=8, crop_cache_gb=0, figures=False,
        audit=False, fit="cover",
    )  # fmt: skip
    task = create_task("position", (60, 30), **OPTIONS)
    crops = datasets.Dataset.from_dict({"image": make_crops(16, 64, 40)})
    info = {"name": "made up"}
    PatchTaskTrainer("test_resnet", args, task, crops, data_info=info).train()
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Seventy images of several shapes, as a folder and as rows."""
    folder = tmp_path_factory.mktemp("rows")
    images = [crop.resize((30 + i % 7, 90 - i)) for i, crop in enumerate(make_crops(70))]
    rows = datasets.Dataset.from_dict({"image": images}).cast_column("image", datasets.Image())
    rows.to_parquet(str(folder / "test-00000-of-00001.parquet"))
    return folder, rows


@pytest.mark.parametrize("words", [(), ("--no-reestimate-batch-norm",)])
def test_the_command_writes_what_embed_returns(folder, rows, words, tmp_path):
    data, images = rows
    file = tmp_path / "e.parquet"
    assert main([str(folder), "--dataset", str(data), "--embed", str(file), *words]) == 0
    stored = np.array(datasets.Dataset.from_parquet(str(file))["embedding"][:])
    model = PatchTaskModel.from_pretrained(folder)
    assert (model.fit, model.record["task"]["name"]) == ("cover", "position")
    found = model.embed(images["image"], reestimate_batch_norm=not words)
    assert (found.dtype, found.shape) == (np.float32, (70, 96))
    assert found.std(0).max() > 0.01
    np.testing.assert_allclose(found, stored, atol=1e-5)


def test_embeddings_are_of_whole_crops_as_training_sees_them(folder, rows):
    model, device = PatchTaskModel.from_pretrained(folder), torch.device("cpu")
    store = open_crops(rows[1], "image", (60, 30), "cover", on_disk=False, main=False)
    crops = store[torch.arange(len(store))]
    expected = crop_features(model, model.task, crops, device)
    np.testing.assert_allclose(model.embed(rows[1]), expected.numpy(), atol=1e-5)
    whole = crop_backbone(model, model.task, crops[:64], device)
    expected = crop_features(model, model.task, crops[:64], device, whole)
    found = model.embed(rows[1].select(range(64)), reestimate_batch_norm=True)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_a_model_stays_as_it_was(folder, rows):
    model = PatchTaskModel.from_pretrained(folder).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.embed(rows[1], reestimate_batch_norm=True)
    model.embed(rows[1], batch_size=70)
    assert model.backbone.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_one_none_and_too_few(folder, rows):
    model = PatchTaskModel.from_pretrained(folder)
    image = rows[1][3]["image"]
    one, several = model.embed(image), model.embed([image] * 3, batch_size=2)
    assert one.shape == (96,)
    np.testing.assert_allclose(several, np.stack([one] * 3), atol=1e-5)
    assert model.embed([]).shape == (0, 96)
    with pytest.raises(InputError, match="1 images have no statistics; give at least 2"):
        model.embed(image, reestimate_batch_norm=True)
    with pytest.raises(InputError, match=r"image 1 \(file no.png\): not a readable image"):
        model.embed([image, "no.png"])
