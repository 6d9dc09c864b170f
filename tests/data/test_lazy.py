"""Errors of a loader's worker processes, and how they reach the main process."""

import traceback

import pytest
import torch

from patchit_hf.common.errors import InputError
from patchit_hf.data.lazy import load


class Raises:
    def __init__(self, error):
        self.error = error

    def __getitems__(self, numbers):
        raise self.error


def first(error, workers):
    return next(load(Raises(error), iter([torch.tensor([0])]), workers))


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_input_keeps_its_words(workers):
    with pytest.raises(InputError) as error:
        first(InputError("row 3: it says:\nInputError: no"), workers)
    assert str(error.value) == "row 3: it says: InputError: no"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_is_no_bad_input_whatever_it_says(workers):
    with pytest.raises(RuntimeError, match="InputError: of somebody else") as error:
        first(RuntimeError("caught:\nInputError: of somebody else"), workers)
    traceback.clear_frames(error.tb)  # torch's raise the exception that they hold
