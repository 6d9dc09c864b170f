"""The bare loop: network, loss, backward pass and optimiser on one ready batch, nothing else."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.training.optim import create_optimizer

WEIGHT_DECAY, RATE = 0.05, 1e-5  # neither changes how long a step takes


@dataclass(frozen=True)
class Turn:
    """What a turn took.

    Attributes:
        items: inputs, or crops, that were worked on.
        seconds: of the turn.
        parts: seconds in forward pass, backward pass and optimiser, where they are known.
    """

    items: int
    seconds: float
    parts: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds


class Bare:
    """A loop on one batch.

    Args:
        model: is copied.
        task: makes the loss.
        inputs: float32 ``[N, 3, h, w]``, or as the task has them.
        targets: as the task has them.
        optim: timm's name of the optimiser.
        dtype: of the computation; None for float32.
        threads: of a CPU; None for those that there are.
    """

    def __init__(
        self,
        model: nn.Module,
        task: PatchTask,
        inputs: Tensor,
        targets: Tensor,
        *,
        optim: str,
        dtype: torch.dtype | None = None,
        threads: int | None = None,
    ) -> None:
        self.model, self.task = copy.deepcopy(model).train(), task
        self.inputs, self.targets, self.dtype, self.threads = inputs, targets, dtype, threads
        self.optimizer: Any = create_optimizer(self.model, optim, RATE, WEIGHT_DECAY)
        self.items = len(inputs.flatten(0, -4))

    def turn(self, seconds: float) -> Turn:
        """Train for some seconds, and at least a step."""
        parts, steps, device = [0.0, 0.0, 0.0], 0, self.inputs.device
        with with_threads(self.threads):
            began = last = now(device)
            while not steps or last - began < seconds:
                for part, work in enumerate((self._forward, self._backward, self._update)):
                    work()
                    done = now(device)
                    parts[part] += done - last
                    last = done
                steps += 1
        return Turn(steps * self.items, last - began, (parts[0], parts[1], parts[2]))

    def _forward(self) -> None:
        precise = torch.autocast(self.inputs.device.type, self.dtype, enabled=bool(self.dtype))
        with precise:
            output = self.model(self.inputs)
        output = output.float() if isinstance(output, Tensor) else output
        self.loss = self.task.loss(output, self.targets)["loss"]

    def _backward(self) -> None:
        self.loss.backward()

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


@contextlib.contextmanager
def with_threads(count: int | None) -> Iterator[None]:
    """Compute with so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def now(device: torch.device) -> float:
    """Return the time once the device has done what it was given, in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
