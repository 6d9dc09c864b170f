"""Every task in small, and crops whose pixels say where they are."""

import numpy as np
import pytest
import torch

from patchit_hf.patch_tasks import create_task

SMALL = {"rows": 3, "cols": 2, "patch_size": 8, "jitter": 2}
PLAIN = {  # of octaves: whatever changes pixels is off
    "window": 16, "mirror": 0.0, "light": 0.0, "grayscale": 0.0, "cutmix": 0.0, "smooth": 0.0,
    "head_hidden": 32,
}  # fmt: skip
OPTIONS = {
    "context": {"patch_size": 6, "gap": 1, "jitter": 1},
    "jigsaw": {**SMALL, "rows": 2, "permutations": 6, "standardize": False},
    "octaves": {**PLAIN, "detail_cells": [3, 2], "part_cells": [2, 2], "jitter": 2},
    "pair": SMALL,
    "people": {**SMALL, "patches_per_crop": 3},
    "position": SMALL,
    "scale": {"sizes": [8, 12], "patch_size": 8, "jitter": 2},
    "shuffle": SMALL,
}
CANVAS = (50, 25)


def small_task(name, **kwargs):
    """A task on a 50x25 canvas."""
    return create_task(name, CANVAS, **{**OPTIONS[name], **kwargs})


@pytest.fixture(params=sorted(OPTIONS))
def name(request):
    """The name of each task in turn."""
    return request.param


@pytest.fixture
def coordinates():
    """A function: crops whose first two channels are a pixel's own y and x."""

    def make(count, height=CANVAS[0], width=CANVAS[1]):
        y, x = np.mgrid[0:height, 0:width]
        crop = np.stack([y, x, 0 * y], axis=0).astype(np.uint8)
        return torch.from_numpy(crop).expand(count, -1, -1, -1)

    return make


@pytest.fixture
def plain():
    """A function: switch normalisation off, so that inputs are pixels / 255."""

    def switch(task):
        task = task.with_statistics((0.0,) * 3, (1.0,) * 3)
        return task

    return switch
