"""LightlyTrain on person crops, as a contender of claim.py: SimCLR and DINO from random weights.

    python benchmarks/lightly.py --method simclr --backbone resnet10t --dataset path/to/crops \
        --max-steps 200 --output-dir runs/lightly

LightlyTrain (AGPL) is run in an environment of its own, which ``--environment`` names and which is
made if missing; nothing of it is imported here. Its settings are its own but for four: views of
the canvas' size, of crops that were stretched to squares (its random crops, of shapes from 3:4 to
4:3, never show more than two thirds of an upright person); local views of half that size; no worker
processes; and ``--max-steps``, where its schedule ends, too. ``--learning-rate`` and ``--smallest``
(of a view, as a share of the square) are searched. Nothing of it but the backbone is kept:
``model.safetensors``, with a record beside it.
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

import torch
from peers import environment
from safetensors.torch import save_file
from torch import Tensor

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import write_json
from patchit_hf.common.layout import BACKBONE_FILE, DONE_FILE
from patchit_hf.data.canvas import parse_canvas
from patchit_hf.data.source import open_split

SIDE = 128  # px of the square that crops are stretched to before views are taken of them
PRECISIONS = {"no": "32-true", "bf16": "bf16-mixed"}
PROGRAM = """
import json, sys, lightly_train, torch
torch.set_num_threads(int(sys.argv[2]))
lightly_train.pretrain(**json.loads(sys.argv[1]))
"""


def write_squares(dataset: str, folder: Path) -> int:
    """Write the training crops as square JPEG files; returns their number."""
    crops = open_split(dataset, "train")[0]
    for row, crop in enumerate(crops):
        image = crop["image"].convert("RGB").resize((SIDE, SIDE))
        image.save(folder / f"{row:06d}.jpg", quality=95)
    return len(crops)


def settings(args: argparse.Namespace, crops: int) -> dict[str, Any]:
    """Return the arguments of LightlyTrain but for its folders.

    Args:
        args: the command line.
        crops: number of training crops.
    """
    height, width = parse_canvas(args.canvas)
    views: dict[str, Any] = {"image_size": [height, width]}
    if args.smallest is not None:
        views["random_resize"] = {"min_scale": args.smallest, "max_scale": 1.0}
    if args.method == "dino":
        views["local_view"] = {"view_size": [height // 2, width // 2]}
    epochs = -(-args.max_steps // max(1, crops // args.batch_size))
    rate = {} if args.learning_rate is None else {"lr": args.learning_rate}
    return {
        "model": f"timm/{args.backbone}", "method": args.method, "batch_size": args.batch_size,
        "num_workers": 0, "devices": 1, "accelerator": "cpu", "seed": args.seed,
        "precision": PRECISIONS[args.mixed_precision], "transform_args": views,
        "optim_args": rate or None, "epochs": epochs,
        "trainer_args": {"max_steps": args.max_steps},
    }  # fmt: skip


def backbone_weights(exported: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's weights without those of a classifier.

    Example:
        >>> sorted(backbone_weights({"conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)}))
        ['conv1.weight']
    """
    heads = ("fc.", "classifier.", "head.fc.")
    return {k: v.contiguous() for k, v in exported.items() if not k.startswith(heads)}


def main() -> int:
    """Run as the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", choices=("simclr", "dino"), required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--canvas", default="128x64", help="height x width of a view")
    parser.add_argument("--max-steps", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=128, help="crops of a step")
    parser.add_argument("--learning-rate", type=float, help="of 256 crops; LightlyTrain's default")
    parser.add_argument("--smallest", type=float, help="share of a square; LightlyTrain's default")
    parser.add_argument("--mixed-precision", choices=PRECISIONS, default="no")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--environment", type=Path, default=Path("runs/lightly-train"))
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args()
    started = time.perf_counter()
    python = environment(args.environment)
    try:
        with tempfile.TemporaryDirectory() as folder:
            squares, out = Path(folder) / "squares", Path(folder) / "out"
            squares.mkdir()
            given = settings(args, write_squares(args.dataset, squares))
            words = json.dumps({**given, "out": str(out), "data": str(squares)})
            threads = str(torch.get_num_threads())
            done = subprocess.run([python, "-c", PROGRAM, words, threads])
            if done.returncode:
                raise InputError("LightlyTrain failed; its output says why")
            file = out / "exported_models" / "exported_last.pt"
            exported = torch.load(file, map_location="cpu", weights_only=True)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    args.output_dir.mkdir(parents=True, exist_ok=True)
    save_file(backbone_weights(exported), args.output_dir / BACKBONE_FILE)
    found = {
        "steps": args.max_steps, "crops": args.max_steps * args.batch_size,
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    write_json(args.output_dir / DONE_FILE, {"results": found, "settings": given})
    return 0


if __name__ == "__main__":
    sys.exit(main())
