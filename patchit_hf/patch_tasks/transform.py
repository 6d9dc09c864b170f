"""From uint8 patches to the input of the network: normalisation, and defences against shortcuts.

Everything works on whole batches ``[N, 3, h, w]``; the random options are drawn for each patch, and
mirroring for each crop.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks.options import within

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_SHRINK = (0.75, 0.5, 0.3125)  # the last leaves 10x10 = 100 of a 32x32 patch's pixels


@dataclass(frozen=True)
class PatchTransform:
    """Turn uint8 patches into the input of the network.

    Attributes:
        mirror: probability of mirroring a crop before patches are cut: left and right stay apart,
            and there are twice as many people.
        light: how much brightness, contrast, saturation and sharpness of each patch vary on their
            own, from 0 to 2; see ``vary_light``.
        tint: how much the white balance of each patch varies: its red, green and blue are each
            multiplied by up to this share more or less, from 0 to 1.
        standardize: subtract each patch's own mean and divide by its own standard deviation, per
            channel, so that brightness and tint no longer tell where a patch came from (Noroozi &
            Favaro 2016). This also removes colour as a feature.
        channel_drop: probability of zeroing one random channel after normalisation, against
            chromatic aberration (Doersch et al. 2015; the authors' option).
        grayscale: probability of turning a patch grey, against colour statistics.
        chroma_blur: probability of blurring the colour of a patch but not its brightness, against
            chromatic aberration; coarse colour stays usable (after Mundhenk 2018).
        resample: probability of shrinking a patch (to 31 % of its side at the least) and enlarging
            it again, against sharpness and JPEG traces (Doersch et al. 2015 use 0.33).
        input_scale: enlarge patches by this factor, so that the deep stages see more than one
            location and all of their kernel weights learn; time grows with its square.
        mean: per-channel mean of the training crops in [0, 1].
        std: per-channel standard deviation of the training crops in [0, 1].

    Raises:
        InputError: for a value out of range.

    Example:
        >>> import torch
        >>> transform = PatchTransform(grayscale=0.5, input_scale=2)
        >>> patches = torch.full((4, 3, 32, 32), 255, dtype=torch.uint8)
        >>> x = transform(patches, None)  # no draws: without the random options
        >>> x.shape, x.max().item()  # (1 - 0.5) / 0.25
        (torch.Size([4, 3, 64, 64]), 2.0)
    """

    mirror: float = 0.0
    light: float = 0.0
    tint: float = 0.0
    standardize: bool = False
    channel_drop: float = 0.0
    grayscale: float = 0.0
    chroma_blur: float = 0.0
    resample: float = 0.0
    input_scale: int | float = 1
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        for name in ("mirror", "channel_drop", "grayscale", "chroma_blur", "resample"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise InputError(f"{name}={value!r} in --task-kwargs: a probability from 0 to 1")
        within("light", self.light, 2)
        within("tint", self.tint, 1)
        if not isinstance(self.standardize, bool):
            raise InputError(f"standardize={self.standardize!r} in --task-kwargs: true or false")
        if not isinstance(self.input_scale, int | float) or not 0.25 <= self.input_scale <= 16:
            raise InputError(
                f"input_scale={self.input_scale!r} in --task-kwargs: a number from 0.25 to 16"
            )

    @classmethod
    def option_names(cls) -> list[str]:
        """Return the names of the options; mean and std are measured instead."""
        return [f.name for f in dataclasses.fields(cls) if f.name not in ("mean", "std")]

    @property
    def options(self) -> dict[str, bool | int | float]:
        """The options with their values, for records."""
        return {name: getattr(self, name) for name in self.option_names()}

    def mirrored(self, crops: Tensor, draws: Draws) -> Tensor:
        """Return crops ``[B, 3, H, W]``, some of them mirrored, for patches to be cut from."""
        if not self.mirror:
            return crops
        chosen = (draws.uniform("mirror") < self.mirror)[:, None, None, None]
        return torch.where(chosen, crops.flip(3), crops)

    def __call__(self, patches: Tensor, draws: Draws | None) -> Tensor:
        """Return the input of the network.

        Args:
            patches: uint8, or float32 in [0, 1], ``[B, 3, H, W]`` or ``[B, K, 3, H, W]``.
            draws: the random numbers of the batch; None leaves the random options out, as
                evaluations do.

        Returns:
            float32 of the same leading shape, with ``input_scale`` times the height and width.
        """
        lead = patches.shape[:-3]
        x = patches.flatten(0, -4)
        if not x.is_floating_point():
            x = x.to(torch.float32) / 255
        if draws is not None and (self.light or self.tint):
            x = vary_light(x.unflatten(0, lead), self.light, draws, self.tint).flatten(0, -4)
        chance = _Chance(draws, lead)
        if chance.of("resample", self.resample):
            x = _resample(x, chance)
        if chance.of("chroma_blur", self.chroma_blur):
            x = torch.where(chance.chosen, _blur_chroma(x), x)
        if chance.of("grayscale", self.grayscale):
            x = torch.where(chance.chosen, _luma(x), x)
        x = self.normalize(x)
        if chance.of("channel_drop", self.channel_drop):
            channel = chance.integers("channel", 3)
            dropped = torch.arange(3, device=x.device) == channel[:, None]
            x = x.masked_fill(chance.chosen & dropped[:, :, None, None], 0.0)
        if self.input_scale != 1:
            size = [round(side * self.input_scale) for side in x.shape[-2:]]
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        return x.unflatten(0, lead) if len(lead) > 1 else x

    def normalize(self, x: Tensor) -> Tensor:
        """Return images ``[N, 3, H, W]`` in [0, 1], normalised."""
        if self.standardize:
            std, mean = torch.std_mean(x, dim=(-2, -1), keepdim=True)
            return (x - mean) / (std + 1 / 255)
        mean = x.new_tensor(self.mean)[:, None, None]
        return (x - mean) / x.new_tensor(self.std)[:, None, None]

    def colours(self, x: Tensor) -> Tensor:
        """Return the network's inputs ``[..., 3, H, W]`` as colours in [0, 1], ``[..., H, W, 3]``.

        They are on the CPU. What was taken away stays away: a dropped channel is the training
        crops' mean.
        """
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (x.detach().cpu().float() * std + mean).clamp(0, 1).movedim(-3, -1)


class _Chance:
    """Draws the patches of a batch that an option applies to."""

    def __init__(self, draws: Draws | None, lead: torch.Size) -> None:
        self.draws, self.shape = draws, tuple(lead[1:])
        self.chosen = torch.empty(0)

    def of(self, name: str, probability: float) -> bool:
        if self.draws is None or probability == 0:
            return False
        self.chosen = (self.draws.uniform(name, self.shape).flatten() < probability).view(
            -1, 1, 1, 1
        )
        return True

    def integers(self, name: str, high: int) -> Tensor:
        if self.draws is None:
            raise RuntimeError("random options need draws")
        return self.draws.integers(name, high, self.shape).flatten()


def vary_light(x: Tensor, strength: float, draws: Draws, tint: float = 0.0) -> Tensor:
    """Vary brightness, contrast, saturation and sharpness of each image on its own.

    At strength 1: brightness and contrast by up to 40 %, saturation by up to 30 %, and three images
    in ten blurred over 3x3 pixels. Hue stays, as it tells clothes apart, but for a tint, which is
    what cameras disagree about: their white balance.

    Args:
        x: float32 in [0, 1], ``[B, 3, H, W]`` or ``[B, K, 3, H, W]``.
        strength: from 0 (no change) to 2.
        draws: the random numbers of the batch.
        tint: red, green and blue are each multiplied by up to this share more or less.

    Returns:
        float32 in [0, 1], of the same shape.
    """
    shape = tuple(x.shape[1:-3])
    if tint:
        gain = 1 + (2 * draws.uniform("tint", (*shape, 3)) - 1) * tint
        x = (x * gain[..., None, None]).clamp(0, 1)
    if strength == 0:
        return x

    def factor(name: str, most: float) -> Tensor:
        change = (2 * draws.uniform(name, shape) - 1) * most * strength
        return (1 + change).clamp(min=0).flatten().view(-1, 1, 1, 1)

    flat = x.flatten(0, -4) * factor("brightness", 0.4)
    mean = flat.mean((1, 2, 3), keepdim=True)
    flat = (flat - mean) * factor("contrast", 0.4) + mean
    luma = _luma(flat)
    flat = luma + (flat - luma) * factor("saturation", 0.3)
    blurred = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    chosen = (draws.uniform("blur", shape) < 0.3 * strength).flatten().view(-1, 1, 1, 1)
    return torch.where(chosen, blurred, flat).clamp(0, 1).view_as(x)


def cutmix(images: Tensor, probability: float, draws: Draws) -> tuple[Tensor, Tensor]:
    """Paste a box of the image before into some images (Yun et al., "CutMix", ICCV 2019).

    Args:
        images: ``[B, C, H, W]``; the one before the first is the last.
        probability: probability that an image gets such a box.
        draws: the random numbers of the batch.

    Returns:
        The images, and the share of each that comes from the one before, float32 ``[B]``.
    """
    height, width = images.shape[-2:]
    side = draws.uniform("cutmix_share").sqrt()
    side = side * (draws.uniform("cutmix") < probability)
    inside, area = [], torch.ones(len(images), device=images.device)
    for axis, length in (("y", height), ("x", width)):
        extent = (side * length).to(torch.int64)
        first = (draws.uniform(f"cutmix_{axis}") * (length - extent + 1)).to(torch.int64)
        pixels = torch.arange(length, device=images.device)
        inside.append((pixels >= first[:, None]) & (pixels < (first + extent)[:, None]))
        area = area * extent / length
    box = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(box, images.roll(1, 0), images), area


def _luma(x: Tensor) -> Tensor:
    return (x * x.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True).expand_as(x)


def _blur_chroma(x: Tensor) -> Tensor:
    """Average the colour over 7x7 pixels; brightness stays sharp."""
    luma = _luma(x)
    chroma = F.pad(x - luma, (3, 3, 3, 3), mode="replicate")
    return (luma + F.avg_pool2d(chroma, 7, stride=1)).clamp(0, 1)


def _resample(x: Tensor, chance: _Chance) -> Tensor:
    chosen, size = chance.chosen, x.shape[-2:]
    level = chance.integers("resample_level", len(_SHRINK)).view(-1, 1, 1, 1)
    out = x
    for i, factor in enumerate(_SHRINK):
        small = [max(1, round(s * factor)) for s in size]
        shrunk = F.interpolate(x, size=small, mode="bilinear", antialias=True)
        back = F.interpolate(shrunk, size=size, mode="bilinear")
        out = torch.where(chosen & (level == i), back, out)
    return out
