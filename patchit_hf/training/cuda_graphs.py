"""Replay the kernels of a training step on a single CUDA GPU.

A batch of patches is so little work for a GPU that launching the kernels one by one takes several
times as long as running them. A CUDA graph launches all of them at once, with the same results.
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
    """Return whether steps can be replayed: on a single CUDA GPU, with one backward pass per step.

    The gradients of a second pass would be added to buffers that the replay overwrites.
    """
    alone = accelerator.distributed_type == DistributedType.NO
    return accelerator.device.type == "cuda" and alone and accumulation == 1


@contextmanager
def replayed(model: nn.Module, inputs: Tensor) -> Iterator[None]:
    """While the context is active, replay the model's training passes on inputs like this one.

    A network that cannot be captured runs as usual.

    Args:
        model: a model on a CUDA GPU.
        inputs: an example of every later batch: same shape, type and memory format.
    """
    own = model.__dict__.get("forward")
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        # Capturing runs the network first, which changes batch statistics.
        torch.cuda.make_graphed_callables(model, (inputs.clone(),), allow_unused_input=True)
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # the network waits for the device, or has hooks
        logger.info(
            "no CUDA graph of this network (%s): its kernels are launched one by one",
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
    """Give the device's random numbers a new state; the old one waits for the capture to end."""
    default = torch.cuda.default_generators[device.index or 0]
    default.graphsafe_set_state(torch.Generator(device).graphsafe_get_state())


class Replay:
    """A captured function of one CUDA tensor.

    Args:
        function: a function without side effects that does not wait for the device.
        example: an example input; later ones must have its shape and type.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        self.input = example.clone()
        side = torch.cuda.Stream(example.device)
        side.wait_stream(torch.cuda.current_stream(example.device))
        with torch.cuda.stream(side):
            function(self.input)  # libraries initialise themselves
        torch.cuda.current_stream(example.device).wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = function(self.input)

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return the result; the next call overwrites it."""
        self.input.copy_(tensor)
        self.graph.replay()
        return self.output
