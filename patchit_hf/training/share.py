"""How the samples of a step are divided among processes and accumulation steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from patchit_hf.common.errors import InputError

if TYPE_CHECKING:
    from patchit_hf.training.arguments import LoopArguments


@dataclass(frozen=True)
class Share:
    """How the samples of a step are divided.

    The global batch is cut into ``world * accumulation`` parts. In accumulation turn ``turn``, part
    ``turn * world + rank`` belongs to this process. One process with accumulation 2 and two
    processes therefore work on the same parts.

    Attributes:
        batch: samples per step, over all processes and turns.
        accumulation: turns per step.
        rank: index of this process.
        world: number of processes.

    Example:
        >>> share = Share(batch=8, accumulation=1, rank=1, world=2)
        >>> next(share.numbers(start_step=0))
        (1, tensor([4, 5, 6, 7]))
    """

    batch: int
    accumulation: int
    rank: int
    world: int

    @classmethod
    def of(cls, args: LoopArguments, rank: int, world: int, inputs: int = 1) -> Share:
        """Cut ``--batch-size`` into equal parts.

        The default is first made a multiple of the inputs per sample, if it is none.

        Args:
            args: with the batch size and the accumulation steps.
            rank: index of this process.
            world: number of processes.
            inputs: backbone inputs per sample.

        Raises:
            InputError: if the batch size cannot be divided evenly.
        """
        turns = args.gradient_accumulation_steps or 1  # 0 is to be found, see ``memory``
        unit, size = inputs * world * turns, args.train_batch_size
        if size == args.default_batch_size:
            size = max(inputs, size - size % inputs)
        if size % unit:
            factors = "processes x gradient accumulation steps"
            if inputs > 1:
                factors = f"inputs per sample x {factors}"
            raise InputError(f"--batch-size {size}: must be a multiple of {unit} ({factors})")
        return cls(size // inputs, turns, rank, world)

    @property
    def part(self) -> int:
        """Samples per part."""
        return self.batch // (self.accumulation * self.world)

    def numbers(self, start_step: int) -> Iterator[tuple[int, Tensor]]:
        """Yield, turn by turn, the index of this process's part and its global sample numbers."""
        step = start_step
        while True:
            for turn in range(self.accumulation):
                index = turn * self.world + self.rank
                first = step * self.batch + index * self.part
                yield index, torch.arange(first, first + self.part)
            step += 1


def steps_per_epoch(num_crops: int, share: Share) -> float:
    """Return the steps per epoch, with one sample per crop; 0 for a stream (whose length is 0)."""
    return num_crops / share.batch


def count_steps(args: LoopArguments, num_crops: int, share: Share) -> int:
    """Return the optimiser steps of the run; the last batch of the last epoch is filled up.

    Raises:
        InputError: for a stream without ``--max-steps``.
    """
    if args.max_steps != -1:
        return args.max_steps
    if num_crops == 0:
        raise InputError("--streaming: the length of a stream is unknown; give --max-steps")
    return max(1, math.ceil(args.num_train_epochs * steps_per_epoch(num_crops, share)))
