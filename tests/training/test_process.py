"""A training leaves the Python process as it found it."""

import os
import random

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.training.process import process_settings


def state():
    """Everything global that a training touches."""
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.backends.cudnn.deterministic,
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "torch": torch.get_rng_state().tolist(),
    }


@pytest.fixture
def launched(monkeypatch):
    """As ``accelerate launch`` starts a process: one thread, to be made all cores."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(threads)


def test_training_leaves_the_process_alone(tmp_path, crops, small, launched):
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=2,
        train_batch_size=8,
        figures=False,
        audit=False,
    )
    before = state()
    trainer = PatchTaskTrainer(
        "test_resnet", args, create_task("position", (50, 25), **small), crops, crops
    )
    trainer.train()
    trainer.evaluate()
    assert state() == before


def test_settings_are_put_back_after_an_error(launched):
    before = state()

    def interrupted():
        with process_settings(Accelerator()):
            assert torch.backends.cudnn.deterministic
            assert torch.get_num_threads() == len(os.sched_getaffinity(0))
            torch.manual_seed(5)
            random.seed(5)
            np.random.seed(5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert state() == before
