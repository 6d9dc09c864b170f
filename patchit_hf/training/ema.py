"""The exponential moving average of the weights of a training, which is less noisy than the last.

Source: Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", 1992; as most
trainings of networks use it, with a decay that grows over the first steps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

PART = "moving_average"  # the name of this part of a model


class MovingAverage(nn.Module):
    """The moving average of a model's weights and batch statistics.

    It is made a part of the model, so that checkpoints hold it.

    Args:
        model: whose floating-point parameters and buffers are averaged, from what they are now.
        decay: share of the average that a step leaves, above 0 and below 1. In the first steps it
            is smaller: after step t, ``(1 + t) / (10 + t)``.
        without: names of parameters that are not averaged.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> average = MovingAverage(layer, 0.9)
        >>> _ = nn.init.constant_(layer.weight, 5.0)
        >>> average.update(layer, step=0)  # a tenth of the old weight is left
        >>> _ = nn.init.constant_(average.get_buffer("0"), 3.0)
        >>> average.copy_into(layer)
        >>> layer.weight.item()
        3.0
    """

    def __init__(self, model: nn.Module, decay: float, without: Collection[str] = ()) -> None:
        super().__init__()
        self.decay, self.without = decay, frozenset(without)
        for index, value in enumerate(self._values(model)):
            self.register_buffer(str(index), value.detach().clone())

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights after a step.

        Args:
            model: the model.
            step: number of the step, from 0.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, value in zip(self.buffers(), self._values(model), strict=True):
            average.lerp_(value, 1 - decay)

    @torch.no_grad()
    def copy_into(self, model: nn.Module) -> None:
        """Set the model's weights and statistics to the average."""
        for average, value in zip(self.buffers(), self._values(model), strict=True):
            value.copy_(average)

    def _values(self, model: nn.Module) -> Iterator[Tensor]:
        """Return the tensors that are averaged; not those of an average inside the model."""
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            inside = name.startswith(f"{PART}.") or name in self.without
            if value.is_floating_point() and not inside:
                yield value
