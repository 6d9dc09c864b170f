"""Crops a CPU-second: this package, a plain PyTorch loop, and LightlyTrain, on the same crops.

    python benchmarks/peers.py --dataset ../shared/data/peta --output benchmarks/results/peers.json

Every contender trains the same backbone on the same files with one thread and no worker processes,
for a few steps and for more; what counts is the difference, so that starting, reading the data set
and writing the result do not. They take turns, several rounds; the smallest difference of each is
reported, in CPU-seconds of the process and its children. ``Mpx`` are the pixels that the backbone
sees, forward and backward, a CPU-second (a teacher's forward pass is not counted).

LightlyTrain (AGPL) is run in an environment of its own, which ``--environment`` names and which is
made if missing; nothing of it is imported here. Its random crops are not smaller than two thirds of
a person, as people upright do not survive its default of a twelfth; the rest are its defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

LIGHTLY_PACKAGES = ("lightly-train", "timm")
HEIGHT, WIDTH, BATCH = 128, 64, 128
LIGHTLY = """
import json, sys, lightly_train
import torch
torch.set_num_threads(1)
lightly_train.pretrain(**json.loads(sys.argv[1]))
"""
PLAIN = """
import random, sys
from pathlib import Path
import numpy as np, timm, torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

folder, backbone, steps, batch, height, width = sys.argv[1:]
steps, batch, height, width = map(int, (steps, batch, height, width))
torch.set_num_threads(1)
side, rows, cols = 20, 6, 3

class Patches(Dataset):
    files = sorted(Path(folder).glob("*.jpg"))
    def __len__(self):
        return len(self.files)
    def __getitem__(self, index):
        image = Image.open(self.files[index]).convert("RGB").resize((width, height))
        cell = random.randrange(rows * cols)
        top, left = 4 + side * (cell // cols), 2 + side * (cell % cols)
        patch = np.asarray(image.crop((left, top, left + side, top + side)).resize((40, 40)))
        return (torch.from_numpy(patch.copy()).permute(2, 0, 1).float() / 255 - 0.5) / 0.25, cell

torch.manual_seed(0)
model = timm.create_model(backbone, num_classes=rows * cols)
optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
loader, done = DataLoader(Patches(), batch, shuffle=True, drop_last=True), 0
while done < steps:
    for inputs, cells in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), cells).backward()
        optimizer.step()
        done += 1
        if done == steps:
            break
"""


@dataclass
class Contender:
    """A way to pretrain.

    Attributes:
        views: inputs of the backbone for each crop.
        pixels: pixels of these inputs together.
        steps: few and more; more steps where a step is short.
    """

    views: int
    pixels: int
    steps: tuple[int, int]

    @property
    def crops(self) -> int:
        """Number of crops in a step."""
        return BATCH


CONTENDERS = {
    "patchit position": Contender(1, 40 * 40, (20, 120)),
    "plain position": Contender(1, 40 * 40, (20, 120)),
    "patchit octaves": Contender(4, 4 * 64 * 32, (8, 32)),
    "LightlyTrain simclr": Contender(2, 2 * HEIGHT * WIDTH, (3, 9)),
    "LightlyTrain dino": Contender(8, 2 * HEIGHT * WIDTH + 6 * 48 * 24, (3, 9)),
}


def command(
    name: str, steps: int, backbone: str, folder: Path, out: Path, python: str
) -> list[str]:
    """Return the command of a contender."""
    size = f"{HEIGHT}x{WIDTH}"
    if name.startswith("patchit"):
        task = name.split()[1]
        options = ["patch_size=20", "input_scale=2"] if task == "position" else []
        views = CONTENDERS[name].views
        return [
            *(sys.executable, "-m", "patchit_hf.pretrain", "--backbone", backbone),
            *("--dataset", str(folder), "--canvas", size, "--task", task),
            *(["--task-kwargs", *options] if options else []),
            *("--max-steps", str(steps), "--batch-size", str(BATCH * views), "--workers", "0"),
            *("--eval-every", "0", "--save-every", "0", "--max-eval-crops", "1"),
            *("--no-figures", "--no-audit", "--output-dir", str(out)),
        ]
    if name.startswith("plain"):
        words = [str(folder), backbone, str(steps), str(BATCH), str(HEIGHT), str(WIDTH)]
        return [sys.executable, "-c", PLAIN, *words]
    resize = {"min_scale": 2 / 3, "max_scale": 1.0}
    transform: dict[str, object] = {"image_size": [HEIGHT, WIDTH], "random_resize": resize}
    if name.endswith("dino"):
        transform["local_view"] = {
            "view_size": [48, 24],
            "random_resize": {"min_scale": 0.1, "max_scale": 0.3},
        }
    arguments = {
        "out": str(out), "data": str(folder), "model": f"timm/{backbone}",
        "method": name.split()[1], "batch_size": BATCH, "num_workers": 0, "devices": 1,
        "accelerator": "cpu", "precision": "32-true", "transform_args": transform,
        "trainer_args": {"max_steps": steps},
    }  # fmt: skip
    return [python, "-c", LIGHTLY, json.dumps(arguments)]


def environment(folder: Path) -> str:
    """Return the Python of LightlyTrain's environment, which is made if missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *LIGHTLY_PACKAGES], check=True)
    return str(python)


def cpu_seconds(words: list[str], log: Path) -> float:
    """Run a command, and return the CPU-seconds of it and its children.

    Raises:
        RuntimeError: if it fails; the end of its output is in the message.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with log.open("w") as file:
        done = subprocess.run(words, stdout=file, stderr=subprocess.STDOUT, env=settings)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:4])} ...: {log.read_text()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def crops_in(dataset: str, folder: Path, limit: int) -> int:
    """Write some training crops as JPEG files; returns their number."""
    from patchit_hf import load_crops

    train = load_crops(dataset).train
    for number in range(min(limit, len(train))):
        image = train[number]["image"].convert("RGB")
        image.save(folder / f"{number:06d}.jpg", quality=95)
    return min(limit, len(train))


def main() -> int:
    """Run all contenders in turns; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="../shared/data/peta")
    parser.add_argument("--backbone", default="resnet10t")
    parser.add_argument("--crops", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--environment", type=Path, default=Path("runs/lightly-train"))
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    least: dict[str, float] = {}
    python = ""
    if any(name.startswith("Lightly") for name in args.only):
        python = environment(args.environment)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        images = work / "crops"
        images.mkdir()
        count = crops_in(args.dataset, images, args.crops)
        for turn in range(args.rounds):
            for name in args.only:
                seconds = [
                    cpu_seconds(
                        command(
                            name,
                            steps,
                            args.backbone,
                            images,
                            work / f"{name.replace(' ', '-')}-{turn}-{steps}",
                            python,
                        ),
                        work / "log",
                    )
                    for steps in CONTENDERS[name].steps
                ]
                spent = seconds[1] - seconds[0]
                least[name] = min(spent, least.get(name, float("inf")))
                print(f"round {turn + 1}: {name}: {spent:.1f} CPU-seconds", flush=True)
    rows = {}
    for name, spent in least.items():
        contender = CONTENDERS[name]
        crops = contender.crops * (contender.steps[1] - contender.steps[0])
        rows[name] = {
            "crops_per_cpu_second": round(crops / spent, 1),
            "views_per_crop": contender.views,
            "mpx_per_cpu_second": round(crops * contender.pixels / spent / 1e6, 3),
        }
    result = {
        "backbone": args.backbone, "crops": count, "batch": BATCH, "canvas": f"{HEIGHT}x{WIDTH}",
        "threads": 1, "rounds": args.rounds, "date": time.strftime("%Y-%m-%d"), "contenders": rows,
    }  # fmt: skip
    text = json.dumps(result, indent=2)
    print(text)
    if args.output is not None:
        args.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
