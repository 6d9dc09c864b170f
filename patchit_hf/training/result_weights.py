"""The weights that a run evaluates and exports, where these are not those of the last step.

They may be a moving average. Checkpoints hold the weights of their step, so that a run that
continues is not changed by this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import nn

from patchit_hf.training.ema import PART, MovingAverage


class ResultWeights:
    """Turns the weights of a step into those that are exported, and back.

    Args:
        model: the model, with its initial weights; a moving average becomes a part of it.
        decay: of the moving average; 0 for none.
        without: names of parameters that are not averaged.
    """

    def __init__(self, model: nn.Module, decay: float, without: Collection[str] = ()) -> None:
        self.model = model
        if hasattr(model, PART):  # that of a run before
            delattr(model, PART)
        self.average = MovingAverage(model, decay, without) if decay else None
        if self.average is not None:
            model.add_module(PART, self.average)

    def update(self, step: int) -> None:
        """Take the weights after a step into the moving average."""
        if self.average is not None:
            self.average.update(self.model, step)

    @contextmanager
    def shown(self, *, last: bool) -> Iterator[None]:
        """Let the model have the weights that the run would export now.

        Args:
            last: whether no step follows.
        """
        if not self.differ(last=last):
            yield
            return
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.finish(last=last)
        try:
            yield
        finally:
            self.model.load_state_dict(before)

    def differ(self, *, last: bool) -> bool:
        """Whether the weights that are exported differ from those of the step."""
        return self.average is not None

    def finish(self, *, last: bool) -> None:
        """Set the model's weights to those that are exported, alike on all processes."""
        if self.average is not None:
            self.average.copy_into(self.model)
