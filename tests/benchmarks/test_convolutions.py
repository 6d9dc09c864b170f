"""Convolutions on the CPU are right, in networks of every family, and strided ones of few channels.

oneDNN is made to compute as on a CPU with AVX2, where its kernel is wrong (issue 6035 there).
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("convolutions", ROOT / "benchmarks/convolutions.py")
convolutions = importlib.util.module_from_spec(_spec)
sys.modules["convolutions"] = convolutions
_spec.loader.exec_module(convolutions)


def test_the_convolutions_of_a_network_are_found_without_computing():
    shapes = convolutions.shapes_of("repvgg_a0", 32)
    thin = convolutions.Shape(
        3, (32, 32), 48, (1, 1), (2, 2), (0, 0), (1, 1), groups=1, bias=False
    )  # beside the stem
    assert thin in shapes
    assert convolutions._replaced(thin)
    assert not convolutions._replaced(thin._replace(channels=16))
    assert not convolutions._replaced(thin._replace(stride=(1, 1)))
    assert convolutions.shapes_of("inception_v3", 32) is None


@pytest.mark.e2e
def test_thin_strided_convolutions_are_right_where_torch_is_not():
    """The first is right in torch, too; all others crash, hang or are wrong by 80 % there."""
    of = [(16, 2, 0), (3, 2, 0), (4, 2, 0), (5, 3, 1), (7, 2, 0)]
    shapes = [
        convolutions.Shape(c, (32, 32), 48, (1, 1), (s, s), (p, p), (1, 1), 1, True)
        for c, s, p in of
    ]
    errors = convolutions.measured(shapes, 1, "AVX2", ours=True)
    assert max(errors) < 1e-5, errors


@pytest.mark.slow
def test_every_convolution_of_sixty_families_is_right(tmp_path):
    out = tmp_path / "convolutions.json"
    subprocess.run(
        [sys.executable, "benchmarks/convolutions.py", "--output", str(out)], cwd=ROOT, check=True
    )
    result = json.loads(out.read_text())
    assert len(result["followed"]) >= 60
    assert result["wrong"] == []


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["repvgg_a0", "fastvit_t8"])
def test_networks_with_such_layers_train(tmp_path, backbone, labelled_people):
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    words = ["--max-steps", "2", "--batch-size", "8", "--no-figures", "--no-audit"]
    common = ["--backbone", backbone, "--dataset", labelled_people, "--split", "train"]
    first, second = tmp_path / "pretrained", tmp_path / "finetuned"
    for module, more, folder in (
        ("pretrain", [*words, "--max-eval-crops", "2"], first),
        ("finetune", ["--task", "attributes", *words[:4]], second),
    ):
        subprocess.run(
            [sys.executable, "-m", f"patchit_hf.{module}", *common, *more, "--output-dir", folder],
            check=True, env=env,
        )  # fmt: skip
        assert (folder / "patchit.json").is_file()
