"""Finetune a backbone on labelled person crops: ``python -m patchit_hf.finetune``."""

from __future__ import annotations

import dataclasses
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.common import cli
from patchit_hf.common.cli import arg
from patchit_hf.common.console import guarded, say
from patchit_hf.common.errors import InputError
from patchit_hf.finetuning_args import FinetuningArguments
from patchit_hf.metrics.names import short_name

if TYPE_CHECKING:
    from patchit_hf.downstream.augment import Geometry
    from patchit_hf.downstream.base import DownstreamTask
    from patchit_hf.finetuner import Finetuner
    from patchit_hf.models.initial_weights import Initial

DESCRIPTION = """\
Finetune a timm backbone on labelled person crops.

  python -m patchit_hf.finetune --task attributes --init FOLDER_OR_HUB_ID --dataset ...
  python -m patchit_hf.finetune --task reid --init random --backbone resnet18

A run that was interrupted is continued by the same command."""


@dataclass(frozen=True, kw_only=True)
class FinetuneArguments:
    """What is trained, from which weights, and on which labels."""

    task: str = arg("attributes", "--task", "task", "attributes, reid, pose or action")
    task_kwargs: dict[str, Any] = arg(
        {}, "--task-kwargs", "task", "its options, such as columns=[hat,backpack]"
    )
    init: str = arg(
        "random",
        "--init",
        "model",
        "random, timm[:tag], hf-hub:org/name, a folder, or a .safetensors file",
    )
    backbone: str | None = arg(
        None, "--backbone", "model", "a model of timm's, where --init does not bring one"
    )
    backbone_kwargs: dict[str, Any] = arg(
        {}, "--backbone-kwargs", "model", "its options, such as drop_path_rate=0.1"
    )
    dataset: str | None = arg(
        None,
        "--dataset",
        "data",
        "Hub id, folder of images, parquet or arrow, or save_to_disk folder; rendered people "
        "if left out",
    )
    split: str | None = arg(None, "--split", "data", "training split; train, or the only one")
    input_size: str | None = arg(
        None,
        "--input-size",
        "data",
        "height x width of the input; what the weights were made for, or 192x96",
    )
    fraction: float | None = arg(
        None, "--fraction", "data", "share of the labels; smaller ones lie inside larger ones"
    )
    shots: int | None = arg(None, "--shots", "data", "labelled crops of each class instead")
    subset_seed: int | None = arg(
        None, "--subset-seed", "data", "another draw of the labels that --fraction or --shots keeps"
    )


def open_finetuner(what: FinetuneArguments, args: FinetuningArguments) -> Finetuner | Path:
    """Build everything that a finetuning needs.

    Returns:
        The finetuner, or the folder of a run that is finished.

    Raises:
        InputError: for bad input, before anything is written.
    """
    from patchit_hf.data.source import load_crops
    from patchit_hf.downstream import task_class
    from patchit_hf.finetuner import Finetuner
    from patchit_hf.labelled import check_subset, open_labelled, subset
    from patchit_hf.runs import RunFolder

    task_class(what.task)
    check_subset(what.fraction, what.shots, what.subset_seed)
    folder = args.output_dir or _default_output_dir(what)
    run = RunFolder(folder, cli.identity(what, args))
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
        raise InputError(f"{crops.name}: {len(train)} labelled crops to train on; 2 are needed")
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
    """Open what a finetuning starts from, before any picture is read.

    Args:
        what: task, initial weights and input size.
        train: the training split.
        seed: of whatever is random in the weights.

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
    """Read ``192x96`` as height 192 and width 96.

    Raises:
        InputError: if the text is not two whole numbers of at least 8.
    """
    from patchit_hf.data.canvas import parse_canvas

    try:
        return parse_canvas(text)
    except InputError as error:
        raise InputError(str(error).replace("--canvas", "--input-size")) from error


def run(argv: list[str] | None = None) -> int:
    """Finetune as the words say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    what, args = cli.parse(
        DESCRIPTION, argv, FinetuneArguments, FinetuningArguments, prog="patchit_hf.finetune"
    )
    first = os.environ.get("RANK", "0") == "0"
    if args.push_to_hub and first:
        from patchit_hf.publish.access import check_push

        check_push(args.hub_model_id or "", private=args.hub_private_repo)
    opened = open_finetuner(what, args)
    if isinstance(opened, Path):
        say(f"{opened}: this run is finished; its results are in {opened}/patchit.json")
        folder = opened
    else:
        results = opened.train()
        folder = opened.run.path
        key = f"eval_{opened.task.primary_metric}"
        if key in results:
            say(
                f"{folder}: validation {short_name(opened.task.primary_metric)} {results[key]:.1%} "
                f"(step {results['step']} of {opened.max_steps})"
            )
        opened.accelerator.end_training()
    say(f'load it: patchit_hf.FinetunedModel.from_pretrained("{folder}")')
    if args.push_to_hub and first:
        from patchit_hf.publish.hub import push_folder

        url = push_folder(
            str(folder),
            args.hub_model_id or "",
            private=args.hub_private_repo,
            revision=args.hub_revision,
        )
        say(f"pushed: {url}")
    return 0


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


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input is one line on stderr and exit code 2."""
    return guarded(run, argv)


if __name__ == "__main__":
    sys.exit(main())
