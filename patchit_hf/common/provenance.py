"""Where a result comes from: the command, the versions and the hardware."""

from __future__ import annotations

import functools
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from patchit_hf.common.shown import redact

if TYPE_CHECKING:
    from accelerate import Accelerator

PACKAGES = (
    "patchit_hf",
    "torch",
    "timm",
    "transformers",
    "accelerate",
    "datasets",
    "huggingface_hub",
    "safetensors",
)


def hardware(accelerator: Accelerator) -> str:
    """Return a description of the hardware for a run's record."""
    import torch

    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name(accelerator.device)
    threads = torch.get_num_threads()
    plural = "" if threads == 1 else "s"
    return f"{accelerator.device.type.upper()}, {threads} thread{plural} per process"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results."""
    return {"python": platform.python_version(), **_packages()}


@functools.cache
def _packages() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def command() -> str:
    """Return the command line of this process, in a form that others can type, without secrets."""
    program = Path(sys.argv[0])
    package = Path(__file__).parents[1]
    words = [program.name]
    if package in program.parents:
        parts = program.relative_to(package.parent).with_suffix("").parts
        words = ["python", "-m", ".".join(parts).removesuffix(".__main__")]
    return redact(shlex.join([*words, *sys.argv[1:]]))
