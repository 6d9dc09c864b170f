"""Write a contact sheet of the embedded person crops.

Example:
    python examples/contact_sheet.py --output people.png --rows 4 --cols 12 --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

from patchit_hf import render_person

# Pairs of joints in LSP order: the person's right, the person's left, the head.
RIGHT = ((0, 1), (1, 2), (6, 7), (7, 8), (8, 12))
LEFT = ((3, 4), (4, 5), (9, 10), (10, 11), (9, 12))
BONES = ((RIGHT, "orange"), (LEFT, "deepskyblue"), (((12, 13),), "white"))


def crop(index: int, seed: int, skeleton: bool) -> Image.Image:
    """Draw one crop, on request with its keypoints (hidden ones hollow)."""
    row = render_person(index, seed=seed)
    image: Image.Image = row["image"]
    if not skeleton:
        return image
    draw = ImageDraw.Draw(image)
    points = row["keypoints"].tolist()
    for bones, colour in BONES:
        for first, second in bones:
            draw.line((*points[first][:2], *points[second][:2]), colour)
    for x, y, visible in points:
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), "lime" if visible else None, "lime")
    return image


def contact_sheet(rows: int, cols: int, seed: int, step: int, skeleton: bool) -> Image.Image:
    """Paste rows x cols crops side by side, `step` rows of the data set apart."""
    sheet = Image.new("RGB", (cols * 104 - 4, rows * 204 - 4), "white")
    for cell in range(rows * cols):
        place = (cell % cols * 104, cell // cols * 204)
        sheet.paste(crop(cell * step, seed, skeleton), place)
    return sheet


def main() -> None:
    """Read the command line and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("people.png"))
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--cols", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step", type=int, default=1, help="5 shows mostly different people")
    parser.add_argument("--skeleton", action="store_true", help="draw the keypoints")
    parser.add_argument("--scale", type=float, default=1.0, help="shrink the sheet")
    parser.add_argument("--colours", type=int, default=0, help="palette size, 0 keeps all colours")
    args = parser.parse_args()
    sheet = contact_sheet(args.rows, args.cols, args.seed, args.step, args.skeleton)
    sheet = sheet.resize((round(sheet.width * args.scale), round(sheet.height * args.scale)))
    if args.colours:
        sheet = sheet.quantize(args.colours, kmeans=3, dither=Image.Dither.NONE)
    sheet.save(args.output, optimize=True)
    print(f"wrote {args.output} ({sheet.width} x {sheet.height})")


if __name__ == "__main__":
    main()
