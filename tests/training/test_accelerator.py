"""What is said about the machine."""

import logging

import pytest
import torch
from accelerate.state import AcceleratorState

from patchit_hf.common.errors import InputError
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.training.accelerator import (
    compiled_by,
    cpu_capabilities,
    create_accelerator,
    device,
    has_bf16,
)


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


def test_a_precision_that_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "nonsense")
    with pytest.raises(
        InputError, match="ACCELERATE_MIXED_PRECISION 'nonsense': must be one of no"
    ):
        create_accelerator(TrainingArguments(), tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in bf16")
@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_a_cpu_without_bf16_is_said_to_be_slow_in_it(precision, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        create_accelerator(TrainingArguments(mixed_precision=precision), tmp_path)
    slow = precision == "bf16" and not has_bf16(cpu_capabilities())
    assert ("no bf16 units" in caplog.text) == slow


def test_a_compiled_run_does_not_compile_the_next_one_in_this_process(tmp_path, monkeypatch):
    backends = []
    for asked in (True, False, True):
        found = create_accelerator(TrainingArguments(torch_compile=asked), tmp_path)
        backends.append(compiled_by(found))
    AcceleratorState._reset_state(True)
    assert backends == ["inductor", None, "inductor"]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (None, r"g\+\+, clang\+\+ and cl are not on this machine; install a C\+\+ compiler"),
        ("nope-c++ -O3", r"CXX names 'nope-c\+\+', which is not on this machine; install"),
    ],
)
def test_a_machine_that_cannot_compile_is_told_so_at_once(tmp_path, monkeypatch, named, said):
    monkeypatch.delenv("CXX", raising=False)
    if named:
        monkeypatch.setenv("CXX", named)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"--torch-compile: {said}"):
        create_accelerator(TrainingArguments(torch_compile=True), tmp_path)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ACCELERATE_USE_CPU": "1"}, "cpu"),
        ({"ACCELERATE_TORCH_DEVICE": "meta"}, "meta"),
        ({}, "cuda" if torch.cuda.is_available() else "cpu"),
    ],
)
def test_where_is_computed(variables, expected, monkeypatch):
    AcceleratorState._reset_state(True)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        assert device().type == expected
    finally:
        AcceleratorState._reset_state(True)
