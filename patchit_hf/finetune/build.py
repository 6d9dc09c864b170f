"""Build a trainer from the arguments of finetuning."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from patchit_hf.common.arguments import identity, stated
from patchit_hf.common.errors import InputError
from patchit_hf.finetune.arguments import FinetuneArguments, FinetuningArguments

if TYPE_CHECKING:
    import datasets

    from patchit_hf.data.source import Crops
    from patchit_hf.downstream.augment import Geometry
    from patchit_hf.downstream.base import DownstreamTask
    from patchit_hf.finetune.labelled import Labelled
    from patchit_hf.finetune.trainer import FinetuneTrainer
    from patchit_hf.models.initial_weights import Initial


def build_trainer(what: FinetuneArguments, args: FinetuningArguments) -> FinetuneTrainer | Path:
    """Build everything that finetuning needs.

    Returns:
        The trainer, or the folder of a run that is already finished.

    Raises:
        InputError: for bad input, before anything is written.
    """
    from patchit_hf.training.run_folder import RunFolder

    folder = args.output_dir or _default_output_dir(what)
    args = dataclasses.replace(args, output_dir=str(folder))
    run = RunFolder(
        folder, identity(what, args), stated(what, args), "patchit finetune", args.change
    )
    if run.finished:
        return run.path
    from patchit_hf.common.progress import Progress

    with Progress("importing torch"):
        from patchit_hf.data.source import load_crops
        from patchit_hf.downstream import task_class
        from patchit_hf.finetune.labelled import check_subset
        from patchit_hf.finetune.trainer import FinetuneTrainer

    check_subset(what.fraction, what.shots, what.subset_seed)
    with Progress("opening the crops"):
        crops = load_crops(
            what.dataset,
            split=what.split,
            image_column=args.image_column,
            allow_urls=args.allow_urls,
            people_in_names=task_class(what.task).people_in_names,
        )
    task, initial, geometry = open_start_of(what, crops.train, args.seed)
    if crops.train is None:
        raise InputError(f"{crops.name}: nothing to train on")
    train = _labelled(what, args, crops, task, geometry.canvas)
    info = {
        "name": crops.name,
        "split": crops.split,
        "validated_on": crops.held_out_from,
        **crops.meta,
    }
    with Progress("preparing the training"):
        return FinetuneTrainer(
            initial,
            args,
            task,
            train,
            crops.held_out,
            input_size=geometry.size,
            data_info=info,
            run=run,
        )


def _labelled(
    what: FinetuneArguments,
    args: FinetuningArguments,
    crops: Crops,
    task: DownstreamTask,
    canvas: tuple[int, int],
) -> Labelled:
    """Return as many of the labelled training crops as the arguments ask for."""
    from patchit_hf.finetune.labelled import open_labelled, subset

    labelled = open_labelled(
        crops.train,
        task,
        canvas,
        args,
        name=f"{crops.name} (training)",
        main=os.environ.get("RANK", "0") == "0",
    )
    train = subset(labelled, task, what.fraction, what.shots, what.subset_seed)
    if len(train) < 2:
        raise InputError(
            f"{crops.name}: {len(train)} labelled crops to train on; at least 2 are needed"
        )
    return train


def open_start_of(
    what: FinetuneArguments, train: datasets.Dataset, seed: int
) -> tuple[DownstreamTask, Initial, Geometry]:
    """Open what the arguments of a finetuning name; see ``open_start``."""
    from patchit_hf.finetune.setup import open_start

    return open_start(
        what.init,
        what.task,
        train,
        what.backbone,
        what.backbone_kwargs,
        parse_size(what.input_size) if what.input_size else None,
        seed,
        what.task_kwargs,
    )


def parse_size(text: str) -> tuple[int, int]:
    """Parse ``192x96`` as height 192 and width 96.

    Raises:
        InputError: if the text is not two whole numbers of at least 8.

    Example:
        >>> parse_size("192x96")
        (192, 96)
    """
    from patchit_hf.data.choices import parse_canvas

    return parse_canvas(text, "--input-size")


def _default_output_dir(what: FinetuneArguments) -> str:
    """Return ``runs/<task>-<data>-<init>``."""
    init = Path(what.init.replace(":", "-")).stem or "init"
    name = what.backbone or ""
    words = [what.task, Path(what.dataset).name if what.dataset else "people", name, init]
    if what.fraction is not None:
        words.append(f"{what.fraction:g}")
    if what.shots is not None:
        words.append(f"{what.shots}-shot")
    if what.subset_seed is not None:
        words.append(f"draw-{what.subset_seed}")
    return str(Path("runs") / "-".join(word for word in words if word))
