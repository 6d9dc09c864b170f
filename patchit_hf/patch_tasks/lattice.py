"""Lattice: evenly spaced places of a window, which overlap, and soft targets over them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks.options import whole


@dataclass(frozen=True)
class Lattice:
    """Evenly spaced places of a window on a canvas, from corner to corner; windows overlap.

    Attributes:
        rows: rows of places.
        cols: columns of places.
        size: height and width of the window, in pixels.
        canvas: height and width of the crops, in pixels.
        jitter: largest random offset from a place, in pixels; see ``reach``.

    Raises:
        InputError: if there are more places than pixels to put them.

    Example:
        >>> lattice = Lattice(rows=13, cols=7, size=(32, 16), canvas=(128, 64), jitter=4)
        >>> lattice.num_cells, lattice.pitch, lattice.reach
        (91, (8.0, 8.0), (3, 3))
    """

    rows: int
    cols: int
    size: tuple[int, int]
    canvas: tuple[int, int]
    jitter: int

    def __post_init__(self) -> None:
        for name, count, slack in zip(("rows", "cols"), self._counts, self._slack, strict=True):
            whole(f"{name} of cells", count, 1)
            if count > slack + 1:
                raise InputError(
                    f"{count} {name} of cells in --task-kwargs: a window of {_size(self.size)} px "
                    f"has {slack + 1} places on the canvas {_size(self.canvas)}; take fewer cells "
                    "or a larger --canvas"
                )

    @property
    def _counts(self) -> tuple[int, int]:
        return self.rows, self.cols

    @property
    def _slack(self) -> tuple[int, int]:
        return self.canvas[0] - self.size[0], self.canvas[1] - self.size[1]

    @property
    def num_cells(self) -> int:
        """Number of places; cell = row * cols + col."""
        return self.rows * self.cols

    @property
    def pitch(self) -> tuple[float, float]:
        """Distance between neighbouring places in y and x, in pixels."""
        y, x = (s / max(n - 1, 1) for s, n in zip(self._slack, self._counts, strict=True))
        return y, x

    @property
    def reach(self) -> tuple[int, int]:
        """Largest random offset in y and x, in pixels: the nearest place stays the same one."""
        y, x = (
            min(self.jitter, int((pitch - 1) / 2)) if count > 1 else 0
            for pitch, count in zip(self.pitch, self._counts, strict=True)
        )
        return y, x

    @property
    def boxes(self) -> Tensor:
        """A tile around the middle of each window, as xyxy in pixels, int64 ``[cells, 4]``.

        All are of one size, and none overlap.
        """
        corners = self.corners(torch.arange(self.num_cells))
        low, high = [], []
        for axis in (1, 0):
            size, several = self.size[axis], self._counts[axis] > 1
            tile = max(1, int(self.pitch[axis])) if several else size
            low.append(corners[axis] + (size - tile) // 2)
            high.append(low[-1] + tile)
        return torch.stack([*low, *high], dim=1)

    def corners(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Return top and left of the windows of cells, in pixels; shapes as ``cells``."""
        numbers = torch.div(cells, self.cols, rounding_mode="floor"), cells % self.cols
        top, left = (
            (number * pitch).round().to(torch.int64) if count > 1 else number + slack // 2
            for number, pitch, count, slack in zip(
                numbers, self.pitch, self._counts, self._slack, strict=True
            )
        )
        return top, left

    def place(self, cells: Tensor, draws: Draws, stream: str) -> tuple[Tensor, Tensor]:
        """Return top and left of windows near cells ``[B, n]``, each with its own offset.

        Args:
            cells: int64 ``[B, n]``.
            draws: the random numbers of the batch; uses ``<stream>_y`` and ``<stream>_x``.
            stream: name of these windows.
        """
        placed = []
        for axis, corner in enumerate(self.corners(cells)):
            reach = self.reach[axis]
            offset = draws.integers(f"{stream}_{'yx'[axis]}", 2 * reach + 1, cells.shape[1:])
            placed.append((corner + offset - reach).clamp(0, self._slack[axis]))
        return placed[0], placed[1]

    def targets(self, top: Tensor, left: Tensor, deviation: float) -> Tensor:
        """Return soft targets: a Gaussian over the cells around each window's place.

        Args:
            top: first row of each window, int64 ``[B, n]``.
            left: first column of each window, int64 ``[B, n]``.
            deviation: standard deviation, in cells; 0 for the nearest cell alone.

        Returns:
            Probabilities, float32 ``[B, n, cells]``.
        """
        squares = []
        for at, pitch, count in zip((top, left), self.pitch, self._counts, strict=True):
            cells = torch.arange(count, device=at.device)
            away = at[..., None] / pitch - cells if count > 1 else 0.0 * cells.expand(*at.shape, 1)
            squares.append(away.square())
        distance = (squares[0][..., :, None] + squares[1][..., None, :]).flatten(-2)
        if deviation == 0:
            nearest = distance.argmin(-1, keepdim=True)
            return torch.zeros_like(distance).scatter_(-1, nearest, 1.0)
        return torch.softmax(-distance / (2 * deviation**2), dim=-1)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
