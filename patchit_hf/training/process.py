"""What a training sets for the whole Python process, and puts back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import Accelerator

from patchit_hf.common.freed_memory import freed_memory_kept
from patchit_hf.training.accelerator import use_all_cores


@contextmanager
def process_settings(accelerator: Accelerator) -> Iterator[None]:
    """Compute on all cores and reproducibly, and leave the process as it was.

    Convolutions are deterministic, so that a resumed run is the uninterrupted one, and each step
    seeds what draws random numbers inside the network. Afterwards the number of threads, cuDNN's
    choice and the global random states of Python, NumPy and torch are those from before, and freed
    memory is given back.

    Args:
        accelerator: the accelerator that the training runs on.
    """
    threads, deterministic = torch.get_num_threads(), torch.backends.cudnn.deterministic
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    torch.backends.cudnn.deterministic = True
    use_all_cores(accelerator)
    try:
        with freed_memory_kept():
            yield
    finally:
        torch.backends.cudnn.deterministic = deterministic
        torch.set_num_threads(threads)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if on_cuda is not None:
            torch.cuda.set_rng_state_all(on_cuda)
