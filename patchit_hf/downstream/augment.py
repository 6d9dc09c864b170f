"""Augmentation of whole crops: mirroring, shift, zoom, rotation, colour jitter and erasing.

How a sample is augmented follows from the seed and its number alone, as in pretraining.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """How much training crops are augmented; zero switches an option off.

    Attributes:
        mirror: probability of mirroring.
        zoom: largest relative change of the size of the window.
        shift: largest shift of the window, as a fraction of its sides. Zoom and shift stay inside
            the canvas unless crops are rotated.
        rotate: largest rotation in either direction, in degrees; anything outside the canvas is
            black.
        jitter: largest relative change of brightness and contrast.
        erase: probability of filling a random rectangle of 5 to 25 % of the area with the mean
            (Zhong et al., "Random Erasing Data Augmentation", AAAI 2020).

    Raises:
        InputError: for a value out of range.

    Example:
        >>> Augmentation(erase=0.5).zoom
        0.08
    """

    mirror: float = 0.5
    zoom: float = 0.08
    shift: float = 0.05
    rotate: float = 0.0
    jitter: float = 0.2
    erase: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, high = getattr(self, field.name), 180.0 if field.name == "rotate" else 1.0
            if not isinstance(value, int | float) or not 0 <= value <= high:
                raise InputError(f"--augment {field.name}={value!r}: a number from 0 to {high:g}")
        if self.zoom >= 1:
            raise InputError(f"--augment zoom={self.zoom!r}: must be below 1")


@dataclass(frozen=True)
class Geometry:
    """The sizes on the way from the canvas to the input of the network.

    Attributes:
        canvas: height and width of the decoded crops, in pixels.
        window: height and width of the part of the canvas that is used, in pixels.
        size: height and width of the input of the network, in pixels.

    Example:
        >>> Geometry.of((192, 96))
        Geometry(canvas=(200, 100), window=(192, 96), size=(192, 96))
    """

    canvas: tuple[int, int]
    window: tuple[int, int]
    size: tuple[int, int]

    @property
    def corner(self) -> tuple[int, int]:
        """Top and left of the central window, in pixels of the canvas."""
        (full_h, full_w), (height, width) = self.canvas, self.window
        return (full_h - height) // 2, (full_w - width) // 2

    @classmethod
    def of(cls, size: tuple[int, int], margin: float = 1 / 24) -> Geometry:
        """Return the geometry with a window of the size of the input, and a margin around it."""
        height, width = (round(side * (1 + margin)) for side in size)
        return cls((height, width), size, size)


@dataclass(frozen=True)
class View:
    """Where on the canvas the input of the network comes from.

    Attributes:
        flipped: which samples are mirrored, bool ``[B]``.
        matrix: affine map from input to canvas, both in pixels, ``[B, 2, 3]``; the origin is the
            top left corner of the top left pixel.
    """

    flipped: Tensor
    matrix: Tensor

    def to_input(self, points: Tensor) -> Tensor:
        """Map points x, y of the canvas ``[B, J, 2]`` to the input, in pixels."""
        linear, offset = self.matrix[:, :, :2], self.matrix[:, :, 2]
        found: Tensor = torch.linalg.solve(linear, (points - offset[:, None]).mT).mT
        return found

    def to_canvas(self, points: Tensor) -> Tensor:
        """Map points x, y of the input ``[B, J, 2]`` to the canvas, in pixels."""
        linear, offset = self.matrix[:, :, :2], self.matrix[:, :, 2]
        return points @ linear.mT + offset[:, None]


def centre(crops: Tensor, geometry: Geometry) -> tuple[Tensor, View]:
    """Cut the central window of the canvas, as in the evaluation of timm.

    Args:
        crops: uint8 ``[B, 3, H, W]``.
        geometry: with that canvas.

    Returns:
        float32 ``[B, 3, h, w]`` in [0, 1], and its view.

    Example:
        >>> import torch
        >>> crops = torch.zeros(2, 3, 200, 100, dtype=torch.uint8)
        >>> x, view = centre(crops, Geometry.of((192, 96)))
        >>> x.shape, view.to_canvas(torch.zeros(2, 1, 2))[0].tolist()
        (torch.Size([2, 3, 192, 96]), [[2.0, 4.0]])
    """
    (height, width), (top, left) = geometry.window, geometry.corner
    x = crops[:, :, top : top + height, left : left + width].to(torch.float32) / 255
    if geometry.size != geometry.window:
        x = F.interpolate(x, size=geometry.size, mode="bicubic", antialias=True).clamp(0, 1)
    return x, central_view(geometry, len(crops), crops.device)


def central_view(geometry: Geometry, count: int, device: torch.device | str | None = None) -> View:
    """Return the view of the central window of the canvas, for ``count`` samples."""
    (height, width), (top, left) = geometry.window, geometry.corner
    matrix = torch.tensor(
        [[width / geometry.size[1], 0, left], [0, height / geometry.size[0], top]], device=device
    )
    none = torch.zeros(count, dtype=torch.bool, device=device)
    return View(none, matrix.expand(count, 2, 3))


def vary(
    crops: Tensor, geometry: Geometry, options: Augmentation, draws: Draws
) -> tuple[Tensor, View]:
    """Augment crops.

    Args:
        crops: uint8 ``[B, 3, H, W]``.
        geometry: with that canvas.
        options: how much to augment them.
        draws: the random numbers of the batch.

    Returns:
        float32 ``[B, 3, h, w]`` in [0, 1], and the view of each.

    Example:
        >>> import torch
        >>> crops = torch.zeros(2, 3, 200, 100, dtype=torch.uint8)
        >>> draws = Draws(seed=0, numbers=torch.arange(2))
        >>> x, view = vary(crops, Geometry.of((192, 96)), Augmentation(), draws)
        >>> x.shape, view.flipped.tolist()
        (torch.Size([2, 3, 192, 96]), [True, False])
    """
    view = _view(geometry, options, draws)
    (height, width), (full_h, full_w) = geometry.size, geometry.canvas
    # affine_grid takes coordinates in [-1, 1] on both sides.
    to_pixels = view.matrix.new_tensor(
        [[width / 2, 0, width / 2], [0, height / 2, height / 2], [0, 0, 1]]
    )
    theta = view.matrix @ to_pixels
    theta = theta / theta.new_tensor([full_w / 2, full_h / 2])[:, None]
    theta[:, :, 2] -= 1
    grid = F.affine_grid(theta, [len(crops), 3, height, width], align_corners=False)
    padding = "zeros" if options.rotate else "border"
    x = F.grid_sample(
        crops.to(torch.float32) / 255, grid, mode="bilinear", padding_mode=padding,
        align_corners=False,
    )  # fmt: skip
    if options.jitter:
        gain = _between(draws, "contrast", options.jitter, 1.0).view(-1, 1, 1, 1)
        light = _between(draws, "brightness", options.jitter, 1.0).view(-1, 1, 1, 1)
        mean = x.mean((1, 2, 3), keepdim=True)
        x = ((x - mean) * gain + mean * light).clamp(0, 1)
    return (_erase(x, options.erase, draws) if options.erase else x), view


def _view(geometry: Geometry, options: Augmentation, draws: Draws) -> View:
    (full_h, full_w), (win_h, win_w) = geometry.canvas, geometry.window
    height, width = geometry.size
    zoom = _between(draws, "zoom", options.zoom, 1.0)
    angle = _between(draws, "rotate", options.rotate, 0.0) * math.pi / 180
    flipped = draws.uniform("mirror") < options.mirror
    shift = (draws.uniform("shift", (2,)) * 2 - 1) * options.shift
    if not options.rotate:
        zoom = zoom.clamp(max=min(full_h / win_h, full_w / win_w))
    sides = torch.stack([win_w * zoom, win_h * zoom], 1)
    full = sides.new_tensor([full_w, full_h])
    shift = shift * sides
    if not options.rotate:
        room = (full - sides).clamp(min=0) / 2
        shift = torch.minimum(torch.maximum(shift, -room), room)
    middle = full / 2 + shift
    scale = sides / sides.new_tensor([width, height])
    scale = torch.stack([torch.where(flipped, -scale[:, 0], scale[:, 0]), scale[:, 1]], 1)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    linear = turn * scale[:, None]
    offset = middle - (linear @ linear.new_tensor([width / 2, height / 2]))
    return View(flipped, torch.cat([linear, offset[:, :, None]], 2))


def _between(draws: Draws, stream: str, spread: float, middle: float) -> Tensor:
    return middle + (draws.uniform(stream) * 2 - 1) * spread


def _erase(x: Tensor, probability: float, draws: Draws) -> Tensor:
    height, width = x.shape[-2:]
    area = 0.05 + 0.2 * draws.uniform("erase_area")
    ratio = torch.exp(_between(draws, "erase_ratio", math.log(3.3), 0.0))
    tall = ((area * ratio).sqrt() * height).clamp(max=height)
    wide = ((area / ratio).sqrt() * width).clamp(max=width)
    place = draws.uniform("erase_place", (2,))
    top, left = place[:, 0] * (height - tall), place[:, 1] * (width - wide)
    y = torch.arange(height, device=x.device)[None] + 0.5
    z = torch.arange(width, device=x.device)[None] + 0.5
    inside_y = (y >= top[:, None]) & (y < (top + tall)[:, None])
    inside_x = (z >= left[:, None]) & (z < (left + wide)[:, None])
    chosen = (draws.uniform("erase") < probability)[:, None, None]
    hole = inside_y[:, :, None] & inside_x[:, None, :] & chosen
    return torch.where(hole[:, None], x.mean((0, 2, 3), keepdim=True), x)
