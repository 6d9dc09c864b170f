"""Build a trainer from the arguments of finetuning."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.common.arguments import identity
from patchit_hf.common.errors import InputError
from patchit_hf.finetune.arguments import FinetuneArguments, FinetuningArguments

if TYPE_CHECKING:
    from patchit_hf.downstream.augment import Geometry
    from patchit_hf.downstream.base import DownstreamTask
    from patchit_hf.finetune.trainer import Finetuner
    from patchit_hf.models.initial_weights import Initial


def open_finetuner(what: FinetuneArguments, args: FinetuningArguments) -> Finetuner | Path:
    """Build everything that finetuning needs.

    Returns:
        The finetuner, or the folder of a run that is already finished.

    Raises:
        InputError: for bad input, before anything is written.
    """
    from patchit_hf.data.source import load_crops
    from patchit_hf.downstream import task_class
    from patchit_hf.finetune.labelled import check_subset, open_labelled, subset
    from patchit_hf.finetune.trainer import Finetuner
    from patchit_hf.training.run_folder import RunFolder

    task_class(what.task)
    check_subset(what.fraction, what.shots, what.subset_seed)
    folder = args.output_dir or _default_output_dir(what)
    run = RunFolder(folder, identity(what, args))
    if run.finished:
        return run.path
    crops = load_crops(what.dataset, split=what.split, image_column=args.image_column)
    task, initial, geometry = open_start(what, crops.train, args.seed)
    main = os.environ.get("RANK", "0") == "0"
    opened = [
        None
        if split is None
        else open_labelled(
            split,
            task,
            geometry.canvas,
            args,
            name=f"{crops.name} ({name})",
            main=main,
            which="scored" if name == "held out" else "usable",
        )
        for name, split in (("training", crops.train), ("held out", crops.held_out))
    ]
    if opened[0] is None:
        raise InputError(f"{crops.name}: nothing to train on")
    train = subset(opened[0], task, what.fraction, what.shots, what.subset_seed)
    if len(train) < 2:
        raise InputError(
            f"{crops.name}: {len(train)} labelled crops to train on; at least 2 are needed"
        )
    info = {
        "name": crops.name,
        "split": crops.split,
        "validated_on": crops.held_out_from,
        **crops.meta,
    }
    args = dataclasses.replace(args, output_dir=str(folder))
    return Finetuner(initial, task, args, train, opened[1], geometry, run, info)


def open_start(
    what: FinetuneArguments, train: Any, seed: int
) -> tuple[DownstreamTask, Initial, Geometry]:
    """Open task, initial weights and geometry, before any image is read.

    Args:
        what: task, initial weights and input size.
        train: the training split.
        seed: seed of everything random in the weights.

    Raises:
        InputError: for missing columns or weights.
    """
    from patchit_hf.downstream import create_downstream
    from patchit_hf.downstream.augment import Geometry
    from patchit_hf.models.initial_weights import open_initial

    task = create_downstream(what.task, train, **what.task_kwargs)
    size = parse_size(what.input_size) if what.input_size else None
    initial = open_initial(
        what.init,
        what.backbone,
        task.num_classes,
        seed=seed,
        input_size=size or (192, 96),
        backbone_kwargs=what.backbone_kwargs,
    )
    return task, initial, Geometry.of(size or initial.input_size or (192, 96))


def parse_size(text: str) -> tuple[int, int]:
    """Parse ``192x96`` as height 192 and width 96.

    Raises:
        InputError: if the text is not two whole numbers of at least 8.

    Example:
        >>> parse_size("192x96")
        (192, 96)
    """
    from patchit_hf.data.canvas import parse_canvas

    try:
        return parse_canvas(text)
    except InputError as error:
        raise InputError(str(error).replace("--canvas", "--input-size")) from error


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
