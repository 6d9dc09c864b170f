"""``--dry-run``: every stage of a run with a few crops and steps, in under a minute."""

from __future__ import annotations

import copy
import dataclasses
import math
import resource
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import timm
import torch

from patchit_hf.common.draws import EVAL_SEED, Draws
from patchit_hf.common.files import write_json
from patchit_hf.data.training_set import num_crops
from patchit_hf.models.feature_maps import feature_map
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.patch_tasks.base import PatchTask
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.pretrain.evaluator import crops_to_ask
from patchit_hf.pretrain.health import PretrainReporter
from patchit_hf.pretrain.probe import open_probe
from patchit_hf.pretrain.record import run_config
from patchit_hf.pretrain.trainer import PatchTaskTrainer
from patchit_hf.training.arguments import in_steps
from patchit_hf.training.run_folder import RunFolder
from patchit_hf.training.share import count_steps

CROPS, HELD_OUT, STEPS = 256, 32, 4
SHEET_CROPS = 6


@dataclass(frozen=True)
class Summary:
    """The result of a dry run.

    Attributes:
        folder: folder of the patch sheet and this summary.
        train_crops: crops of the full run, 0 for a stream.
        steps: optimiser steps of the full run.
        inputs_per_second: inputs of the backbone per second, over all processes.
        hours: estimated time of the full run: steps, evaluations, and decoding if crops are cached.
        memory_gb: peak of this process, in 10**9 bytes.
        device_memory_gb: peak on the accelerator; None on the CPU.
        reload_difference: largest difference of a feature after timm reloads the export.
        crop_memory_gb: what the head and its optimiser will keep of the crops of the full run.
    """

    folder: str
    train_crops: int
    steps: int
    inputs_per_second: float
    hours: float
    memory_gb: float
    device_memory_gb: float | None
    reload_difference: float
    crop_memory_gb: float = 0.0

    @property
    def works(self) -> bool:
        """Whether the full run would start and export what it trained."""
        return self.reload_difference < 1e-4

    def lines(self) -> list[str]:
        """Return the summary for the terminal."""
        device = ""
        if self.device_memory_gb is not None:
            device = f", {self.device_memory_gb:.1f} GB on the accelerator"
        crops = ""
        if self.crop_memory_gb:
            crops = f"; for all crops {self.crop_memory_gb * 1000:.1f} MB more"
        hours = f"{self.hours:.1f} h" if self.hours >= 1 else f"{self.hours * 60:.0f} min"
        export = "timm reads the export, with equal features"
        if not self.works:
            export = f"timm's features of the export differ by {self.reload_difference:.2g}"
        return [
            f"dry run: {self.train_crops or 'streamed'} crops; look at {self.folder}/patches.png",
            f"dry run: {self.inputs_per_second:.0f} patches/s, {self.memory_gb:.1f} GB of memory"
            f"{device}{crops}",
            f"dry run: {self.steps} steps, about {hours}",
            f"dry run: {export}",
            f"dry run: the full run would {'' if self.works else 'not '}start",
        ]


class _Quiet(PretrainReporter):
    """Warns of nothing: a few steps are too few for that."""

    def warning(self, entry: dict[str, Any], share_done: float) -> str | None:
        """Return None."""
        return None


def dry_run(
    model: PatchTaskModel,
    args: TrainingArguments,
    task: PatchTask,
    train: Any,
    held_out: Any,
    info: dict[str, Any],
) -> Summary:
    """Run every stage with a few crops, in ``<output_dir>-dry-run``.

    Args:
        model: the model to be trained; its weights change.
        args: arguments of the full run, with ``output_dir`` set.
        task: the task.
        train: training crops.
        held_out: held-out crops, or None.
        info: the data's entries for the records.

    Raises:
        InputError: for anything that would keep the full run from starting.
    """
    folder = Path(f"{args.output_dir}-dry-run")
    export = folder / "export"
    shutil.rmtree(export, ignore_errors=True)
    open_probe(train, held_out, args, task)
    small = dataclasses.replace(
        args, output_dir=str(export), max_steps=STEPS, eval_steps=0, save_steps=0,
        max_eval_crops=min(HELD_OUT, args.max_eval_crops or HELD_OUT), probe_column=None,
        push_to_hub=False,
        report_to="none", resume_from_checkpoint=None, head_first=0.5 if args.head_first else 0.0,
        audit=False, figures=False,
    )  # fmt: skip
    opened = time.perf_counter()
    run = RunFolder(export, run_config(model, task, small, info))
    trainer = PatchTaskTrainer(
        model, small, task, _few(train, CROPS), _few(held_out, HELD_OUT), data_info=info, run=run
    )
    opened = time.perf_counter() - opened
    trainer.reporter = _Quiet(trainer.task, 0)
    try:
        trainer.train()
        asked = time.perf_counter()
        trainer.evaluate()
        evaluation = time.perf_counter() - asked
        summary = _summary(trainer, args, train, held_out, folder, opened, evaluation)
        if trainer.is_main:
            _write(trainer, summary, folder)
        trainer.accelerator.wait_for_everyone()
    finally:
        if trainer.is_main:
            shutil.rmtree(export, ignore_errors=True)
    return summary


def _few(dataset: Any, count: int) -> Any:
    """Return crops spread over a data set; a stream is returned unchanged."""
    if dataset is None or isinstance(dataset, datasets.IterableDataset) or len(dataset) <= count:
        return dataset
    return dataset.select(torch.linspace(0, len(dataset) - 1, count).long().tolist())


def _summary(
    trainer: PatchTaskTrainer,
    args: TrainingArguments,
    train: Any,
    held_out: Any,
    folder: Path,
    opened: float,
    evaluation: float,
) -> Summary:
    size = num_crops(train)
    steps = count_steps(args, size, trainer.share)
    monitor = trainer.monitor
    step = statistics.median(monitor.step_seconds[1:]) if monitor else math.nan
    every = in_steps(args.eval_steps, steps)
    times = 1 + (steps // every if every else 0)
    inputs = trainer.share.batch * trainer.task.inputs_per_sample
    asked = crops_to_ask(args, trainer.task, steps * inputs)
    asked = min(num_crops(held_out) or asked, asked)
    evaluation *= asked / max(len(trainer.data.held_out or []), 1)
    decoding = opened * size / max(num_crops(_few(train, CROPS)), 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    device = trainer.accelerator.device
    on_device = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    return Summary(
        folder=str(folder),
        train_crops=size,
        steps=steps,
        inputs_per_second=round(inputs / step, 1),
        hours=round((step * steps + evaluation * times + decoding) / 3600, 6),
        memory_gb=round(peak * (1 if sys.platform == "darwin" else 1024) / 1e9, 2),
        device_memory_gb=None if on_device is None else round(on_device, 2),
        reload_difference=_reload(trainer),
        crop_memory_gb=trainer.task.bytes_per_run(size) / 1e9,
    )


def _reload(trainer: PatchTaskTrainer) -> float:
    """Return the largest difference of a feature between the trained and the reloaded backbone."""
    loaded: Any = timm.create_model(
        f"local-dir:{trainer.run.path.resolve()}", pretrained=True, num_classes=0
    )
    backbone: Any = copy.deepcopy(trainer.model.backbone).cpu()  # a GPU's float32 is less exact
    loaded.eval()
    backbone.eval()
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, *loaded.pretrained_cfg["input_size"], generator=rng)
    with torch.no_grad():
        trained = feature_map(backbone, inputs)
        again = feature_map(loaded, inputs)
    return float((trained - again).abs().max())


def _write(trainer: PatchTaskTrainer, summary: Summary, folder: Path) -> None:
    from patchit_hf.figures import labelled_patches, write_figures  # imports matplotlib

    crops = next(iter(trainer.data.source.sample(SHEET_CROPS)))
    sheet = labelled_patches(trainer.task, crops, Draws(EVAL_SEED, torch.arange(len(crops))))
    write_figures(folder, {"patches": sheet})
    write_json(folder / "dry-run.json", dataclasses.asdict(summary))
