"""Finetune pose, and draw what was found beside the truth, on people who were not seen.

Below each are the pixels of the input by which its joints are off. Further flags are those of
``patchit_hf.finetune``.

Example:
    python examples/pose_picture.py --init runs/resnet18-position-people --picture pose.png
    python examples/pose_picture.py --dataset path/to/crops --backbone resnet18 --epochs 50
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from patchit_hf import FinetunedModel, load_crops
from patchit_hf.downstream.augment import centre
from patchit_hf.figures.page import INK, SMALL, SOFT, with_look
from patchit_hf.finetune import command as finetune
from patchit_hf.finetune.arguments import FinetuningArguments
from patchit_hf.finetune.labelled import open_labelled
from patchit_hf.finetune.predict import predict

LIMBS = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
BONES = [("neck", "head top", "white", "-")]
BONES += [(f"right {joint}", f"left {joint}", "white", "-") for joint in ("shoulder", "hip")]
BONES += [(f"{side} shoulder", f"{side} hip", "white", "-") for side in ("right", "left")]
BONES += [(f"right {a}", f"right {b}", "orange", "-") for a, b in LIMBS]
BONES += [(f"left {a}", f"left {b}", "deepskyblue", (0, (3, 1))) for a, b in LIMBS]
NOTE = "Solid orange: the person's right. Dashed blue: the left. Joints that have a label."


def skeleton(axes, points, seen, joints) -> None:
    """Draw joints x, y ``[J, 2]``, those that are seen ``[J]``, and the bones between them."""
    place = {name: points[i].tolist() for i, name in enumerate(joints) if seen[i]}
    edge = [withStroke(linewidth=3.2, foreground=INK)]  # so that bones are seen on any crop
    for first, second, colour, dashes in BONES:
        if first in place and second in place:
            x, y = zip(place[first], place[second], strict=True)
            axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.8, path_effects=edge)
    for x, y in place.values():
        axes.plot(x, y, "o", markersize=3, color="white", markeredgecolor=INK, markeredgewidth=0.7)


@with_look
def draw(pictures, found, truth, seen, away, joints, title: str) -> Figure:
    """Draw three rows: the crops ``[N, 3, H, W]``, their true joints, and those found."""
    tall, wide = pictures.shape[2:]
    size = (0.3 + 1.1 * len(pictures), 0.8 + 3.3 * tall / wide)
    figure = Figure(figsize=size, dpi=125, facecolor="white", layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    figure.supxlabel(NOTE, x=0.01, ha="left", fontsize=SMALL, color=SOFT)
    grid = figure.subplots(3, len(pictures), squeeze=False)
    for row, (name, points) in enumerate((("crop", None), ("truth", truth), ("found", found))):
        grid[row, 0].set_ylabel(name)
        for i, axes in enumerate(grid[row]):
            axes.imshow(pictures[i].permute(1, 2, 0).numpy(), extent=(0, wide, tall, 0))
            axes.set(xticks=[], yticks=[], xlim=(0, wide), ylim=(tall, 0))
            if points is not None:
                skeleton(axes, points[i], seen[i], joints)
    for axes, pixels in zip(grid[2], away, strict=True):
        axes.set_xlabel(f"{pixels:.1f} px off", fontsize=SMALL)
    return figure


def main() -> None:
    """Read the command line, train, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dataset", help="crops with keypoints; rendered people if left out")
    parser.add_argument("--output", type=Path, default=Path("runs/pose"))
    parser.add_argument("--picture", type=Path, default=Path("pose.png"))
    parser.add_argument("--people", type=int, default=8, help="how many to draw")
    args, more = parser.parse_known_args()
    if not any(word.startswith(("--init", "--backbone")) for word in more):
        more += ["--backbone", "resnet10t"]
    more += ["--dataset", args.dataset] if args.dataset else []
    if finetune.main(["--task", "pose", "--output-dir", str(args.output), *more]):
        sys.exit("the training failed")
    model = FinetunedModel.from_pretrained(args.output)
    task, geometry, how = model.task, model.geometry, FinetuningArguments(fit=model.fit)
    crops = load_crops(args.dataset).held_out
    data = open_labelled(crops, task, geometry.canvas, how, name="held out")
    found, truth = predict(model, data, task, geometry)  # in pixels of the network's input
    figures = [f"{key} {value:.1%}" for key, value in task.measure(found, truth).summary.items()]
    title = f"Pose in {len(data)} crops that were not seen: {', '.join(figures)}"
    rows = torch.linspace(0, len(data) - 1, min(args.people, len(data))).round().long()
    pictures = centre(next(data.select(rows).batches(len(rows)))[0], geometry)[0]
    found, truth, seen = found[rows, :, :2], truth[rows, :, :2], truth[rows, :, 2] > 0
    away = (found - truth).norm(dim=2).where(seen, 0).sum(1) / seen.sum(1)
    draw(pictures, found, truth, seen, away.tolist(), task.joints, title).savefig(args.picture)
    print(f"{title}; wrote {args.picture}")


if __name__ == "__main__":
    main()
