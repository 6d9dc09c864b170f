"""Small crops with and without marks that are no person."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from patchit_hf.data.people import render_person

CANVAS = (100, 50)
GRID = {"rows": 6, "cols": 3, "patch_size": 16, "jitter": 2}  # PT-18 at half the size
TRAIN, HELD_OUT = 110, 50


@cache
def people(count: int = TRAIN + HELD_OUT) -> list[Image.Image]:
    """Rendered people."""
    height, width = CANVAS
    return [render_person(i, height=height, width=width)["image"] for i in range(count)]


@cache
def textures(count: int = TRAIN + HELD_OUT, seed: int = 0) -> list[Image.Image]:
    """Blotches that look alike everywhere."""
    rng = np.random.default_rng(seed)
    height, width = CANVAS
    blotches = rng.integers(0, 256, (count, 35, 23, 3), dtype=np.uint8)
    enlarged = [Image.fromarray(b).resize((92, 140), Image.Resampling.BICUBIC) for b in blotches]
    return [image.crop((20, 20, 20 + width, 20 + height)) for image in enlarged]


def framed(images: list[Image.Image], width: int = 4) -> list[Image.Image]:
    """A coloured frame around each."""
    marked = [image.copy() for image in images]
    for image in marked:
        edge = (0, 0, image.width - 1, image.height - 1)
        ImageDraw.Draw(image).rectangle(edge, outline=(200, 40, 40), width=width)
    return marked


def stamped(images: list[Image.Image], seed: int = 0) -> list[Image.Image]:
    """A time in the upper left corner of each."""
    rng = np.random.default_rng(seed)
    marked = [image.copy() for image in images]
    for image in marked:
        time = f"{rng.integers(10)}:{rng.integers(10)}"
        ImageDraw.Draw(image).text((2, 2), time, fill=(255, 255, 255))
    return marked


def padded(images: list[Image.Image], seed: int = 0) -> list[Image.Image]:
    """Black to the left and right of each, as of a detector that keeps the aspect."""
    rng = np.random.default_rng(seed)
    marked = []
    for image in images:
        pad = round(image.width * rng.uniform(0.06, 0.09))
        canvas = Image.new("RGB", image.size)
        canvas.paste(image.resize((image.width - 2 * pad, image.height)), (pad, 0))
        marked.append(canvas)
    return marked


def shapes(count: int = TRAIN + HELD_OUT, seed: int = 0) -> list[Image.Image]:
    """Left half S, right half Z: nothing but shape tells the two apart. Canvas 24x44."""
    rng = np.random.default_rng(seed)
    letter = np.array([[0, 1, 1], [1, 1, 0]], bool).repeat(2, 0).repeat(2, 1)
    images = []
    for _ in range(count):
        ground = rng.integers(0, 256, 3)
        picture = np.ones((24, 44, 3)) * ground
        for side, mask in enumerate((letter, letter[:, ::-1])):
            for y in (3, 9, 15):
                for x in (5, 13):
                    top, left = y + rng.integers(-1, 2), 20 * side + x + rng.integers(-2, 3)
                    colour = (ground + rng.integers(60, 196, 3)) % 256
                    picture[top : top + 4, left : left + 6][mask] = colour
        noisy = picture + rng.normal(0, 8, picture.shape)
        images.append(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    return images


def crops(images: list[Image.Image]) -> Tensor:
    """As uint8 ``[N, 3, H, W]``."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
