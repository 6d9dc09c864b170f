"""What is said about the machine."""

import logging

import pytest
import torch

from patchit_hf.environment import cpu_capabilities, create_accelerator, has_bf16
from patchit_hf.training_args import TrainingArguments


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, True),
        ({"architecture": "aarch64"}, True),
        ({}, True),
    ],
)
def test_which_cpus_compute_in_bf16(capabilities, expected):
    assert has_bf16(capabilities) is expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in bf16")
@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_a_cpu_without_bf16_is_said_to_be_slow_in_it(precision, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        create_accelerator(TrainingArguments(mixed_precision=precision), tmp_path)
    slow = precision == "bf16" and not has_bf16(cpu_capabilities())
    assert ("no units for bf16" in caplog.text) == slow
