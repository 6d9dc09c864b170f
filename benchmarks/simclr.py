"""SimCLR on person crops, as a contender of claim.py: two views of a crop find each other.

    python benchmarks/simclr.py --backbone mobilenetv2_100 --init path/to/weights.safetensors \
        --dataset path/to/crops --max-steps 150 --output-dir runs/simclr

Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020,
with LightlyTrain 0.18's settings: two layers of 2,048 and 128, temperature 0.1, SGD with momentum
0.9 at 0.3 x batch / 256 by a cosine after a warm-up; views by random resized crops, mirror, jitter
(0.8, 0.8, 0.8, 0.2; p 0.8), grayscale (0.2) and blur (0.5). LightlyTrain itself stops on
``mobilenetv2_100`` with a shape error.

Its random crops are ones of a person stretched to a square, as their shapes from 3:4 to 4:3 never
show more than two thirds of an upright person, and not smaller than ``--smallest`` of it. Nothing
of it but the backbone is kept: ``model.safetensors``, with a record beside it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import save_weights, write_json
from patchit_hf.common.freed_memory import freed_memory_kept
from patchit_hf.common.layout import BACKBONE_FILE, DONE_FILE
from patchit_hf.data.canvas import parse_canvas
from patchit_hf.data.source import open_split
from patchit_hf.models.initial_weights import open_initial

SIDE = 128  # px of the square that crops are stretched to before views are taken of them
MEAN, STD = timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD


def squares(crops: datasets.Dataset) -> Tensor:
    """Return crops stretched to squares: uint8 ``[N, 3, SIDE, SIDE]``."""
    found = torch.empty(len(crops), 3, SIDE, SIDE, dtype=torch.uint8)
    for row, crop in enumerate(crops):
        image = crop["image"].convert("RGB").resize((SIDE, SIDE))
        found[row] = v2.functional.pil_to_tensor(image)
    return found


def views(size: tuple[int, int], smallest: float) -> v2.Transform:
    """Return what makes a view of a square: float32 ``[3, height, width]``, normalised."""
    cut = v2.RandomResizedCrop(size, (smallest, 1.0), antialias=True)
    cut.interpolation = InterpolationMode.BICUBIC
    return v2.Compose([
        cut,
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], 0.5),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ])  # fmt: skip


def nt_xent(embeddings: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the loss of views ``[2 N, C]``, of which i and i + N show one crop.

    Example:
        >>> round(nt_xent(torch.eye(2).repeat(2, 1), temperature=1.0).item(), 4)  # ln(e + 2) - 1
        0.5514
    """
    normalised = F.normalize(embeddings)
    similar = normalised @ normalised.T / temperature
    similar.fill_diagonal_(-math.inf)
    count = len(embeddings) // 2
    partner = torch.arange(2 * count).roll(count)
    return F.cross_entropy(similar, partner)


def batches(count: int, size: int) -> Iterator[Tensor]:
    """Yield rows in random order, for ever; an epoch's rest is left out."""
    while True:
        order = torch.randperm(count)
        yield from (rows for rows in order.split(size) if len(rows) == size)


def rate_at(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: a tenth of the run to the peak, then a cosine to zero."""
    warm = max(1, steps // 10)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(args: argparse.Namespace) -> tuple[nn.Module, dict[str, float]]:
    """Train; returns the backbone and what was measured.

    Raises:
        InputError: for weights or data that cannot be used.
    """
    torch.manual_seed(args.seed)
    size = parse_canvas(args.canvas)
    backbone = open_initial(args.init, args.backbone, 0, seed=args.seed, input_size=size).backbone
    crops = squares(open_split(args.dataset, "train")[0])
    view = views(size, args.smallest)
    width = int(backbone.num_features)
    head = nn.Sequential(nn.Linear(width, 2048), nn.BatchNorm1d(2048), nn.ReLU(),
                         nn.Linear(2048, 128))  # fmt: skip
    model = nn.Sequential(backbone, head).to(memory_format=torch.channels_last).train()
    peak = args.learning_rate or 0.3 * args.batch_size / 256
    optimizer = torch.optim.SGD(model.parameters(), peak, momentum=0.9, weight_decay=1e-4)
    rows, losses = batches(len(crops), args.batch_size), []
    for step in range(args.max_steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, args.max_steps, peak)
        chosen = next(rows)
        shown = torch.stack([view(crop) for crop in crops[chosen.repeat(2)]])
        loss = nt_xent(model(shown.contiguous(memory_format=torch.channels_last)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 20 == 0:
            print(f"step {step + 1}: loss {losses[-1]:.3f}", flush=True)
    last = losses[-10:]
    found = {"steps": args.max_steps, "crops": args.max_steps * args.batch_size}
    return backbone, {**found, "loss_first": losses[0], "loss_last": sum(last) / len(last)}


def main() -> int:
    """Run as the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--init", default="random")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--canvas", default="128x64", help="height x width of a view")
    parser.add_argument("--max-steps", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=128, help="crops of a step")
    parser.add_argument("--learning-rate", type=float, help="by default 0.3 x batch / 256")
    parser.add_argument("--smallest", type=float, default=0.08, help="share of a square")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args()
    started = time.perf_counter()
    try:
        with freed_memory_kept():  # as in the package's own trainings
            backbone, found = train(args)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    args.output_dir.mkdir(parents=True, exist_ok=True)
    save_weights(backbone, args.output_dir / BACKBONE_FILE)
    found["seconds"] = round(time.perf_counter() - started, 1)
    write_json(args.output_dir / DONE_FILE, {"results": found, "arguments": sys.argv[1:]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
