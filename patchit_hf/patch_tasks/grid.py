"""The cells of a crop, and cutting patches from a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks.options import whole


@dataclass(frozen=True)
class Grid:
    """A grid of cells of one size, centred on the canvas.

    PT-18 on a 200x100 canvas is 6 rows x 3 columns of 32 px: y = 4, 36, ..., 164, x = 2, 34, 66.
    The jitter is the same for every cell: at most ``jitter``, and at most the space between the
    grid and the border of the canvas. Nothing is ever clamped, so offsets give no cell away.

    Attributes:
        rows: number of rows of cells.
        cols: number of columns of cells.
        patch_size: side of a cell and of the patch cut from it, or height and width, in pixels.
        jitter: largest random offset, in pixels, if the canvas leaves room for it; see ``reach``.
        margin: gap between neighbouring cells, in pixels.
        canvas: height and width of the crops, in pixels.

    Raises:
        InputError: for a value out of range, or a grid that the canvas cannot hold.

    Example:
        >>> grid = Grid(rows=6, cols=3, patch_size=32, jitter=4, margin=0, canvas=(200, 100))
        >>> grid.num_cells, grid.covered, grid.origin, grid.reach
        (18, (192, 96), (4, 2), (4, 2))
        >>> grid.boxes[4].tolist()  # the second row and column
        [34, 36, 66, 68]
        >>> Grid(3, 3, [64, 32], jitter=4, margin=0, canvas=(200, 100)).boxes[4].tolist()
        [34, 68, 66, 132]
    """

    rows: int
    cols: int
    patch_size: int | list[int]
    jitter: int
    margin: int
    canvas: tuple[int, int]

    def __post_init__(self) -> None:
        for name, low in (("rows", 1), ("cols", 1), ("jitter", 0), ("margin", 0)):
            whole(name, getattr(self, name), low)
        square = not isinstance(self.patch_size, list | tuple)
        if not square and len(self.size) != 2:
            raise InputError(
                f"patch_size={self.patch_size!r} in --task-kwargs: one side, or height and width, "
                "such as [40,20]"
            )
        for number in self.size:
            whole("patch_size", number, 4)
        told = f"{self.size[0]}" if square else _size(self.size)
        most = f"{min(self.canvas)}" if square else _size(self.canvas)
        sides = zip(self.canvas, ("height", "width"), self.size, self.covered, strict=True)
        for value, name, side, limit in sides:
            if side > value:
                raise InputError(
                    f"patch_size={told} is larger than the canvas {_size(self.canvas)} "
                    f"(height x width); take a patch of at most {most} px"
                )
            if limit > value:
                raise InputError(
                    f"{self.rows} rows x {self.cols} cols of {told} px with "
                    f"margin={self.margin} need {_size(self.covered)} px, more than the canvas "
                    f"{_size(self.canvas)} in {name}; take fewer or smaller cells, or a larger "
                    "--canvas"
                )

    @property
    def num_cells(self) -> int:
        """Number of cells; cell = row * cols + col."""
        return self.rows * self.cols

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width of a cell, in pixels."""
        size = self.patch_size
        return tuple(size) if isinstance(size, list | tuple) else (size, size)

    @property
    def pitch(self) -> tuple[int, int]:
        """Distance between the corners of neighbouring cells in y and x, in pixels."""
        return self.size[0] + self.margin, self.size[1] + self.margin

    @property
    def covered(self) -> tuple[int, int]:
        """Height and width of the area that the cells cover, in pixels."""
        return (
            self.rows * self.pitch[0] - self.margin,
            self.cols * self.pitch[1] - self.margin,
        )

    @property
    def origin(self) -> tuple[int, int]:
        """Top and left of the first cell, in pixels."""
        return (
            (self.canvas[0] - self.covered[0]) // 2,
            (self.canvas[1] - self.covered[1]) // 2,
        )

    @property
    def reach(self) -> tuple[int, int]:
        """Largest offset that is drawn in y and x, in pixels."""
        return min(self.jitter, self.origin[0]), min(self.jitter, self.origin[1])

    @property
    def boxes(self) -> Tensor:
        """The cells without jitter, as xyxy in pixels, int64 ``[cells, 4]``."""
        top, left = self.corners(torch.arange(self.num_cells))
        height, width = self.size
        return torch.stack([left, top, left + width, top + height], dim=1)

    def corners(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Return top and left of cells, in pixels, without jitter; shapes as ``cells``."""
        rows, cols = torch.div(cells, self.cols, rounding_mode="floor"), cells % self.cols
        return self.origin[0] + rows * self.pitch[0], self.origin[1] + cols * self.pitch[1]

    def all_cells(self, crops: Tensor) -> Tensor:
        """Return every cell for every crop, int64 ``[B, cells]``, on the crops' device."""
        return torch.arange(self.num_cells, device=crops.device).expand(len(crops), -1)

    def cut(self, crops: Tensor, cells: Tensor, draws: Draws) -> Tensor:
        """Cut patches at cells, each with its own jitter.

        Args:
            crops: uint8 ``[B, 3, H, W]``.
            cells: int64 ``[B]`` or ``[B, K]``.
            draws: the random numbers of the batch; uses ``jitter_y`` and ``jitter_x``.

        Returns:
            Patches ``[B, 3, h, w]`` or ``[B, K, 3, h, w]``, as ``cut_patches`` returns them.
        """
        top, left = self.corners(cells)
        shape = tuple(cells.shape[1:])
        reach_y, reach_x = self.reach
        top = top + draws.integers("jitter_y", 2 * reach_y + 1, shape) - reach_y
        left = left + draws.integers("jitter_x", 2 * reach_x + 1, shape) - reach_x
        return cut_patches(crops, top, left, self.size)


def cut_patches(crops: Tensor, top: Tensor, left: Tensor, size: int | tuple[int, ...]) -> Tensor:
    """Cut patches of one size from a batch of crops with one gather.

    Args:
        crops: ``[B, C, H, W]``, any dtype and device.
        top: first row of each patch in pixels, int64 ``[B]`` or ``[B, K]``.
        left: first column of each patch, like ``top``.
        size: side of square patches, or height and width, in pixels.

    Returns:
        ``[B, C, h, w]`` or ``[B, K, C, h, w]``, in channels-last memory.

    Example:
        >>> import torch
        >>> crops = torch.arange(16).view(1, 1, 4, 4)
        >>> cut_patches(crops, top=torch.tensor([1]), left=torch.tensor([2]), size=2).tolist()
        [[[[6, 7], [10, 11]]]]
    """
    height, width = (size, size) if isinstance(size, int) else size
    y = (top[..., None] + torch.arange(height, device=crops.device))[..., :, None]
    x = (left[..., None] + torch.arange(width, device=crops.device))[..., None, :]
    batch = torch.arange(len(crops), device=crops.device).view(-1, *[1] * (y.ndim - 1))
    return crops.permute(0, 2, 3, 1)[batch, y, x].movedim(-1, -3)


def _size(size: tuple[int, ...]) -> str:
    return f"{size[0]}x{size[1]}"
