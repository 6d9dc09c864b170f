"""What a step costs beside its arithmetic, counted and not timed, with today's numbers as limit.

A higher count is a step that became dearer. One that is meant raises its limit here, in the commit
that says why; a lower one lowers it. Counts depend on torch's version, so that the limits are those
of the oldest that is allowed, and of the newest, whichever is higher.
"""

import gc
import sys
from collections import Counter

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from tests.elsewhere import elsewhere

WAITS = (  # for the device
    Tensor.item, Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.__bool__, Tensor.__int__,
    Tensor.__float__, Tensor.__index__,
)  # fmt: skip
LIMITS = {
    "muon": {"operations": 1970, "allocations": 1129, "calls": 2580, "own calls": 752},
    "adamw": {"operations": 785, "allocations": 382, "calls": 2239, "own calls": 665},
}


class Operations(TorchDispatchMode):
    """Counts operations, and the tensors among their results that are no views."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {_memory(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        made = {_memory(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
        self.counts["operations"] += 1
        self.counts["allocations"] += len(made - known)
        return result


class Waits(TorchFunctionMode):
    """Counts what waits for the device that ``elsewhere`` stands for."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        there = args and isinstance(args[0], Tensor) and args[0].device.type == "meta"
        if there and (func in WAITS or (func is Tensor.to and "cpu" in map(str, args[1:]))):
            self.counts[_place()] += 1
        return func(*args, **(kwargs or {}))


class Calls:
    """Counts calls of Python functions."""

    def __init__(self):
        self.counts = Counter()

    def __enter__(self):
        sys.setprofile(self._see)

    def __exit__(self, *_):
        sys.setprofile(None)

    def _see(self, frame, event, _):
        if event == "call" and "importlib" not in frame.f_code.co_filename:  # as long as sys.path
            self.counts["calls"] += 1
            self.counts["own calls"] += "/patchit_hf/" in frame.f_code.co_filename


def _place():
    """Return file and function of this package, or else of another one, that waits."""
    frames, frame = [], sys._getframe(2)
    while frame is not None:
        frames.append(frame.f_code)
        frame = frame.f_back
    ours = next((code for code in frames if "/patchit_hf/" in code.co_filename), frames[0])
    return f"{ours.co_filename.rpartition('/')[2]}: {ours.co_name}"


def _memory(tensor):
    return tensor.untyped_storage()._cdata


def counted(crops, small, folder, optim, counters, first=9):
    """Train, and count in one step each, from the end of a step to that of the next one.

    The first steps watch the gradients, and so does the last one.
    """
    many = {"save_steps": 0, "eval_steps": 0, "audit": False, "figures": False}
    args = TrainingArguments(
        output_dir=str(folder), train_batch_size=16, max_steps=first + len(counters) + 2,
        logging_steps=1000, optim=optim, **many,
    )  # fmt: skip
    task = create_task("position", (50, 25), **small)
    trainer = PatchTaskTrainer("test_resnet", args, task, crops)
    after = trainer._after_step

    def bounded(step, means):
        stops = after(step, means)
        if 0 <= step - first - 1 < len(counters):
            counters[step - first - 1].__exit__(None, None, None)
        if 0 <= step - first < len(counters):
            counters[step - first].__enter__()
        return stops

    trainer._after_step = bounded
    gc.disable()  # or clean-up after earlier tests would be counted
    try:
        trainer.train()
    finally:
        gc.enable()


@pytest.mark.parametrize("optim", ["muon", "adamw"])
def test_operations_allocations_and_calls_of_a_step(optim, crops, small, tmp_path):
    operations, calls = Operations(), Calls()
    counted(crops, small, tmp_path / "run", optim, [operations, calls])
    found = {**operations.counts, **calls.counts}
    assert {name: count for name, count in found.items() if count > LIMITS[optim][name]} == {}
    assert all(found[name] > 0.5 * limit for name, limit in LIMITS[optim].items()), found


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_no_step_waits_for_the_device(crops, small, tmp_path, monkeypatch):
    AcceleratorState._reset_state(True)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    waits = Waits()
    with elsewhere() as seen:
        assert torch.ones(1, device="meta").device.type == "meta"
        counted(crops, small, tmp_path / "run", "muon", [waits])
    assert seen["aten::mm"] + seen["aten::addmm"] > 0
    assert waits.counts == {}
