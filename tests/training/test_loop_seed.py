"""The random states of a step are those that Accelerate would set."""

import random

import numpy as np
import torch
from accelerate.utils import set_seed

from patchit_hf.training.loop import _seed


def drawn():
    return random.random(), np.random.rand(), torch.rand(2).tolist()


def test_a_step_is_seeded_as_by_accelerate():
    seeds = (0, 5, 2**32 - 1)
    wanted = [set_seed(seed) or drawn() for seed in seeds]
    found = [_seed(seed, torch.device("cpu")) or drawn() for seed in seeds]
    assert found == wanted
    assert len({str(values) for values in found}) == len(seeds)
