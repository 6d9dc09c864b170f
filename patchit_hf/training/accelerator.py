"""Devices, precision and threads: the set-up of Accelerate."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import (
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    parse_flag_from_env,
)

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.training.arguments import LoopArguments
from patchit_hf.training.sharded import ASKED, sharding_of

logger = logging.getLogger(__name__)

PRECISIONS = ("no", "bf16", "fp16")
UNSUPPORTED = {  # settings of Accelerate's in the environment
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "parts of a network on several devices",
    "ACCELERATE_DOWNCAST_BF16": "weights in bfloat16",
}
SHARED_STATE = "_shared_state"  # an attribute of Accelerate's AcceleratorState


def create_accelerator(args: LoopArguments, folder: Path) -> Accelerator:
    """Return the accelerator, with the requested tracker.

    Raises:
        InputError: for a precision that does not exist or that the machine does not support.
    """
    _check_environment(args)
    if args.report_to == "wandb" and os.environ.get("RANK", "0") == "0":
        _check_wandb()
    wanted = args.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if wanted.lower() not in PRECISIONS:  # Accelerate treats any other text as "no"
        raise InputError(
            f"ACCELERATE_MIXED_PRECISION {wanted!r}: must be one of {', '.join(PRECISIONS)}"
        )
    compiler = _compiler(args)
    _forget(wanted, compiler or os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no"))
    try:
        with _without_sharding():
            accelerator = Accelerator(
                mixed_precision=args.mixed_precision,
                dynamo_backend=compiler,
                log_with=None if args.report_to == "none" else args.report_to,
                project_dir=str(folder),
                gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # see loop
                kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=args.timeout))],
            )
    except ValueError as error:
        raise InputError(f"--mixed-precision {args.mixed_precision!r}: {error}") from error
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "fp16":
        name = "--mixed-precision" if args.mixed_precision else "ACCELERATE_MIXED_PRECISION"
        raise InputError(
            f"{name} 'fp16': a CPU computes in float32 under it; must be no or bf16 on a CPU"
        )
    on_cpu = accelerator.device.type == "cpu" and accelerator.is_local_main_process
    if on_cpu and accelerator.mixed_precision == "bf16" and not has_bf16(cpu_capabilities()):
        logger.warning(
            "this CPU has no bf16 units; bf16 takes several times as long on it as "
            "--mixed-precision no"
        )
    return accelerator


def _compiler(args: LoopArguments) -> str | None:
    """Return the backend that compiles the network; None for what the environment says.

    Raises:
        InputError: if there is no C++ compiler on this machine, which a CPU's code needs.
    """
    if not args.torch_compile:
        return None
    named = os.environ.get("CXX", "").split()[:1]
    known = named or ["g++", "clang++", "cl"]
    if not torch.cuda.is_available() and not any(map(shutil.which, known)):
        where = f"CXX names {named[0]!r}, which is" if named else "g++, clang++ and cl are"
        raise InputError(
            f"--torch-compile: {where} not on this machine; install a C++ compiler, name it in "
            "CXX, or leave --torch-compile out"
        )
    logger.info("--torch-compile: the network is compiled in the first step, which takes minutes")
    return "inductor"


def _check_environment(args: LoopArguments) -> None:
    """Check what Accelerate takes from the environment, where ``accelerate launch`` puts it.

    Raises:
        InputError: for a setting that would change the training, and that is an argument here or
            that this package does not support.
    """
    name = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
    there, here = os.environ.get(name), args.gradient_accumulation_steps
    if there is not None and there not in ("1", str(here)):
        raise InputError(
            f"{name} {there!r}: give --gradient-accumulation-steps {there} instead (it is {here})"
        )
    for name, what in UNSUPPORTED.items():
        if parse_flag_from_env(name):
            raise InputError(
                f"{name} {os.environ[name]!r}: patchit_hf does not train with {what}; leave it out "
                "of accelerate's configuration"
            )
    sharding_of(os.environ)


@contextmanager
def _without_sharding() -> Iterator[None]:
    """Hide from Accelerate that FSDP is asked for: dividing the network is ``Sharded``'s.

    Accelerate itself divides it on GPUs alone, and says nothing on CPUs.
    """
    asked = os.environ.pop(ASKED, None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ[ASKED] = asked


def _check_wandb() -> None:
    """Check that there is a login for Weights & Biases, before anything is written.

    Raises:
        InputError: if there is none.
    """
    if os.environ.get("WANDB_MODE", "online") != "online":
        return
    import wandb

    try:
        known = wandb.login(prompt=False)
    except TypeError:  # of earlier versions, which would ask
        known = bool(wandb.api.api_key)
    except Exception as error:  # a key that is not valid, or no network
        raise InputError(f"--report-to 'wandb': {one_line(error)}") from error
    if not known:
        raise InputError(
            "--report-to 'wandb': there is no login; run wandb login, or set WANDB_API_KEY, or "
            "WANDB_MODE=offline"
        )


def compiled_by(accelerator: Accelerator) -> str | None:
    """Return by which backend Accelerate compiles the network; None if it does not."""
    plugin = accelerator.state.dynamo_plugin
    backend = str(plugin.backend.value if plugin else "NO").lower()
    return None if backend == "no" else backend


def start_tracker(accelerator: Accelerator, report_to: str, config: dict[str, Any]) -> None:
    """Start the requested tracker, if any, with a run's configuration."""
    if report_to != "none":
        flat = {k: v if isinstance(v, int | float | str) else str(v) for k, v in config.items()}
        accelerator.init_trackers("patchit_hf", config=flat)


def _forget(precision: str, compiler: str) -> None:
    """Let the next ``Accelerator`` of this Python process have another precision or compiler.

    Accelerate keeps those of the first one: it rejects any other precision, and takes any other
    compiler in silence. Existing accelerators keep theirs.
    """
    shared = vars(AcceleratorState).get(SHARED_STATE)  # without it, another precision is rejected
    if type(shared) is not dict or not shared:  # on a TPU one per thread, or none yet
        return
    state = AcceleratorState()
    plugin = state.dynamo_plugin
    before = str(plugin.backend.value if plugin else "no")
    if (state.mixed_precision, before.lower()) != (precision.lower(), compiler.lower()):
        setattr(AcceleratorState, SHARED_STATE, {})


def device() -> torch.device:
    """Return Accelerate's device: a GPU if there is one, unless it is configured for the CPU."""
    return torch.device(PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device)


def cpu_capabilities() -> dict[str, Any]:
    """Return torch's description of this CPU's instructions; empty if torch has none."""
    known = getattr(torch.cpu, "get_capabilities", None)
    return dict(known()) if known else {}


def has_bf16(capabilities: dict[str, Any]) -> bool:
    """Return whether a CPU has bfloat16 units; true if that is unknown.

    Args:
        capabilities: see ``cpu_capabilities``.

    Example:
        >>> has_bf16({"architecture": "x86_64", "avx512_bf16": False})
        False
    """
    if capabilities.get("architecture") != "x86_64":
        return True
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def use_all_cores(accelerator: Accelerator) -> None:
    """On the CPU, divide the cores among this machine's processes.

    ``accelerate launch`` sets ``OMP_NUM_THREADS=1`` by default, which leaves the other cores idle.
    Any other value, and 1 without the launcher, is the user's choice and stays.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ  # the launcher sets this
    if accelerator.device.type != "cpu" or not launched:
        return
    if os.environ.get("OMP_NUM_THREADS") != "1":
        return
    local = int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // max(1, local)))
