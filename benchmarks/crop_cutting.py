"""Boxes per CPU-second of cutting crops, against decoding the images alone, in one process.

    python benchmarks/crop_cutting.py                        people drawn into frames of three sizes
    python benchmarks/crop_cutting.py --images DIR --detections FILE

Frames are JPEGs of made-up texture at quality 90 with five boxes each, each a quarter to three
quarters of the frame's height. Both are timed in turns; the smallest of five is taken. Decoding is
Pillow's, of the whole image, to RGB.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from patchit_hf.crops import CropOptions, read_detections
from patchit_hf.crops.cutting.cut import Job, cut
from patchit_hf.crops.cutting.plan import make_plan, open_images

SIZES = {"640x480": 12, "1920x1080": 8, "4000x3000": 4}  # frames of each
ROUNDS = 5


def frames(folder: Path, width: int, height: int, count: int) -> Path:
    """Write frames and their boxes; returns the file of boxes."""
    rng, lines = np.random.default_rng(0), ["image,x0,y0,x1,y1"]
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    for number in range(count):
        smooth = Image.fromarray(np.roll(coarse, number, 1)).resize((width, height), 3)
        noise = rng.normal(0, 6, (height, width, 1))
        pixels = (np.asarray(smooth) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
        for box in range(5):
            high = height * rng.uniform(0.25, 0.75)
            x = width * (0.1 + 0.18 * box)
            y = rng.uniform(2, height - high - 2)
            lines.append(f"{number}.jpg,{x:.1f},{y:.1f},{x + 0.4 * high:.1f},{y + high:.1f}")
    file = folder / "boxes.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def decode(jobs: list[Job]) -> None:
    """Decode each image once."""
    for job in jobs:
        if job.path is not None:
            with Image.open(job.path) as image:
                image.convert("RGB")


def best(work: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the CPU-seconds of each, the smallest of several, taken in turns."""
    seconds = dict.fromkeys(work, float("inf"))
    for _ in range(ROUNDS):
        for name, call in work.items():
            began = time.process_time()
            call()
            seconds[name] = min(seconds[name], time.process_time() - began)
    return seconds


def measure(images: Path, boxes: Path) -> dict[str, float]:
    """Time cutting and decoding of some images."""
    options = CropOptions(preset="all")
    found = read_detections(boxes)
    plan = make_plan(found, open_images(images, options, found.kind), options)
    jobs = [job for job in plan.jobs(0, options.max_pixels) if (job.reasons == "").any()]
    crops = sum(len(cut(job, options).crops) for job in jobs)
    seconds = best({"decode": lambda: decode(jobs), "cut": lambda: [cut(j, options) for j in jobs]})
    return {
        "images": len(jobs),
        "crops": crops,
        "crops_per_cpu_second": round(crops / seconds["cut"], 1),
        "decoding_as_share_of_cutting": round(seconds["decode"] / seconds["cut"], 3),
    }


def main() -> int:
    """Print a line of JSON for each size of frames; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path)
    parser.add_argument("--detections", type=Path)
    args = parser.parse_args()
    if args.images is not None:
        print(json.dumps({"frames": args.images.name, **measure(args.images, args.detections)}))
        return 0
    for size, count in SIZES.items():
        width, height = map(int, size.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            boxes = frames(Path(folder), width, height, count)
            print(json.dumps({"frames": size, **measure(Path(folder), boxes)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
