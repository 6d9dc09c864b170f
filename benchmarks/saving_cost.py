"""What checksums and flushing to the disk cost, as a share of a run.

One run in one process; the seconds that it spends in each are added up while it runs. Steps are few
and checkpoints many here, so the share is also given for a checkpoint every ten minutes, which is
the default.

    python benchmarks/saving_cost.py --output benchmarks/results/saving-cost.json
"""

from __future__ import annotations

import argparse
import functools
import json
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import datasets  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task  # noqa: E402
from patchit_hf.common.provenance import versions  # noqa: E402
from patchit_hf.data.crop_cache import Guard  # noqa: E402
from patchit_hf.training import checkpoint, trainer  # noqa: E402

DEFAULT = 600.0  # seconds between checkpoints


def timed(owner: Any, name: str, seconds: Counter[str], as_name: str) -> None:
    """Add up what a function takes."""
    before: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(before)
    def measured(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return before(*args, **kwargs)
        finally:
            seconds[as_name] += time.perf_counter() - began
            seconds[f"{as_name}: calls"] += 1

    setattr(owner, name, measured)


def crops(folder: Path, count: int) -> Any:
    """Return crops of noise on the disk, so that they are cached."""
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (200, 100, 3), np.uint8)) for _ in range(count)]
    rows = datasets.Dataset.from_dict({"image": images}).cast_column("image", datasets.Image())
    rows.to_parquet(str(folder / "train.parquet"))
    return datasets.load_dataset(str(folder), split="train")


def main() -> int:
    """Train, and write what was spent on what."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--save-every", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    seconds: Counter[str] = Counter()
    timed(checkpoint, "_checksum", seconds, "SHA-256 of checkpoints")
    timed(checkpoint, "_flush", seconds, "flushing to the disk")
    timed(trainer, "save_checkpoint", seconds, "checkpoints as a whole")
    timed(Guard, "check", seconds, "checksums of cached crops")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        datasets.config.HF_DATASETS_CACHE = folder / "cache"
        (folder / "data").mkdir()
        options = TrainingArguments(
            output_dir=str(folder / "run"), max_steps=args.steps, save_steps=args.save_every,
            eval_steps=0, audit=False, figures=False,
        )  # fmt: skip
        run = PatchTaskTrainer(
            args.backbone, options, create_task("position"), crops(folder / "data", 400)
        )
        began = time.perf_counter()
        run.train()
        whole = time.perf_counter() - began
        saved = sum(p.stat().st_size for p in (folder / "run/checkpoints").rglob("*")) / 2
    saves = seconds.pop("checkpoints as a whole: calls")
    names = [name for name in seconds if not name.endswith(": calls")]
    each = (seconds["SHA-256 of checkpoints"] + seconds["flushing to the disk"]) / saves
    result = {
        "command": shlex.join(["python", "benchmarks/saving_cost.py", *sys.argv[1:]]),
        "packages": ", ".join(f"{name} {versions()[name]}" for name in ("patchit_hf", "torch")),
        "backbone": args.backbone, "steps": args.steps, "checkpoints": saves,
        "seconds of the run": round(whole, 2), "megabytes of a checkpoint": round(saved / 1e6, 1),
        "seconds": {name: round(seconds[name], 4) for name in names},
        "shares of this run": {name: round(seconds[name] / whole, 5) for name in names},
        "checksums and flushing, a checkpoint in seconds": round(each, 4),
        "their share with a checkpoint every ten minutes": round(each / DEFAULT, 6),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
