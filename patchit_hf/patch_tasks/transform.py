"""From uint8 patches to what the network sees: normalisation and the defences against shortcuts.

Everything works on whole batches ``[N, 3, S, S]`` with a per-patch choice from the batch's draws.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from patchit_hf.data.draws import Draws
from patchit_hf.errors import InputError

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_SHRINK = (0.75, 0.5, 0.3125)  # the last leaves 10x10 = 100 of a 32x32 patch's pixels


@dataclass(frozen=True)
class PatchTransform:
    """Turn uint8 patches into the network's input.

    Attributes:
        standardize: subtract each patch's own mean and divide by its own deviation, per channel,
            so that brightness and tint no longer say where a patch came from (Noroozi & Favaro
            2016). It also takes colour away as a feature.
        channel_drop: probability of zeroing one random channel after normalisation, against
            chromatic aberration (Doersch et al. 2015; the authors' option).
        grayscale: probability of turning a patch grey, against colour statistics.
        chroma_blur: probability of blurring a patch's colour but not its brightness, against
            chromatic aberration, while the coarse colour stays usable (after Mundhenk 2018).
        resample: probability of shrinking a patch (down to 31 % of its side) and enlarging it
            again, against sharpness and JPEG traces (Doersch et al. 2015 take 0.33).
        input_scale: enlarge the patch by this factor before the network, so that the deep stages
            see more than one position and all of their taps learn; costs its square in time.
        mean: per-channel mean of the training crops in [0, 1].
        std: per-channel standard deviation of the training crops in [0, 1].
    """

    standardize: bool = False
    channel_drop: float = 0.0
    grayscale: float = 0.0
    chroma_blur: float = 0.0
    resample: float = 0.0
    input_scale: int | float = 1
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        for name in ("channel_drop", "grayscale", "chroma_blur", "resample"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise InputError(f"{name}={value!r} in --task-kwargs: a probability from 0 to 1")
        if not isinstance(self.standardize, bool):
            raise InputError(f"standardize={self.standardize!r} in --task-kwargs: true or false")
        if not isinstance(self.input_scale, int | float) or not 0.25 <= self.input_scale <= 16:
            raise InputError(
                f"input_scale={self.input_scale!r} in --task-kwargs: a number from 0.25 to 16"
            )

    @classmethod
    def option_names(cls) -> list[str]:
        """Return the names that a task's keyword arguments may set."""
        return [f.name for f in dataclasses.fields(cls) if f.name not in ("mean", "std")]

    @property
    def options(self) -> dict[str, bool | int | float]:
        """The options as set, for records."""
        return {name: getattr(self, name) for name in self.option_names()}

    def __call__(self, patches: Tensor, draws: Draws | None) -> Tensor:
        """Return the network's input.

        Args:
            patches: uint8 ``[B, 3, S, S]`` or ``[B, K, 3, S, S]``.
            draws: the batch's draws, or None for evaluation, which leaves the random options out.

        Returns:
            float32 of the same leading shape, with sides ``S * input_scale``.
        """
        lead = patches.shape[:-3]
        x = patches.flatten(0, -4).to(torch.float32) / 255
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
            side = round(x.shape[-1] * self.input_scale)
            x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
        return x.unflatten(0, lead) if len(lead) > 1 else x

    def normalize(self, x: Tensor) -> Tensor:
        """Return pictures ``[N, 3, H, W]`` in [0, 1] as the network sees them."""
        if self.standardize:
            std, mean = torch.std_mean(x, dim=(-2, -1), keepdim=True)
            return (x - mean) / (std + 1 / 255)
        mean = x.new_tensor(self.mean)[:, None, None]
        return (x - mean) / x.new_tensor(self.std)[:, None, None]


class _Chance:
    """Which patches of the batch an option applies to."""

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


def _luma(x: Tensor) -> Tensor:
    return (x * x.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True).expand_as(x)


def _blur_chroma(x: Tensor) -> Tensor:
    """Average the colour differences over 7x7 pixels; brightness stays sharp."""
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
