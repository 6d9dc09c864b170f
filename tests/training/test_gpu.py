"""What only a CUDA GPU shows: `pytest -m gpu`."""

import copy
import logging

import datasets
import pytest
import timm.optim.muon
import torch

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.data.ahead import crops_on
from patchit_hf.data.store import open_crops
from patchit_hf.finetune.command import main as finetune
from patchit_hf.models.build import build_model
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.pretrain.command import main as pretrain
from patchit_hf.training.cuda_graphs import replayed
from patchit_hf.training.orthogonal import Orthogonalizer
from tests.conftest import make_crops, train_and_kill, write_people

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]
DEVICE = torch.device("cuda")
NETS = [
    "resnet18", "resnet10t", "mobilenetv2_100", "efficientnet_b0", "convnext_atto", "vgg11_bn",
    "regnety_002", "densenet121", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224",
    "mobilevit_s",
]  # fmt: skip


@pytest.fixture(scope="module")
def people():
    return datasets.Dataset.from_dict({"image": make_crops(300, 200, 100)}).cast_column(
        "image", datasets.Image()
    )


def _train(folder, people, backbone="resnet18", task=None, **options):
    args = {"max_steps": 6, "train_batch_size": 64, "save_steps": 0, "figures": False,
            "audit": False, "output_dir": str(folder), **options}  # fmt: skip
    trainer = PatchTaskTrainer(
        backbone, TrainingArguments(**args), task or create_task("position"), people
    )
    trainer.train()
    return trainer


def _weights(trainer):
    return {name: value.cpu().clone() for name, value in trainer.model.state_dict().items()}


def _assert_equal(a, b):
    assert a.keys() == b.keys()
    unequal = [name for name in a if not torch.equal(a[name], b[name])]
    assert not unequal


@pytest.mark.parametrize("backbone", NETS)
def test_a_replayed_run_is_the_launched_one(tmp_path, people, backbone, caplog):
    task = create_task("position", input_scale=2 if backbone.startswith("swin") else 1)
    with caplog.at_level(logging.INFO, "patchit_hf"):
        replay = _train(tmp_path / "replay", people, backbone, copy.deepcopy(task))
    said = [r.message for r in caplog.records if "CUDA graph" in r.message]
    launch = _train(tmp_path / "launch", people, backbone, task, cuda_graphs=False)
    _assert_equal(_weights(replay), _weights(launch))
    assert "forward" not in vars(replay.model)
    assert not said


@pytest.mark.parametrize(
    "name", ["pair", "jigsaw", "context", "octaves", "people", "scale", "shuffle"]
)
def test_every_task_is_replayed(tmp_path, people, name, caplog):
    with caplog.at_level(logging.INFO, "patchit_hf"):
        replay = _train(tmp_path / "replay", people, "resnet10t", create_task(name),
                        train_batch_size=72)  # fmt: skip
    launch = _train(tmp_path / "launch", people, "resnet10t", create_task(name),
                    train_batch_size=72, cuda_graphs=False)  # fmt: skip
    _assert_equal(_weights(replay), _weights(launch))
    assert not [r.message for r in caplog.records if "CUDA graph" in r.message]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_is_replayed(tmp_path, people, precision):
    try:
        replay = _train(tmp_path / "replay", people, mixed_precision=precision)
        launch = _train(tmp_path / "launch", people, mixed_precision=precision, cuda_graphs=False)
    finally:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(True)
    _assert_equal(_weights(replay), _weights(launch))
    single = _train(tmp_path / "single", people)
    assert any(not torch.equal(v, _weights(replay)[k]) for k, v in _weights(single).items())


@pytest.mark.parametrize("options", [{}, {"cuda_graphs": False}, {"optim": "adamw"}])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, people, options):
    kwargs = {"save_steps": 3, **options}
    backbone = build_model("resnet18", create_task("position"), 1, {"drop_path_rate": 0.5})
    whole = _train(tmp_path / "whole", people, copy.deepcopy(backbone), **kwargs)
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"), max_steps=6, train_batch_size=64, figures=False,
        audit=False, **kwargs,
    )  # fmt: skip
    broken = PatchTaskTrainer(copy.deepcopy(backbone), args, create_task("position"), people)
    train_and_kill(broken, 3)
    resumed = PatchTaskTrainer(copy.deepcopy(backbone), args, create_task("position"), people)
    resumed.train()
    _assert_equal(_weights(whole), _weights(resumed))


def test_a_network_that_waits_is_launched(people, caplog):
    class Waits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x) * float(x.abs().sum())

    model = Waits().to(DEVICE)
    x = torch.randn(2, 4, device=DEVICE)
    expected = model(x)
    with caplog.at_level(logging.INFO, "patchit_hf"), replayed(model, x):
        again = model(x)
        again.sum().backward()
    assert "launched one by one" in caplog.text
    torch.testing.assert_close(again, expected)
    assert torch.isfinite(model.layer.weight.grad).all()
    torch.randn(3, device=DEVICE)  # the generator is in order


def test_replayed_orthogonalization_is_timms():
    ours, how = Orthogonalizer(), (5, [(3.4445, -4.775, 2.0315)])
    rng = torch.Generator(DEVICE).manual_seed(0)
    for shape in ((64, 576), (576, 64), (64, 64), (3, 32, 48)):
        for _ in range(3):
            x = torch.randn(*shape, generator=rng, device=DEVICE)
            theirs = timm.optim.muon.zeropower_via_newtonschulz(x, *how)
            assert torch.equal(ours(x, *how, eps=1e-7), theirs)
    assert len(ours.replays) == 4


def test_crops_are_read_ahead(people, tmp_path):
    on_disk = people.select(range(90))
    on_disk.save_to_disk(tmp_path / "crops")
    for dataset in (on_disk, datasets.load_from_disk(tmp_path / "crops")):
        store = open_crops(dataset, "image", (50, 25), "squash")
        rng = torch.Generator().manual_seed(0)
        plan = [torch.randint(0, 90, (16,), generator=rng) for _ in range(40)] + [torch.arange(5)]
        seen = list(crops_on(store, iter(plan), DEVICE))
        assert len(seen) == len(plan)
        for rows, crops in zip(plan, seen, strict=True):
            assert torch.equal(crops.cpu(), store[rows])


def test_commands(tmp_path, tmp_path_factory):
    data = write_people(
        tmp_path_factory.mktemp("people"), train=range(200), validation=range(200, 260)
    )
    run = str(tmp_path / "run")
    words = ["--dataset", data, "--batch-size", "32"]
    assert pretrain(["--backbone", "resnet10t", "--max-steps", "20", *words,
                     "--output-dir", run, "--mixed-precision", "bf16"]) == 0  # fmt: skip
    assert finetune(["--task", "attributes", "--init", run, "--epochs", "2", *words,
                     "--mixed-precision", "bf16",
                     "--output-dir", str(tmp_path / "fine")]) == 0  # fmt: skip
    assert next(PatchTaskModel.from_pretrained(run).parameters()).device.type == "cpu"
