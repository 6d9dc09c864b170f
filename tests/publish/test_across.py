"""Exports that the newest stack made are read by the oldest, with the answers of their makers.

``bash .ci/oldest`` has the newest stack make them. Outputs of two versions of PyTorch differ in
their last bits.
"""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel

from tests.publish.across import ANSWERS, ARCHITECTURES, answers, images

FOLDER = os.environ.get("PATCHIT_EXPORTS")
pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="exports of another stack: bash .ci/oldest, after bash .ci/run"
)


@pytest.fixture(scope="module")
def made():
    return load_file(Path(FOLDER, ANSWERS))


def test_they_answer_as_where_they_were_made(made):
    found = answers(Path(FOLDER))
    assert found.keys() == made.keys()
    for name, wanted in made.items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_transformers_reads_them(name, made):
    model = AutoModel.from_pretrained(Path(FOLDER, name)).eval()
    with torch.inference_mode():
        found = model(pixel_values=images()).pooler_output
    torch.testing.assert_close(found, made[f"{name} in timm"], rtol=1e-4, atol=1e-4)
    assert AutoImageProcessor.from_pretrained(Path(FOLDER, name)) is not None


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_run_is_pretrained_on(name, made, tmp_path):
    """An export of the newest stack is where the oldest one starts from."""
    from patchit_hf.shell.main import main

    words = ["pretrain", "--init", str(Path(FOLDER, name)), "--dataset", str(Path(FOLDER, "crops"))]
    words += ["--task", "position", "--max-steps", "1", "--batch-size", "8", "--no-figures"]
    assert main([*words, "--no-audit", "--output-dir", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()
