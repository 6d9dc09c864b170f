"""The commands on a device that is not the CPU: nothing mixes devices, and the same comes out."""

import json
from collections import Counter

import datasets
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from patchit_hf.evaluate.command import main as evaluate
from patchit_hf.finetune.command import main as finetune
from patchit_hf.patch_tasks import list_tasks
from patchit_hf.pretrain.command import main as pretrain
from tests.conftest import write_people
from tests.elsewhere import DEVICE, elsewhere

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter"),
]

TASKS = [task for task in list_tasks() if not task.startswith("pt")]
OPTIONS = ["standardize=true", "channel_drop=0.5", "grayscale=0.5",
           "chroma_blur=0.5", "resample=0.5", "smooth=1"]  # fmt: skip

SHORT = ["--backbone", "test_resnet", "--max-steps", "1", "--batch-size", "32", "--eval-every", "1",
         "--max-eval-crops", "8"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rows = {"train": range(60), "validation": range(60, 80), "test": range(80, 100)}
    return write_people(tmp_path_factory.mktemp("people"), **rows)


@pytest.fixture
def device(monkeypatch):
    """The device, which Accelerate is told to use."""
    AcceleratorState._reset_state(True)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    with elsewhere():
        yield DEVICE


def test_the_device_computes_and_refuses_what_a_gpu_refuses(device):
    there, here = torch.ones(3, device=device), torch.ones(3)
    assert (there + 1).cpu().tolist() == [2, 2, 2]
    assert (there * torch.tensor(2.0)).sum().item() == 6
    assert there[torch.tensor([0, 1])].device == device
    for mixed in (
        lambda: there + here,
        lambda: here[torch.tensor([0], device=device)],
        lambda: torch.where(there > 0, there, here),
        lambda: there.numpy(),
    ):
        with pytest.raises((RuntimeError, TypeError)):
            mixed()


@pytest.mark.e2e
@pytest.mark.parametrize("task", TASKS)
def test_every_task(task, folder, tmp_path, device):
    words = [*SHORT, "--dataset", folder, "--no-figures", "--no-audit", "--task", task]
    assert pretrain([*words, "--output-dir", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.e2e
def test_pretraining_with_everything(folder, tmp_path, device):
    words = [*SHORT, "--dataset", folder, "--probe-column", "backpack", "--task-kwargs", *OPTIONS,
             "--gradient-accumulation-steps", "2"]  # fmt: skip
    assert pretrain([*words, "--output-dir", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "figures" / "confusion.png").exists()


@pytest.mark.e2e
@pytest.mark.parametrize("task", ["attributes", "reid", "pose", "action"])
def test_finetuning_and_judging(task, folder, tmp_path, monkeypatch):
    words = ["--task", task, "--dataset", folder, "--backbone", "test_resnet", "--max-steps", "1",
             "--eval-every", "1", "--batch-size", "16", "--input-size", "48x24", "--optimizer",
             "sgd", "--learning-rate", "1e-2", "--optimizer-args", "fused=false"]  # fmt: skip

    counts = []

    def made(name, seen):
        out = tmp_path / name
        commands = (
            lambda: finetune([*words, "--output-dir", str(out)]),
            lambda: evaluate([str(out), "--dataset", folder, "--bootstrap", "5", "--output-dir",
                              str(out / "judged")]),
            lambda: evaluate([str(out), "--dataset", folder, "--split", "test", "--embed",
                              str(out / "e.parquet")]),
        )  # fmt: skip
        for command in commands:
            assert command() == 0
            counts.append(seen["aten::convolution"])
        embeddings = datasets.Dataset.from_parquet(str(out / "e.parquet"))["embedding"][:]
        figures = json.loads((out / "judged" / "metrics.json").read_text())["figures"]
        return load_file(out / "model.safetensors"), torch.tensor(embeddings), figures

    AcceleratorState._reset_state(True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    weights, embeddings, figures = made("cpu", Counter())
    AcceleratorState._reset_state(True)
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    with elsewhere() as seen:
        others, theirs, found = made("there", seen)
    assert counts[2] == 0 < counts[3] < counts[4] < counts[5], "each command computes there"
    for key, tensor in weights.items():
        torch.testing.assert_close(others[key], tensor, msg=key)
    torch.testing.assert_close(theirs, embeddings)
    assert found.keys() == figures.keys()
    for key, entry in figures.items():
        assert found[key].get("value") == pytest.approx(entry.get("value"), abs=1e-6), key
