"""Pretrain a timm backbone on person crops: ``patchit pretrain``."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.common import cli
from patchit_hf.common.arguments import stated
from patchit_hf.common.config import are_args_of
from patchit_hf.common.console import as_command, say, say_then
from patchit_hf.common.errors import InputError
from patchit_hf.common.layout import DONE_FILE
from patchit_hf.data.choices import parse_canvas
from patchit_hf.models.names import check_backbone, check_init
from patchit_hf.patch_tasks import canonical_name
from patchit_hf.pretrain.arguments import (
    RECIPES,
    PretrainArguments,
    TrainingArguments,
    default_folder,
    recipe_for,
)
from patchit_hf.training.run_folder import finished_record

if TYPE_CHECKING:
    from patchit_hf.data.source import Crops
    from patchit_hf.models.patch_task_model import PatchTaskModel
    from patchit_hf.patch_tasks.base import PatchTask
    from patchit_hf.training.run_folder import RunFolder

DESCRIPTION = """\
Pretrain a timm backbone on unlabelled person crops with a patch task.

  patchit pretrain --backbone resnet18
  patchit pretrain --backbone resnet18 --dataset FOLDER_OR_HUB_ID
  patchit pretrain --backbone resnet18 --dataset ... --dry-run
  patchit pretrain --backbone resnet18 --init timm --dataset ...
  accelerate launch --num_processes 4 -m patchit_hf.pretrain --backbone resnet18

The same command continues an interrupted run."""
ARGUMENTS = (PretrainArguments, TrainingArguments)
PROG = "patchit pretrain"
DEFAULT_DATA = "people"


def run(argv: list[str] | None = None) -> int:
    """Pretrain as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    what, args = cli.parse(
        DESCRIPTION, argv, *ARGUMENTS, prog=PROG, recipes=RECIPES, recipe_for=recipe_for
    )
    check_backbone(what.backbone)
    check_init(what.init)
    if folder := _finished(what, args):
        return _say_finished(folder)
    from patchit_hf.common.progress import Progress

    with Progress("importing torch"):
        from patchit_hf.pretrain.dry_run import dry_run
    with Progress("building the network"):
        model, task, args, info, run_folder = _build(what, args)
    first = os.environ.get("RANK", "0") == "0"
    if run_folder.finished and not what.dry_run:
        _say_finished(str(args.output_dir))
        if args.push_to_hub and first:
            from patchit_hf.publish.run import push_finished

            push_finished(args, run_folder.path, include_people=args.hub_include_people)
        return 0
    if args.push_to_hub and first:
        from patchit_hf.publish.access import check_push

        check_push(args.hub_model_id or "", private=args.hub_private_repo)
    with Progress("opening the crops"):
        crops = _open(what, args)
    info |= {"split": crops.split, "held_out_from": crops.held_out_from, **crops.meta}
    if what.dry_run:
        summary = dry_run(model, args, task, crops.train, crops.held_out, info)
        for line in summary.lines():
            say(line)
        return 0 if summary.works else 1
    return _train(what, args, model, task, crops, info, run_folder)


def _build(
    what: PretrainArguments, args: TrainingArguments
) -> tuple[PatchTaskModel, PatchTask, TrainingArguments, dict[str, Any], RunFolder]:
    """Return model, task, settled arguments, what is known of the data, and the run's folder."""
    from patchit_hf.models.build import build_model
    from patchit_hf.patch_tasks import create_task
    from patchit_hf.pretrain.record import default_output_dir, run_config
    from patchit_hf.training.run_folder import RunFolder

    try:
        task = create_task(what.task, parse_canvas(what.canvas), **what.task_kwargs)
    except InputError as error:
        if what.recipe is None:
            raise
        hint = f"--init takes the recipe {what.recipe} unless you give --task"
        raise InputError(f"{error} ({hint})") from None
    model = build_model(what.named_backbone, task, args.seed, what.backbone_kwargs, init=what.init)
    args = args.settled(random=model.origin is None)
    name = what.dataset or DEFAULT_DATA
    info = {"name": name, "split": what.split, "streaming": what.streaming}
    folder = args.output_dir or default_output_dir(model, task, name, what.recipe)
    args = dataclasses.replace(args, output_dir=folder)
    config = run_config(model, task, args, info)
    return model, task, args, info, RunFolder(folder, config, stated(what, args), PROG, args.change)


def _open(what: PretrainArguments, args: TrainingArguments) -> Crops:
    from patchit_hf.data.source import load_crops

    return load_crops(
        what.dataset,
        split=what.split,
        image_column=args.image_column,
        streaming=what.streaming,
        allow_urls=args.allow_urls,
    )


def _train(
    what: PretrainArguments,
    args: TrainingArguments,
    model: PatchTaskModel,
    task: PatchTask,
    crops: Crops,
    info: dict[str, Any],
    run_folder: RunFolder,
) -> int:
    from patchit_hf.common.progress import Progress
    from patchit_hf.pretrain.trainer import PatchTaskTrainer

    with Progress("preparing the training"):
        trainer = PatchTaskTrainer(
            model,
            args,
            task,
            crops.train,
            crops.held_out,
            data_info=info,
            run=run_folder,
            files=crops.files,
        )
    try:
        trainer.train()
    finally:
        if run_folder.finished:  # even if the push failed afterwards
            beside = trainer.task.beside
            _report(str(args.output_dir), what.dataset, trainer.results(), beside=beside)
        run_folder.release()
    trainer.accelerator.end_training()
    return 0


def _finished(what: PretrainArguments, args: TrainingArguments) -> str | None:
    """Return the folder of a finished run of the very same arguments, found without torch.

    None where that takes a closer look: other weights may lie where the initial ones were.
    """
    random, backbone = what.init == "random", what.named_backbone
    weights_stay = random or what.init.partition(":")[0] == "timm"
    if what.dry_run or args.push_to_hub or not weights_stay or backbone is None:
        return None
    task = what.recipe or canonical_name(what.task)
    folder = args.output_dir or default_folder(
        backbone, task, what.dataset or DEFAULT_DATA, what.init
    )
    settled = dataclasses.replace(args.settled(random=random), output_dir=folder)
    same = are_args_of(Path(folder), stated(what, settled), PROG)
    return folder if same and finished_record(Path(folder)) else None


def _say_finished(folder: str) -> int:
    say(f"{folder}: this run is finished; its results are in {folder}/{DONE_FILE}")
    return 0


def _report(
    folder: str, dataset: str | None, results: dict[str, Any], *, beside: bool = False
) -> None:
    if beside and "eval_retrieval_accuracy" in results:
        found = results["eval_retrieval_accuracy"]
        say(f"{folder}: of the held-out crops' parts, {found:.1%} find their own person")
    elif "eval_accuracy" in results:
        say(
            f"{folder}: held-out accuracy {results['eval_accuracy']:.1%}, "
            f"{results['eval_accuracy'] / results['chance']:.1f} times chance "
            f"({results['chance']:.1%})"
        )
    say(f'load it: timm.create_model("local-dir:{folder}", pretrained=True)')
    if dataset is None:  # the rendered people have labels
        say_then("finetune", "--init", folder)


main = as_command(run)
