"""Pushing an export, against the loopback Hub with the real client."""

import timm
import torch

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.errors import InputError
from patchit_hf.publish.hub import push_folder

import pytest  # isort: skip

from tests.hub.server import Hub

FILES = {"README.md", "config.json", "head.safetensors", "model.safetensors", "patchit.json"}


@pytest.fixture
def trainer(tmp_path, crops, small):
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"), max_steps=3, train_batch_size=8, save_steps=2,
        hub_model_id="org/patchit", push_to_hub=True,
    )  # fmt: skip
    task = create_task("position", (50, 25), **small)
    return PatchTaskTrainer("test_resnet", args, task, crops)


def test_a_run_pushes_its_export_and_nothing_else(trainer, hub: Hub, tmp_path):
    trainer.train()
    assert set(hub.files("org/patchit", "main")) == FILES | {"metrics.jsonl"}
    code = (
        "import timm, torch; m = timm.create_model('hf-hub:org/patchit', pretrained=True).eval();"
        "torch.save(m(torch.ones(1, 3, 32, 32)), 'out.pt')"
    )
    hub.run(code, tmp_path, cwd=tmp_path)
    local = timm.create_model(f"local-dir:{tmp_path / 'run'}", pretrained=True).eval()
    torch.testing.assert_close(
        torch.load(tmp_path / "out.pt", weights_only=True), local(torch.ones(1, 3, 32, 32))
    )


def test_pushing_again_sends_nothing(trainer, hub: Hub, tmp_path):
    trainer.train()
    before = len(hub.repo("org/patchit").log())
    puts = hub.count("PUT", ".*")
    push_folder(tmp_path / "run", "org/patchit")
    assert len(hub.repo("org/patchit").log()) == before
    assert hub.count("PUT", ".*") == puts


def test_a_branch(trainer, hub: Hub, tmp_path):
    trainer.train()
    push_folder(tmp_path / "run", "org/patchit", revision="trial")
    assert "model.safetensors" in hub.files("org/patchit", "trial")


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_refusal_keeps_the_export_and_names_the_command(trainer, hub: Hub, tmp_path, status):
    hub.fail("/api/repos/create", status=status, times=20)
    with pytest.raises(InputError) as error:
        trainer.train()
    assert f"hf upload org/patchit {tmp_path / 'run'} ." in str(error.value)
    assert "\n" not in str(error.value)
    assert {p.name for p in (tmp_path / "run").iterdir()} >= FILES


def test_no_network(trainer, hub: Hub, tmp_path):
    hub.stop()
    with pytest.raises(InputError, match="not pushed"):
        trainer.train()
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_what_is_no_export_is_not_pushed(tmp_path):
    with pytest.raises(InputError, match=r"is no export: it has no patchit\.json"):
        push_folder(tmp_path, "org/x")
