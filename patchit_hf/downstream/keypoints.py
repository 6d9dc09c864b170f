"""Heat maps of joints: drawn, and decoded with sub-pixel precision."""

from __future__ import annotations

import torch
from torch import Tensor

LSP = (
    "right ankle", "right knee", "right hip", "left hip", "left knee", "left ankle",
    "right wrist", "right elbow", "right shoulder", "left shoulder", "left elbow", "left wrist",
    "neck", "head top",
)  # fmt: skip
COCO = (
    "nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder",
    "left elbow", "right elbow", "left wrist", "right wrist", "left hip", "right hip",
    "left knee", "right knee", "left ankle", "right ankle",
)  # fmt: skip
# Standard deviations of COCO's annotators, https://cocodataset.org/#keypoints-eval. The neck and
# the top of the head, which COCO does not have, get that of the shoulders.
SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089, "neck": 0.079, "head top": 0.079,
}  # fmt: skip


def sigma_of(joint: str) -> float:
    """Return the standard deviation of a joint's annotation, as a fraction of the person's scale.

    Example:
        >>> sigma_of("left knee")
        0.087
    """
    return SIGMAS.get(joint.removeprefix("left ").removeprefix("right "), 0.079)


def draw_maps(points: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Draw a Gaussian around each point.

    Args:
        points: x, y ``[B, J, 2]`` in pixels of the maps; the centre of the first pixel is 0.5.
        size: height and width of the maps.
        sigma: standard deviation, in pixels of the maps.

    Returns:
        ``[B, J, H, W]``, 1 at a point that is the centre of a pixel.

    Example:
        >>> import torch
        >>> maps = draw_maps(torch.tensor([[[2.5, 4.5]]]), (8, 6), sigma=1.0)
        >>> maps.shape, maps[0, 0, 4, 2].item()
        (torch.Size([1, 1, 8, 6]), 1.0)
    """
    height, width = size
    x = torch.arange(width, device=points.device) + 0.5
    y = torch.arange(height, device=points.device) + 0.5
    across = torch.exp(-((x - points[..., :1]) ** 2) / (2 * sigma**2))
    down = torch.exp(-((y - points[..., 1:2]) ** 2) / (2 * sigma**2))
    return down[..., :, None] * across[..., None, :]


def dark(maps: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Decode heat maps with one Newton step on their smoothed logarithm (DARK).

    Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR
    2020.

    Args:
        maps: ``[B, J, H, W]``.
        sigma: standard deviation with which the maps were drawn, in pixels.

    Returns:
        x, y ``[B, J, 2]`` in pixels of the maps, and the peaks of the maps ``[B, J]``.

    Example:
        >>> import torch
        >>> maps = draw_maps(torch.tensor([[[5.2, 9.8]]]), (16, 12), sigma=1.5)
        >>> points, peaks = dark(maps, sigma=1.5)
        >>> [round(value, 1) for value in points[0, 0].tolist()]
        [5.2, 9.8]
    """
    height, width = maps.shape[-2:]
    peaks, where = maps.flatten(2).max(2)
    y, x = where // width, where % width
    points = torch.stack([x, y], -1).to(maps.dtype)
    if min(height, width) < 3:
        return points + 0.5, peaks
    log = _blur(maps, sigma).clamp(min=1e-10).log()
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    cx, cy = x.clamp(1, width - 2), y.clamp(1, height - 2)

    def at(dx: int, dy: int) -> Tensor:
        return log.flatten(2).gather(2, ((cy + dy) * width + cx + dx)[..., None])[..., 0]

    dx, dy = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    dxx = at(1, 0) - 2 * at(0, 0) + at(-1, 0)
    dyy = at(0, 1) - 2 * at(0, 0) + at(0, -1)
    dxy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    det = dxx * dyy - dxy * dxy
    safe = inside & (det > 1e-8) & (dxx < 0)
    scale = torch.where(safe, det, torch.ones_like(det))
    step = -torch.stack([dyy * dx - dxy * dy, dxx * dy - dxy * dx], -1) / scale[..., None]
    step = torch.where(safe[..., None], step.clamp(-1, 1), torch.zeros_like(step))
    return points + step + 0.5, peaks


def soft_argmax(maps: Tensor, temperature: float = 10.0) -> tuple[Tensor, Tensor]:
    """Decode heat maps as the expected point under the softmax of each map.

    Sun et al., "Integral Human Pose Regression", ECCV 2018.

    Args:
        maps: ``[B, J, H, W]``.
        temperature: the maps are multiplied by it before the softmax.

    Returns:
        x, y ``[B, J, 2]`` in pixels of the maps, and the largest probability ``[B, J]``.

    Example:
        >>> import torch
        >>> points, _ = soft_argmax(torch.zeros(1, 1, 16, 12))  # no peak: the centre
        >>> [round(value, 1) for value in points[0, 0].tolist()]
        [6.0, 8.0]
    """
    height, width = maps.shape[-2:]
    shares = (maps.flatten(2) * temperature).softmax(2).unflatten(2, (height, width))
    x = (shares.sum(2) * (torch.arange(width, device=maps.device) + 0.5)).sum(-1)
    y = (shares.sum(3) * (torch.arange(height, device=maps.device) + 0.5)).sum(-1)
    return torch.stack([x, y], -1), shares.flatten(2).amax(2)


def _blur(maps: Tensor, sigma: float) -> Tensor:
    radius = max(1, round(3 * sigma))
    kernel = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-(kernel**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    flat = maps.flatten(0, 1)[:, None]
    flat = torch.nn.functional.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(radius, 0))
    flat = torch.nn.functional.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, radius))
    return flat[:, 0].view_as(maps)
