"""What could be changed about a run, each as a variant that is measured beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from patchit_hf.bench.bare import Bare
from patchit_hf.common.draws import Draws
from patchit_hf.data.training_set import num_crops
from patchit_hf.models.build import build_model
from patchit_hf.patch_tasks import create_task
from patchit_hf.patch_tasks.base import PatchBatch, task_name
from patchit_hf.pretrain.trainer import PatchTaskTrainer
from patchit_hf.training.accelerator import cpu_capabilities, has_bf16

DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Change:
    """Something to change.

    Attributes:
        what: the flag or variable, as it is typed.
        loop: the bare loop with it.
        trains_otherwise: whether the weights will be others in more than rounding.
    """

    what: str
    loop: Bare
    trains_otherwise: bool = False


def bare_of(trainer: PatchTaskTrainer, batch: PatchBatch, **changed: Any) -> Bare:
    """Return the bare loop of a trainer: the same network, optimiser and precision.

    Args:
        trainer: of the planned run.
        batch: a part of a step, ready for the network.
        **changed: what is otherwise; see ``Bare``.
    """
    dtype = DTYPES[str(trainer.accelerator.mixed_precision)]
    how = {"optim": trainer.args.optim, "dtype": dtype, **changed}
    return Bare(trainer.model, trainer.task, batch.inputs, batch.targets, **how)


def changes(
    trainer: PatchTaskTrainer, batch: PatchBatch, crops: Tensor, draws: Draws
) -> list[Change]:
    """Return what could be changed.

    Args:
        trainer: of the planned run.
        batch: a part of a step, ready for the network.
        crops: those that it was cut from.
        draws: by which it was cut.
    """
    args, on_cpu = trainer.args, trainer.accelerator.device.type == "cpu"
    found = []
    for count in _other_threads() if on_cpu else ():
        loop = bare_of(trainer, batch, threads=count)
        found.append(Change(f"OMP_NUM_THREADS={count}", loop))
    units = has_bf16(cpu_capabilities()) if on_cpu else True
    if trainer.accelerator.mixed_precision == "no" and units:
        loop = bare_of(trainer, batch, dtype=torch.bfloat16)
        found.append(Change("--mixed-precision bf16", loop))
    twice = PatchBatch(torch.cat([batch.inputs] * 2), torch.cat([batch.targets] * 2))
    loop = bare_of(trainer, twice)
    size = 2 * trainer.share.batch * trainer.task.inputs_per_sample
    found.append(Change(f"--batch-size {size}", loop, trains_otherwise=True))
    if args.optim == "muon":
        loop = bare_of(trainer, batch, optim="adamw")
        what = "--optimizer adamw --learning-rate 1e-3"
        found.append(Change(what, loop, trains_otherwise=True))
    return [*found, *_not_enlarged(trainer, crops, draws)]


def _other_threads() -> list[int]:
    """Return numbers of threads that may be better: one for each core, and half of those now."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores, here = len(affinity(0)) if affinity else os.cpu_count() or 1, torch.get_num_threads()
    return sorted({count for count in (cores, here // 2) if 0 < count <= cores} - {here})


def _not_enlarged(trainer: PatchTaskTrainer, crops: Tensor, draws: Draws) -> list[Change]:
    """Return a loop on patches as they are cut, where the task enlarges them."""
    old, seed = trainer.task, trainer.args.seed
    if old.transform.input_scale <= 1:
        return []
    task = create_task(task_name(old), old.canvas, **{**old.kwargs, "input_scale": 1.0})
    task = task.with_statistics(old.transform.mean, old.transform.std)
    model: Any = build_model(trainer.model.spec.name, task, seed, trainer.model.spec.args)
    task = task.for_training(model.head, num_crops(trainer.data.source), seed)
    model = model.to(crops.device, memory_format=torch.channels_last)
    batch, optim = task.sample(crops, draws), trainer.args.optim
    dtype = DTYPES[str(trainer.accelerator.mixed_precision)]
    loop = Bare(model, task, batch.inputs, batch.targets, optim=optim, dtype=dtype)
    return [Change("--task-kwargs input_scale=1", loop, trains_otherwise=True)]
