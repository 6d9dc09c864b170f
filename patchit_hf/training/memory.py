"""How many inputs at a time fit into memory: found by trying a step on a copy of the model."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import dataclasses
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import nn

from patchit_hf.common.errors import one_line
from patchit_hf.common.resources import ResourceError
from patchit_hf.training.arguments import LoopArguments
from patchit_hf.training.hooks import Hooks
from patchit_hf.training.loop import LossFn, Part
from patchit_hf.training.monitor import Reporter
from patchit_hf.training.run_folder import RunFolder
from patchit_hf.training.share import Share

logger = logging.getLogger(__name__)

NO_MEMORY = ("bad_alloc", "could not create a primitive", "could not create a memory")  # oneDNN
OPTIMIZER = 2  # tensors that an optimiser keeps for each parameter, at most


@dataclass
class StepTrial:
    """Tries whether a training step fits into memory.

    The model stays as it is: the step is made on a copy, which with its gradients and what stands
    for an optimiser's state takes a little more than the training itself.

    Attributes:
        accelerator: the processes.
        model: the unwrapped model.
        loss_fn: maps output and targets to ``loss``.
        part: makes the first part of a way to divide the batch.
    """

    accelerator: Accelerator
    model: nn.Module
    loss_fn: LossFn
    part: Callable[[Share], Part]

    def fits(self, share: Share) -> bool:
        """Whether one part of the batch fits, forwards and backwards, in this process."""
        try:
            with torch.random.fork_rng():
                self._step(share)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            free_memory(error)
            return False
        clear_device_cache()
        return True

    def first_that_fits(self, share: Share, *, together: bool = True) -> Share | None:
        """Return the first way to divide the batch that fits, from one on to smaller parts.

        Args:
            share: the first way.
            together: whether all processes ask at the same time, and get the same answer.

        Returns:
            None if none fits.
        """
        for candidate in smaller_parts(share):
            answer = self.fits(candidate)
            if together and self.accelerator.num_processes > 1:
                there = torch.tensor([int(answer)], device=self.accelerator.device)
                answer = bool(self.accelerator.gather(there).amin())
            if answer:
                return candidate
        return None

    def _step(self, share: Share) -> None:
        model = copy.deepcopy(self.model).train()
        state = [torch.zeros_like(p) for p in model.parameters() for _ in range(OPTIMIZER)]
        for _ in range(2):  # the second beside the gradients of the first, as in a training
            part = self.part(share)
            with self.accelerator.autocast():
                loss = self.loss_fn(model(part.inputs), part.targets)["loss"]
            loss.backward()
        del state


def smaller_parts(share: Share) -> Iterator[Share]:
    """Yield ways to divide the batch, from a given one on, each into at least twice the parts.

    Parts of one sample are left out, because batch normalisation needs two.

    Example:
        >>> [s.part for s in smaller_parts(Share(batch=96, accumulation=1, rank=0, world=1))]
        [96, 48, 24, 12, 6, 3]
    """
    most, turns = share.batch // share.world, share.accumulation
    for number in range(share.accumulation, most + 1):
        if number < turns or most % number or (most // number < 2 and number > share.accumulation):
            continue
        yield dataclasses.replace(share, accumulation=number)
        turns = 2 * number


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory on the device or of the machine is used up."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and (
        should_reduce_batch_size(error) or any(text in str(error) for text in NO_MEMORY)
    )


def free_memory(error: BaseException) -> None:
    """Let go of the tensors that the frames of a failed step hold.

    The C library keeps freed memory in pieces, and a smaller step would not fit into them, either,
    unless it is asked to give them back.
    """
    traceback.clear_frames(error.__traceback__)
    clear_device_cache(garbage_collection=True)
    with contextlib.suppress(OSError, AttributeError, TypeError):  # a function of glibc's
        ctypes.CDLL(None).malloc_trim(0)


class FitsMemory(Hooks):
    """The part of a trainer that divides its batch so that it fits into memory."""

    args: LoopArguments
    accelerator: Accelerator
    model: nn.Module
    share: Share
    run: RunFolder
    reporter: Reporter

    def _step_trial(self) -> StepTrial:
        def part(share: Share) -> Part:
            before, self.share = self.share, share
            try:
                return next(self._parts(0))
            finally:
                self.share = before

        return StepTrial(self.accelerator, self.model, self._loss, part)

    def _find_parts(self) -> None:
        """Divide the batch into as few parts as fit, or as an earlier start of the run did.

        Raises:
            ResourceError: if even the smallest parts do not fit.
        """
        share, known, world = self.share, self.run.parts, self.share.world
        if known and known % world == 0 and share.batch % known == 0:
            self.share = dataclasses.replace(share, accumulation=known // world)
            return
        found = self._step_trial().first_that_fits(share)
        if found is None:
            raise ResourceError(
                f"out of memory on {self.accelerator.device}: no part of the batch fits; give a "
                "smaller --backbone, or smaller inputs"
            )
        self.share, parts = found, found.accumulation * world
        if self.accelerator.is_main_process:
            self.run.keep_parts(parts)
            batch = self._batch()
            logger.info("the batch of %d is trained %d at a time", batch, batch // parts)

    def _batch(self) -> int:
        """Return the inputs of a step, over all processes."""
        return self.share.batch * self.reporter.inputs

    def _out_of_memory(self, error: BaseException) -> str:
        """Return the line about a training that ran out of memory, with what would fit."""
        free_memory(error)
        share, batch = self.share, self._batch()
        inputs = batch // (share.world * share.accumulation)
        line = f"out of memory on {self.accelerator.device} ({one_line(error, 120)})"
        found = None
        with contextlib.suppress(Exception):  # the line is due, whatever the trial says
            found = self._step_trial().first_that_fits(share, together=False)
        if found is None:
            return f"{line}; the smallest parts of the batch do not fit, either"
        if found.accumulation == share.accumulation:
            return (
                f"{line}; a training step with {inputs} inputs at a time fits, so less beside it "
                "may be enough: fewer --workers or --max-eval-crops, no other program"
            )
        fit = inputs * share.accumulation // found.accumulation
        return (
            f"{line}: {inputs} inputs at a time do not fit, {fit} do; --batch-size "
            f"{fit * share.world} would fit, and --gradient-accumulation-steps "
            f"{found.accumulation} trains on the batch of {batch} in parts (--batch-size auto "
            "finds it)"
        )
