"""Exports that one stack makes and another reads: ``python -m tests.publish.across FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file

from patchit_hf import FinetunedModel, PatchTaskModel, load_people
from patchit_hf.shell.main import main

ARCHITECTURES = ("test_resnet", "test_vit")
ANSWERS = "answers.safetensors"  # beside the exports
PERSON = "person.png"


def images() -> torch.Tensor:
    """Return what networks are asked: two images of noise, float32 [2, 3, 192, 96]."""
    noise = np.random.default_rng(0).normal(size=(2, 3, 192, 96))
    return torch.from_numpy(noise.astype(np.float32))


def answers(folder: Path) -> dict[str, torch.Tensor]:
    """Return what the exports in a folder say of the noise and of a person."""
    found = {}
    for name in ARCHITECTURES:
        net = timm.create_model(f"local-dir:{folder / name}", pretrained=True, num_classes=0)
        with torch.inference_mode():
            found[f"{name} in timm"] = net.eval()(images()).clone()
        vector = PatchTaskModel.from_pretrained(folder / name).embed([folder / PERSON])
        found[name] = torch.from_numpy(np.asarray(vector, np.float32))
    result = FinetunedModel.from_pretrained(folder / "action").predict(folder / PERSON)
    chances = [value for _, value in sorted(result.probabilities.items())]
    return {**found, "action": torch.tensor(chances)}


def write(folder: Path) -> None:
    """Pretrain each architecture for two steps, finetune one, and note what they answer."""
    folder.mkdir(parents=True, exist_ok=True)
    people = load_people(24, num_proc=1)
    people.select(range(20)).to_parquet(str(folder / "crops" / "train-00000-of-00001.parquet"))
    people[20]["image"].save(folder / PERSON)
    words = ["--dataset", str(folder / "crops"), "--max-steps", "2", "--batch-size", "8"]
    for name in ARCHITECTURES:
        more = ["--backbone", name, "--no-figures", "--no-audit"]
        assert main(["pretrain", *words, *more, "--output-dir", str(folder / name)]) == 0
    more = ["--task", "action", "--init", str(folder / "test_resnet"), "--eval-every", "0"]
    assert main(["finetune", *words, *more, "--output-dir", str(folder / "action")]) == 0
    save_file(answers(folder), folder / ANSWERS)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
