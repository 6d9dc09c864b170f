"""Windows of the crop's own shape at several scales, brought to one size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from patchit_hf.common.draws import Draws
from patchit_hf.patch_tasks.grid import cut_patches
from patchit_hf.patch_tasks.lattice import Lattice

ZOOMS = 4  # sizes of the window of a whole crop, from nine tenths of it to all


class Octave(NamedTuple):
    """Windows of one scale whose place is asked.

    Attributes:
        name: what they are called.
        lattice: their size and their places.
        windows: number of them in a sample.
        views: their indices in a sample.
        classes: the indices of their places.
    """

    name: str
    lattice: Lattice
    windows: int
    views: slice
    classes: slice


def octaves_of(
    canvas: tuple[int, int], scales: Sequence[tuple[str, int, Sequence[int], int]], jitter: int
) -> list[Octave]:
    """Return the octaves of which windows are cut.

    Args:
        canvas: height and width of the crops, in pixels.
        scales: for each octave its name, windows in a sample, rows and columns of places, and how
            many times larger the canvas is than a window.
        jitter: see ``Lattice``.

    Raises:
        InputError: for places that the canvas cannot hold.
    """
    found: list[Octave] = []
    views = classes = 0
    for name, count, (rows, cols), share in scales:
        if count:
            height, width = (max(1, round(side / share)) for side in canvas)
            lattice = Lattice(rows, cols, (height, width), canvas, jitter)
            last = views + count, classes + lattice.num_cells
            found.append(
                Octave(name, lattice, count, slice(views, last[0]), slice(classes, last[1]))
            )
            views, classes = last
    return found


def dense_cells(canvas: tuple[int, int]) -> list[int]:
    """Return 13 places along the longer side, and as dense ones along the other."""
    dense = [1 + round(12 * side / max(canvas)) for side in canvas]
    return [min(n, side - round(side / 4) + 1) for n, side in zip(dense, canvas, strict=True)]


def cut_octaves(
    octaves: Sequence[Octave],
    crops: Tensor,
    cells: Sequence[Tensor],
    size: tuple[int, int],
    draws: Draws,
    deviation: float,
) -> tuple[list[Tensor], list[Tensor]]:
    """Cut the windows of every octave near its cells.

    Args:
        octaves: what is cut.
        crops: uint8 ``[B, 3, H, W]``.
        cells: for each octave, int64 ``[B, n]``.
        size: height and width of the windows after resizing, in pixels.
        draws: the random numbers of the batch.
        deviation: see ``Lattice.targets``.

    Returns:
        For each octave windows, float32 in [0, 1] ``[B, n, 3, h, w]``, and soft targets.
    """
    views, places = [], []
    for octave, chosen in zip(octaves, cells, strict=True):
        top, left = octave.lattice.place(chosen, draws, octave.name)
        views.append(resized(cut_patches(crops, top, left, octave.lattice.size), size))
        places.append(octave.lattice.targets(top, left, deviation))
    return views, places


def some_places(octave: Octave, times: int, draws: Draws) -> Tensor:
    """Return cells of an octave for ``times`` samples, ``[B, times * windows]``.

    None twice, unless a sample has more windows than there are places.
    """
    cells = draws.permutations(octave.name, octave.lattice.num_cells)
    repeats = math.ceil(octave.windows / octave.lattice.num_cells)
    return cells.repeat(1, repeats)[:, : times * octave.windows]


def whole_windows(crops: Tensor, size: tuple[int, int], draws: Draws) -> Tensor:
    """Cut nine tenths to all of each crop, at random.

    Args:
        crops: uint8 ``[B, 3, H, W]``.
        size: height and width of the windows after resizing, in pixels.
        draws: the random numbers of the batch; uses ``zoom``, ``person_y`` and ``person_x``.

    Returns:
        float32 in [0, 1], ``[B, 1, 3, h, w]``.
    """
    height, width = size
    out = crops.new_empty((len(crops), 1, 3, height, width), dtype=torch.float32)
    level = draws.integers("zoom", ZOOMS)
    chance = draws.uniform("person_y"), draws.uniform("person_x")
    for number in range(ZOOMS):
        chosen = (level == number).nonzero()[:, 0]
        if len(chosen) == 0:
            continue
        share = 0.9 + 0.1 * number / (ZOOMS - 1)
        larger = round(height / share), round(width / share)
        slack = larger[0] - height, larger[1] - width
        top, left = (
            (u[chosen] * (s + 1)).to(torch.int64) for u, s in zip(chance, slack, strict=True)
        )
        whole = resized(crops[chosen, None], larger)[:, 0]
        out[chosen, 0] = cut_patches(whole, top, left, (height, width))
    return out


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 ``[B, n, 3, H, W]`` to float32 in [0, 1] ``[B, n, 3, h, w]``."""
    flat = images.flatten(0, 1).to(torch.float32) / 255
    if flat.shape[-2:] != size:
        flat = F.interpolate(flat, size=size, mode="bilinear", antialias=True).clamp(0, 1)
    return flat.view(*images.shape[:2], *flat.shape[1:])
