"""Replay of a step's kernels on one CUDA GPU.

A batch of patches is so little work for a GPU that launching its kernels one by one takes several
times as long as computing them. A CUDA graph launches them all at once, with the same results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from patchit_hf.common.errors import one_line

logger = logging.getLogger(__name__)


def can_replay(accelerator: Accelerator, accumulation: int) -> bool:
    """Whether steps can be replayed: one CUDA GPU, and one backward pass a step.

    Gradients of a second one would be added to buffers that the replay overwrites.
    """
    alone = accelerator.distributed_type == DistributedType.NO
    return accelerator.device.type == "cuda" and alone and accumulation == 1


@contextmanager
def replayed(model: nn.Module, inputs: Tensor) -> Iterator[None]:
    """While it is entered, the model's passes in training mode on such inputs are replayed.

    A network that cannot be captured is run as ever.

    Args:
        model: a model on a CUDA GPU.
        inputs: as every batch will be: shape, type and memory format.
    """
    own = model.__dict__.get("forward")
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        # What is captured is run first, so that batch statistics move.
        torch.cuda.make_graphed_callables(model, (inputs.clone(),), allow_unused_input=True)
    except (RuntimeError, AssertionError) as error:  # waits for the device, or has hooks
        logger.info(
            "the network's kernels are launched one by one: no CUDA graph of it (%s)",
            one_line(error),
        )
        _new_generator(inputs.device)
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)
    try:
        yield
    finally:
        if own is None:
            model.__dict__.pop("forward", None)
        else:
            model.forward = own


def _new_generator(device: torch.device) -> None:
    """Give the device's random numbers another state; the old one waits for the capture's end."""
    default = torch.cuda.default_generators[device.index or 0]
    default.graphsafe_set_state(torch.Generator(device).graphsafe_get_state())


class Replay:
    """A function of one CUDA tensor, captured.

    Args:
        function: without side effects and without waiting for the device.
        example: an input; later ones have its shape and type.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        self.input = example.clone()
        side = torch.cuda.Stream(example.device)
        side.wait_stream(torch.cuda.current_stream(example.device))
        with torch.cuda.stream(side):
            function(self.input)  # libraries set themselves up
        torch.cuda.current_stream(example.device).wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = function(self.input)

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return the result, which lasts until the next call."""
        self.input.copy_(tensor)
        self.graph.replay()
        return self.output
