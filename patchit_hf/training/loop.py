"""The training loop, on Accelerate. It knows nothing of tasks."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from torch import Tensor, nn

from patchit_hf.common.draws import Draws
from patchit_hf.training.cuda_graphs import can_replay, replayed

LossFn = Callable[[Any, Tensor], dict[str, Tensor]]


class Part(NamedTuple):
    """One process's part of one accumulation step."""

    inputs: Tensor
    targets: Tensor
    number: int  # index of this part in the global batch


@dataclass
class Means:
    """Running means of named scalars, kept on the device until they are read.

    Example:
        >>> means = Means()
        >>> means.add({"loss": torch.tensor(1.0)}, 3)
        >>> means.add({"loss": torch.tensor(5.0)}, 1)
        >>> means.result()
        {'loss': 2.0}
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0

    def add(self, values: dict[str, Tensor], count: int) -> None:
        """Add a batch's means over ``count`` items."""
        for name, value in values.items():
            total = value.detach().to(torch.float64 if value.device.type == "cpu" else value.dtype)
            self.sums[name] = self.sums.get(name, torch.zeros_like(total)) + total * count
        self.count += count

    def state(self, accelerator: Accelerator) -> dict[str, Any]:
        """Return the sums over all processes as JSON values; see ``restored``."""
        sums = {name: accelerator.reduce(self.sums[name].clone()) for name in sorted(self.sums)}
        count = int(accelerator.reduce(torch.tensor(self.count, device=accelerator.device)))
        return {"sums": {name: float(value) for name, value in sums.items()}, "count": count}

    @classmethod
    def restored(cls, state: dict[str, Any] | None, accelerator: Accelerator) -> Means:
        """Return what ``state`` returned, on the main process; nothing counted on the others."""
        if not state:
            return cls()
        device, main = accelerator.device, accelerator.is_main_process
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        sums = {
            name: torch.tensor(value if main else 0.0, dtype=dtype, device=device)
            for name, value in state["sums"].items()
        }
        return cls(sums, state["count"] if main else 0)

    def merge(self, other: Means) -> None:
        """Add the sums and counts of another object."""
        for name, value in other.sums.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += other.count

    def result(self, accelerator: Accelerator | None = None) -> dict[str, float]:
        """Return the means and reset them; with an accelerator, over all processes."""
        names = sorted(self.sums)
        if not names:
            return {}
        device = self.sums[names[0]].device
        totals = torch.stack([self.sums[n].to(torch.float32) for n in names])
        packed = torch.cat([totals, torch.tensor([float(self.count)], device=device)])
        if accelerator is not None:
            packed = accelerator.reduce(packed, reduction="sum")
        values = packed.tolist()
        self.sums, self.count = {}, 0
        return {
            name: value / max(values[-1], 1.0) for name, value in zip(names, values, strict=False)
        }


def train(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Any,
    parts: Iterator[Part],
    loss_fn: LossFn,
    *,
    steps: range,
    accumulation: int,
    lr: Callable[[int], float],
    max_grad_norm: float,
    seed: int,
    replay: bool,
    before_step: Callable[[int], None],
    after_step: Callable[[int, Means], bool],
) -> None:
    """Run optimiser steps.

    Random numbers inside the model (dropout, drop path) are reseeded from (seed, step, part). A
    resumed run therefore equals an uninterrupted one, and accumulation equals more processes.

    Args:
        accelerator: the accelerator that prepared model and optimiser.
        model: the prepared model.
        optimizer: the prepared optimiser.
        parts: this process's inputs, ``accumulation`` parts per step.
        loss_fn: maps output and targets to ``loss`` and metrics.
        steps: numbers of the steps to run.
        accumulation: parts per step.
        lr: learning rate of a step.
        max_grad_norm: norm that gradients are clipped to, 0 to not clip.
        seed: the run's seed.
        replay: replay the network's kernels where possible; see ``cuda_graphs``.
        before_step: called with the step's number once its gradients are computed.
        after_step: called with the step's number and its means; returns true to end the training.
    """
    model.train()
    replay = replay and can_replay(accelerator, accumulation)
    parameters = list(model.parameters())
    with contextlib.ExitStack() as stack:
        for step in steps:
            means = Means()
            for group in optimizer.param_groups:
                group["lr"] = lr(step) * group.get("lr_scale", 1.0)
            for turn in range(accumulation):
                part = next(parts)
                if replay and step == steps.start:
                    stack.enter_context(replayed(model, part.inputs))
                _seed(_step_seed(seed, step, part.number), accelerator.device)
                last = turn == accumulation - 1
                with contextlib.nullcontext() if last else accelerator.no_sync(model):
                    values = loss_fn(model(part.inputs), part.targets)
                    accelerator.backward(values["loss"] / accumulation)
                means.add(values, len(part.targets))
            before_step(step)
            if max_grad_norm:
                accelerator.clip_grad_norm_(parameters, max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            if after_step(step, means):
                break
            if not model.training:  # after an evaluation
                model.train()


def evaluate(
    accelerator: Accelerator,
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_fn: LossFn,
    observe: Callable[[Any, Tensor], None] | None = None,
) -> dict[str, float]:
    """Return the means of loss and metrics over the batches of all processes.

    The model is left in evaluation mode. Batch statistics are those of the main process, so that
    the result does not depend on which process evaluates what.

    Args:
        accelerator: the processes.
        model: the prepared model.
        batches: inputs and targets of this process.
        loss_fn: maps output and targets to ``loss`` and metrics.
        observe: called with output and targets of each of this process's batches.
    """
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            broadcast(buffer)
    model.eval()
    means = Means()
    with torch.inference_mode():
        for inputs, targets in batches:
            output = model(inputs)
            means.add(loss_fn(output, targets), len(targets))
            if observe is not None:
                observe(output, targets)
    return means.result(accelerator)


def _step_seed(seed: int, step: int, part: int) -> int:
    numbers = torch.tensor([step * 65536 + part])
    return int(Draws(seed, numbers).integers("step", 2**31))


def _seed(seed: int, device: torch.device) -> None:
    """Do what ``accelerate.utils.set_seed`` does, for the devices that a step computes on.

    For a GPU that nothing uses, torch would format the whole stack in every step.
    """
    if device.type not in ("cpu", "cuda"):
        set_seed(seed)
        return
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)


def due(done: int, every: int) -> bool:
    """Return whether something done every ``every`` steps is due after ``done`` steps; 0 is never.

    Example:
        >>> due(20, every=10), due(25, every=10), due(20, every=0)
        (True, False, False)
    """
    return every > 0 and done % every == 0
