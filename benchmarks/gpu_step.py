"""The cost of a pretraining step on a CUDA GPU, and whether it is reproducible.

For each backbone the trainer runs on made-up crops: with the defaults, again with the defaults,
with every kernel launched (``--no-cuda-graphs``), also with Muon's kernels launched, without
deterministic convolutions (twice), with AdamW, with a larger batch, and in bfloat16. The output has
milliseconds per step, and the largest difference between the weights of two runs.

    python benchmarks/gpu_step.py --output benchmarks/results/gpu-step.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from torch import Tensor

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.common.provenance import versions
from patchit_hf.training import orthogonal

STEPS, WARM = 90, 20
REPLAYED = orthogonal.Orthogonalizer.__call__
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "again": {},
    "launched": {"cuda_graphs": False},
    "launched, Muon too": {"cuda_graphs": False, "muon": False},
    "not deterministic": {"deterministic": False},
    "not deterministic, again": {"deterministic": False},
    "adamw": {"optim": "adamw", "learning_rate": 1e-3},
    "batch 1024": {"train_batch_size": 1024},
    "bf16": {"mixed_precision": "bf16"},
}


def made_up(folder: Path, count: int = 512) -> datasets.Dataset:
    """Return a data set of 200x100 noise crops, on disk."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (count, 200, 100, 3), dtype=np.uint8)
    crops = datasets.Dataset.from_dict({"image": [Image.fromarray(n) for n in noise]})
    crops.cast_column("image", datasets.Image()).save_to_disk(folder)
    return datasets.load_from_disk(folder)


def run(
    backbone: str,
    crops: Any,
    folder: Path,
    muon: bool = True,
    deterministic: bool = True,
    **options: Any,
) -> tuple[float, dict[str, Tensor]]:
    """Return the milliseconds per step, and the final weights."""
    AcceleratorState._reset_state(True)
    kwargs = {"max_steps": STEPS, "save_steps": 0, "figures": False, "audit": False,
              "logging_steps": 1000, "output_dir": str(folder), **options}  # fmt: skip
    trainer = PatchTaskTrainer(
        backbone, TrainingArguments(**kwargs), create_task("position"), crops
    )
    torch.backends.cudnn.deterministic = deterministic
    times: dict[int, float] = {}
    after = trainer._after_step

    def spy(step: int, means: Any) -> bool:
        if step in (WARM, STEPS - 2):
            torch.cuda.synchronize()
            times[step] = time.perf_counter()
        return after(step, means)

    trainer._after_step = spy  # type: ignore[method-assign]
    if not muon:
        orthogonal.Orthogonalizer.__call__ = lambda self, *how, **kw: orthogonal.orthogonalize(  # type: ignore[method-assign]
            *how, **kw
        )
    trainer.train()
    orthogonal.Orthogonalizer.__call__ = REPLAYED  # type: ignore[method-assign]
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    return 1e3 * (times[STEPS - 2] - times[WARM]) / (STEPS - 2 - WARM), weights


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Return the largest difference between two weights."""
    return max(float((a[name].float() - b[name].float()).abs().max()) for name in a)


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--backbones", nargs="*", default=["resnet18", "mobilenetv2_100", "resnet50"]
    )
    parser.add_argument("--output", type=Path, required=True)
    words = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: no CUDA GPU")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        crops = made_up(Path(place, "crops"))
        for backbone in words.backbones:
            ended = {}
            row = found[backbone] = {"milliseconds": {}, "difference": {}}
            for number, (name, options) in enumerate(VARIANTS.items()):
                folder = Path(place, f"{backbone}-{number}")
                row["milliseconds"][name], ended[name] = run(backbone, crops, folder, **options)
            pairs = [("as it is", name) for name in list(VARIANTS)[1:4]]
            for a, b in [*pairs, ("not deterministic", "not deterministic, again")]:
                row["difference"][b] = difference(ended[a], ended[b])
    result = {
        "command": f"python benchmarks/gpu_step.py --output {words.output}",
        "backbones": found,
        "hardware": torch.cuda.get_device_name(),
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "versions": versions(),
    }
    words.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
