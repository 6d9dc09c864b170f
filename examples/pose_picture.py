"""Finetune pose, and draw the predicted joints beside the true ones, on people who were not seen.

Below each are the pixels by which its joints are off.

Example:
    python examples/pose_picture.py --init runs/resnet18-position-people --picture pose.png
    python examples/pose_picture.py --dataset path/to/crops --backbone resnet18 --epochs 50
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from patchit_hf import FinetuneTrainer, FinetuningArguments, load_crops

INK, SOFT, SMALL = "#1b1b1b", "#5a5a5a", 7.5  # colours, and the size of small letters in points
LIMBS = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
BONES = [("neck", "head top", "white", "-")]
BONES += [(f"right {joint}", f"left {joint}", "white", "-") for joint in ("shoulder", "hip")]
BONES += [(f"{side} shoulder", f"{side} hip", "white", "-") for side in ("right", "left")]
BONES += [(f"right {a}", f"right {b}", "orange", "-") for a, b in LIMBS]
BONES += [(f"left {a}", f"left {b}", "deepskyblue", (0, (3, 1))) for a, b in LIMBS]
NOTE = "Solid orange: the person's right. Dashed blue: the left. Joints that have a label."


def skeleton(axes, points, seen) -> None:
    """Draw joints, x and y by name, those that are in ``seen``, and the bones between them."""
    edge = [withStroke(linewidth=3.2, foreground=INK)]  # so that bones are seen on any crop
    for first, second, colour, dashes in BONES:
        if first in seen and second in seen:
            x, y = zip(points[first], points[second], strict=True)
            axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.8, path_effects=edge)
    for name in seen:
        x, y = points[name]
        axes.plot(x, y, "o", markersize=3, color="white", markeredgecolor=INK, markeredgewidth=0.7)


def draw(people: list[dict], title: str) -> Figure:
    """Draw three rows: the crops, their true joints, and the predicted ones."""
    wide, tall = people[0]["image"].size
    size = (0.3 + 1.1 * len(people), 0.8 + 3.3 * tall / wide)
    figure = Figure(figsize=size, dpi=125, facecolor="white", layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold")
    figure.supxlabel(NOTE, x=0.01, ha="left", fontsize=SMALL, color=SOFT)
    grid = figure.subplots(3, len(people), squeeze=False)
    for row, name in enumerate(("crop", "truth", "found")):
        grid[row, 0].set_ylabel(name, fontsize=9)
        for axes, person in zip(grid[row], people, strict=True):
            wide, tall = person["image"].size
            axes.imshow(person["image"], extent=(0, wide, tall, 0))
            axes.set(xticks=[], yticks=[], xlim=(0, wide), ylim=(tall, 0))
            if name in person:
                skeleton(axes, person[name], person["seen"])
    for axes, person in zip(grid[2], people, strict=True):
        away = [np.subtract(person["truth"][j], person["found"][j]) for j in person["seen"]]
        pixels = np.linalg.norm(away, axis=1).mean() if away else np.nan
        axes.set_xlabel(f"{pixels:.1f} px off", fontsize=SMALL)
    return figure


def size(text: str) -> tuple[int, ...]:
    """Read ``192x96`` as height and width."""
    return tuple(map(int, text.split("x")))


def main() -> None:
    """Read the command line, train, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--init", default="random", help="initial weights, such as a run's folder")
    parser.add_argument("--backbone", help="a model of timm's, where --init does not bring one")
    parser.add_argument("--dataset", help="crops with keypoints; rendered people if left out")
    parser.add_argument("--output", type=Path, default=Path("runs/pose"))
    parser.add_argument("--picture", type=Path, default=Path("pose.png"))
    parser.add_argument("--people", type=int, default=8, help="how many to draw")
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--max-steps", type=int, default=-1, help="instead of epochs")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--input-size", type=size, help="height x width, such as 192x96")
    args = parser.parse_args()

    crops = load_crops(args.dataset)
    how = FinetuningArguments(
        output_dir=str(args.output),
        num_train_epochs=args.epochs,
        max_steps=args.max_steps,
        learning_rate=args.learning_rate,
    )
    about = {"name": crops.name, "split": crops.split, "validated_on": crops.held_out_from}
    trainer = FinetuneTrainer(
        args.init,
        how,
        "pose",
        crops.train,
        crops.held_out,
        backbone=args.backbone or ("resnet10t" if args.init == "random" else None),
        input_size=args.input_size,
        data_info={**about, **crops.meta},
    )
    results = trainer.train()
    names = {"eval_pck": "pck", "eval_pckh": "pckh", "eval_ap": "ap"}
    values = [f"{name} {results[key]:.1%}" for key, name in names.items() if key in results]
    title = f"Pose in {len(crops.held_out)} crops that were not seen: {', '.join(values)}"

    rows = np.linspace(0, len(crops.held_out) - 1, min(args.people, len(crops.held_out))).round()
    some = crops.held_out.select(rows.astype(int))
    people = []
    for row, found in zip(some, trainer.model.predict(some), strict=True):
        joints = dict(zip(found.keypoints, np.array(row[trainer.task.column]), strict=True))
        people.append(
            {
                "image": row[crops.image_column].convert("RGB"),
                "truth": {name: (x, y) for name, (x, y, _) in joints.items()},
                "found": {name: (x, y) for name, (x, y, _) in found.keypoints.items()},
                "seen": [name for name, (_, _, visible) in joints.items() if visible > 0],
            }
        )
    draw(people, title).savefig(args.picture)
    print(f"{title}; wrote {args.picture}")


if __name__ == "__main__":
    main()
