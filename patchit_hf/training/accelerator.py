"""Devices, precision and threads: the set-up of Accelerate."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, PrecisionType, parse_flag_from_env

from patchit_hf.common.errors import InputError
from patchit_hf.training.arguments import LoopArguments

logger = logging.getLogger(__name__)

SHARED_STATE = "_shared_state"  # an attribute of Accelerate's AcceleratorState


def create_accelerator(args: LoopArguments, folder: Path) -> Accelerator:
    """Return the accelerator, with the requested tracker.

    Raises:
        InputError: for a precision that does not exist or that the machine does not support.
    """
    wanted = args.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if wanted.lower() not in PrecisionType.list():  # Accelerate treats any other text as "no"
        raise InputError(
            f"ACCELERATE_MIXED_PRECISION {wanted!r}: must be one of {', '.join(PrecisionType)}"
        )
    _forget_precision(wanted)
    try:
        accelerator = Accelerator(
            mixed_precision=args.mixed_precision,
            log_with=None if args.report_to == "none" else args.report_to,
            project_dir=str(folder),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=args.timeout))],
        )
    except ValueError as error:
        raise InputError(f"--mixed-precision {args.mixed_precision!r}: {error}") from error
    on_cpu = accelerator.device.type == "cpu" and accelerator.is_local_main_process
    if on_cpu and accelerator.mixed_precision == "bf16" and not has_bf16(cpu_capabilities()):
        logger.warning(
            "this CPU has no bf16 units; bf16 takes several times as long on it as "
            "--mixed-precision no"
        )
    return accelerator


def start_tracker(accelerator: Accelerator, report_to: str, config: dict[str, Any]) -> None:
    """Start the requested tracker, if any, with a run's configuration."""
    if report_to != "none":
        flat = {k: v if isinstance(v, int | float | str) else str(v) for k, v in config.items()}
        accelerator.init_trackers("patchit_hf", config=flat)


def _forget_precision(wanted: str) -> None:
    """Let the next ``Accelerator`` of this Python process have another precision.

    Accelerate keeps the precision of the first one and rejects any other. Existing accelerators
    keep theirs.
    """
    shared = vars(AcceleratorState).get(
        SHARED_STATE
    )  # without it, Accelerate rejects the precision
    if type(shared) is not dict or not shared:  # on a TPU one per thread, or none yet
        return
    if AcceleratorState().mixed_precision != wanted.lower():
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
