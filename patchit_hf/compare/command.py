"""Compare initial weights on your labels: ``python -m patchit_hf.compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from patchit_hf.common import cli
from patchit_hf.common.console import guarded, say
from patchit_hf.common.errors import InputError
from patchit_hf.compare.arguments import CompareArguments
from patchit_hf.finetune.arguments import FinetuneArguments, FinetuningArguments

DESCRIPTION = """\
Finetune from several initial weights with the same budget, order and augmentation, and compare.

  python -m patchit_hf.compare --task attributes --dataset ... --backbone resnet18 \\
      --init random --init timm --init runs/mine --fractions 0.05 0.2 1 --seeds 3

Each contender's learning rate is chosen on validation, from the same grid. Each chosen run uses the
test split once. The same command continues an interrupted comparison; finished runs are not
repeated."""


def run(argv: list[str] | None = None) -> int:
    """Compare as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    what, args = cli.parse(
        DESCRIPTION, argv, CompareArguments, FinetuningArguments, prog="patchit_hf.compare"
    )
    from patchit_hf.common.provenance import command, versions
    from patchit_hf.compare.cells import compare
    from patchit_hf.compare.table import table, write_results
    from patchit_hf.figures.label_efficiency import label_efficiency

    plan = make_plan(what, args)
    test = plan.test()[1]  # now, so that a wrong name is reported before hours of training
    result = compare(plan)
    head = {
        "task": what.task,
        "dataset": what.dataset or "people",
        "test": test,
        "backbone": what.backbone,
        "command": command(),
        "versions": versions(),
    }
    write_results(plan.folder, result, head)
    figure = label_efficiency(result)
    if figure is not None:
        figure.savefig(plan.folder / "label_efficiency.png")
    sys.stdout.write(table(result))
    say(f"{plan.folder}: compare.json, compare.md" + (", label_efficiency.png" if figure else ""))
    return 0


def make_plan(what: CompareArguments, args: FinetuningArguments) -> Any:
    """Check the arguments and return the plan.

    Raises:
        InputError: for contenders or numbers that are not possible.
    """
    from patchit_hf.compare.cells import Plan
    from patchit_hf.evaluate.scores import open_judged
    from patchit_hf.finetune.labelled import check_subset

    contenders = named(what.init)
    if len(contenders) < 2:
        raise InputError(f"--init {what.init}: name at least two, such as --init random --init ...")
    if what.seeds < 1:
        raise InputError(f"--seeds {what.seeds}: must be at least 1")
    for flag, values in (("--fractions", what.fractions), ("--select-at", [what.select_at])):
        for value in values:
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{flag} {value}: must be above 0 and at most 1")
    parts = [value for value in (*what.fractions, what.select_at) if value and value < 1]
    check_subset(min(parts, default=None), None, what.subset_seed)
    for rate in what.learning_rates:
        if not rate > 0:
            raise InputError(f"--learning-rates {rate}: must be above 0")
    if args.push_to_hub:
        raise InputError(
            "--push-to-hub: not possible in a comparison; push its best run: "
            "python -m patchit_hf.publish.hub"
        )
    reference = what.reference
    if reference is not None and reference not in contenders:
        raise InputError(f"--reference {reference!r}: must be one of {', '.join(contenders)}")
    if reference is None:
        reference = next((n for n, s in contenders.items() if s.startswith("timm")), None)
    data = Path(what.dataset).name if what.dataset else "people"
    folder = Path(args.output_dir or Path("runs") / f"compare-{what.task}-{data}")
    finetuning = FinetuneArguments(
        task=what.task,
        task_kwargs=what.task_kwargs,
        backbone=what.backbone,
        dataset=what.dataset,
        split=what.split,
        input_size=what.input_size,
        subset_seed=what.subset_seed,
    )
    return Plan(
        finetuning,
        args,
        contenders,
        what.fractions,
        [args.seed + i for i in range(what.seeds)],
        what.learning_rates,
        what.select_at or max(what.fractions),
        reference,
        folder,
        lambda: open_judged(what.test_dataset or what.dataset, what.test_split, args.image_column),
        what.bootstrap,
    )


def named(inits: list[str]) -> dict[str, str]:
    """Return sources by name: ``NAME=SOURCE``, or the source's own name.

    Raises:
        InputError: if two have the same name.

    Example:
        >>> named(["random", "mine=runs/position"])
        {'random': 'random', 'mine': 'runs/position'}
    """
    found: dict[str, str] = {}
    for text in inits:
        name, equals, source = text.partition("=")
        source = source if equals else text
        if not equals:
            path = Path(text)
            name = path.stem if text.endswith(".safetensors") else path.name or text
        if name in found:
            raise InputError(f"--init {text!r}: two are named {name!r}; write NAME=SOURCE")
        found[name] = source
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input is one line on stderr and exit code 2."""
    return guarded(run, argv)
